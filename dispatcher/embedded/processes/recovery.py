"""What became of a pod while no dispatcher lived, as its folder tells.

Decides whether its process is found again, has ended, or was never started. The claim settles it: a wrapper that is
still on its way and the dispatcher that recovers compete for the same name, and whoever loses does nothing, so that
there are never two processes of one pod. Knows nothing of Jobs.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime

import psutil

from dispatcher.core.units import UTC
from dispatcher.embedded.identity import ProcessIdentity, boot
from dispatcher.embedded.processes.folders import Claim, PodFolder
from dispatcher.embedded.processes.pods import Pod
from dispatcher.embedded.processes.processes import find_again, kill_strays, signal_group
from dispatcher.embedded.processes.turns import Ended, Fact, Started


@dataclass(frozen=True, slots=True)
class Recovered:
    """One pod's state: what is to be learned, and the process that runs still."""

    pod: Pod
    facts: tuple[Fact, ...] = ()
    process: ProcessIdentity | None = None
    start_again: bool = False
    """Nobody runs it and nobody will under the old claim: it needs a new one."""


def recover(pod: Pod, folder: PodFolder, now: datetime) -> Recovered:
    """Looks at one pod that was to run. Blocks, but not for long."""
    claim = folder.claim(pod.generation)
    if claim is None:
        if folder.forbid(pod.generation):
            return Recovered(pod, start_again=True)
        claim = folder.claim(pod.generation)
    if claim is None or claim.process is None:
        return Recovered(pod, start_again=True)
    started = Started(pod.uid, claim.at)
    process = find_again(folder, pod.generation)
    end = _end_of(pod, folder)  # after looking for the process: what is not running has written it, if it ever will
    if end is not None:
        return Recovered(pod, (started, end))
    if process is not None:
        return Recovered(pod, (started,), process)
    return Recovered(pod, (started, _vanished(pod, claim, now)))


def sweep(folder: PodFolder) -> None:
    """Removes what is left of a pod that the store does not know. Usually that is its folder only; if the store was
    replaced by hand its process may run still, and nobody would ever account for it.
    """
    for claim in folder.claims():
        if claim.process is not None:
            signal_group(claim.process, signal.SIGKILL)
    folder.remove()


def _end_of(pod: Pod, folder: PodFolder) -> Ended | None:
    outcome = folder.outcome()
    return None if outcome is None else Ended(pod.uid, outcome.at, outcome.code, outcome.stopped)


def _vanished(pod: Pod, claim: Claim, now: datetime) -> Ended:
    if claim.process is not None and claim.process.boot not in (boot(), "-"):
        up_again = datetime.fromtimestamp(psutil.boot_time(), UTC)
        return Ended(pod.uid, min(max(up_again, claim.at), now), None, disrupted=True)
    kill_strays(pod.uid)
    return Ended(pod.uid, now, None)
