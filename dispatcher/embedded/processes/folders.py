"""A pod's folder: its items, its log, and the notes that its wrapper leaves there.

Decides what stands where. Knows nothing of what the notes lead to. A note is a symbolic link whose target is its
text, because making one is atomic and fails if it is there: the first writer counts, whoever that is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dispatcher.core.units import UTC
from dispatcher.embedded.identity import ProcessIdentity

OUTCOME = "outcome"
_FORBIDDEN = "nobody"


@dataclass(frozen=True, slots=True)
class Claim:
    """Who runs a pod, or that nobody ever will under this claim."""

    process: ProcessIdentity | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pod's process ended, as its wrapper wrote down."""

    code: int
    stopped: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class PodFolder:
    """One pod's folder."""

    path: Path

    @property
    def items(self) -> Path:
        """Where the record's data lie, a file for each key."""
        return self.path / "items"

    @property
    def log(self) -> Path:
        """What the worker says, on both of its outputs."""
        return self.path / "log"

    def lay_out(self, items: Mapping[str, str]) -> None:
        """Makes the folder with its items."""
        self.items.mkdir(parents=True, exist_ok=True)
        for name, text in items.items():
            (self.items / name).write_text(text)

    def claim_name(self, generation: int) -> str:
        """The note that decides who runs the pod, for one try of starting it."""
        return f"claim-{generation}"

    def claim(self, generation: int) -> Claim | None:
        """The claim as it was made; None if it was not."""
        note = self._note(self.claim_name(generation))
        if note is None:
            return None
        text, at = note
        if text == _FORBIDDEN:
            return Claim(None, at)
        pid, start, boot = text.split(" ")
        return Claim(ProcessIdentity(int(pid), start, boot), at)

    def claims(self) -> list[Claim]:
        """All claims that were made here, one for each try of starting the pod."""
        generations = sorted(int(path.name.partition("-")[2]) for path in self.path.glob("claim-*"))
        return [claim for generation in generations if (claim := self.claim(generation)) is not None]

    def forbid(self, generation: int) -> bool:
        """Makes the claim ourselves, so that no wrapper still on its way ever gets it; whether we were first."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            (self.path / self.claim_name(generation)).symlink_to(_FORBIDDEN)
        except FileExistsError:
            return False
        return True

    def outcome(self) -> Outcome | None:
        """How the process ended; None if nobody wrote it down."""
        note = self._note(OUTCOME)
        if note is None:
            return None
        code, how = note[0].split(" ")
        return Outcome(int(code), how == "stopped", note[1])

    def log_tail(self, bytes_max: int) -> str:
        """The end of the log, in whole characters; empty where there is none."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - bytes_max))
                return log.read(bytes_max).decode(errors="replace").lstrip("\N{REPLACEMENT CHARACTER}")
        except OSError:
            return ""

    def remove(self) -> None:
        """Removes it all. Raises OSError."""
        if self.path.exists():
            shutil.rmtree(self.path)

    def _note(self, name: str) -> tuple[str, datetime] | None:
        # The kernel stamps files with the time of its last tick, up to 10 ms before the clock that everybody reads.
        path = self.path / name
        try:
            return str(path.readlink()), datetime.fromtimestamp(path.lstat().st_mtime, UTC)
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class PodFolders:
    """The folder of all pods' folders."""

    path: Path

    def of(self, uid: str) -> PodFolder:
        """The folder of one pod."""
        return PodFolder(self.path / uid)

    def unknown(self, known: Iterable[str]) -> list[PodFolder]:
        """The folders of pods that are no more."""
        keep = set(known)
        return [PodFolder(path) for path in self.path.iterdir() if path.name not in keep]
