"""What must hold in every history of a burst, whoever was killed in it and whatever the API server answered.

Pure. Reads raw Kubernetes objects and the broker's own counts, and imports nothing of the dispatcher, so that a mistake
of its cannot hide itself. The history is replayed version by version; laws about moments are looked at after each.

lost             every message was removed for good or dead-lettered, once, and none is left
deserved         dead-lettered is what had to be, and nothing else; what was removed has a pod that succeeded
one live Job     no item is in two Jobs that can both still start it, or run it; none starts again once it succeeded
ruled once       a ruling that stands in a record is never changed
admission        no version of the ledger has more spent and reserved than the limit
cover            what pods have cost so far never exceeds what is spent and reserved; at the end, what is spent
addresses        no more pods on the virtual node than its subnet has addresses
nothing left     no Job, pod, record, or entry of the ledger; but for attempts that are closing, where that is awaited
                 no longer: a create of a leader that died may land for a minute and a half, and until then what it
                 would collide with stays
no alarms        nothing that the dispatcher itself calls alarming, and no cycle that broke off
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

Raw = Mapping[str, Any]


class Version(Protocol):
    """One object as it stood from one revision on."""

    @property
    def kind(self) -> str:
        """jobs, pods or configmaps."""
        ...

    @property
    def gone(self) -> bool:
        """It was deleted then."""
        ...

    @property
    def object(self) -> Raw:
        """How it stood."""
        ...


_PREFIX = "burst-dispatcher.io/"
_JOB_LABEL = f"{_PREFIX}job"
_INDEX = "batch.kubernetes.io/job-completion-index"
_OVER = ("Complete", "Failed")
_ENDING = ("FailureTarget", "SuccessCriteriaMet")
_ENDED = ("Succeeded", "Failed")
_PICOS = 10**12


@dataclass(frozen=True)
class Terms:
    """What was agreed before the run."""

    sent: frozenset[str]
    must_die: frozenset[str]
    rate_usd: Decimal
    limit_usd: Decimal
    addresses: int
    ledger_name: str
    may_be_closing: bool = False
    """Attempts whose items are settled and whose money is may still be there."""


@dataclass(frozen=True)
class AtBroker:
    """What the broker says at the end."""

    entered: int
    removed: int
    buried: int
    left: int
    dead_letters: Sequence[str]
    """Message ids in the dead-letter queue."""


@dataclass
class Findings:
    """What was seen; ``broken`` is empty where everything held."""

    broken: list[str] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs by placement."""
    next_attempts: int = 0
    """Jobs that were not the first of their batch."""
    bill_usd: Decimal = Decimal(0)
    spent_usd: Decimal = Decimal(0)

    def blame(self, law: str, text: str) -> None:
        """Notes a breach, each once."""
        line = f"{law}: {text}"
        if line not in self.broken:
            self.broken.append(line)


def judge(history: Iterable[Version], terms: Terms, broker: AtBroker, told: Sequence[str] = ()) -> Findings:
    """Replays the history and looks at the broker. ``told``: alarms, in words."""
    findings = Findings()
    replay = _Replay(terms, findings)
    for version in history:
        replay.take(version)
    replay.at_the_end()
    _at_broker(terms, broker, replay.succeeded, findings)
    for text in told:
        findings.blame("no alarms", text)
    return findings


def _at_broker(terms: Terms, broker: AtBroker, succeeded: Mapping[str, int], findings: Findings) -> None:
    if broker.entered != len(terms.sent):
        findings.blame("lost", f"{len(terms.sent)} were sent, {broker.entered} entered the queue")
    if broker.left or broker.removed + broker.buried != broker.entered:
        findings.blame(
            "lost",
            f"of {broker.entered}: {broker.removed} removed, {broker.buried} dead-lettered, {broker.left} left",
        )
    dead = Counter(broker.dead_letters)
    for item, times in dead.items():
        if times > 1:
            findings.blame("lost", f"{item} is in the dead-letter queue {times} times")
    for item in sorted(dead.keys() - terms.must_die):
        findings.blame("deserved", f"{item} was dead-lettered")
    for item in sorted(terms.must_die - dead.keys()):
        findings.blame("deserved", f"{item} was not dead-lettered")
    for item in sorted(terms.sent - terms.must_die - dead.keys()):
        if not succeeded.get(item):
            findings.blame("deserved", f"{item} was removed, and no pod of it ever succeeded")


class _Replay:
    def __init__(self, terms: Terms, findings: Findings) -> None:
        self._terms = terms
        self._findings = findings
        self._jobs: dict[str, Raw] = {}
        self._pods: dict[str, Raw] = {}
        self._records: dict[str, Raw] = {}
        self._items: dict[str, dict[int, str]] = {}
        """By Job's name: who is at which index. Records that are gone are remembered."""
        self._ended: dict[str, dict[int, str]] = defaultdict(dict)
        """By Job's name: how the last pod of an index ended."""
        self._ledger: Raw = {"accounts": {}, "entries": {}}
        self._entries: dict[str, Raw] = {}
        self._bills: dict[str, Decimal] = {}
        self.succeeded: Counter[str] = Counter()
        """How many pods of each item succeeded."""
        self._counted: set[str] = set()

    def take(self, version: Version) -> None:
        """The next version."""
        raw, name = version.object, version.object["metadata"]["name"]
        if version.kind == "configmaps" and name == self._terms.ledger_name:
            if not version.gone:
                self._written(json.loads(raw["data"]["ledger.json"]))
            return
        if not name.startswith("burst-"):
            return
        if version.kind == "configmaps":
            self._record(name, raw, gone=version.gone)
        elif version.kind == "jobs":
            self._job(name, raw, gone=version.gone)
        else:
            self._pod(raw, gone=version.gone)
        self._one_live_job()

    # --- what happened ------------------------------------------------------------------------------------------------

    def _record(self, name: str, raw: Raw, *, gone: bool) -> None:
        before = self._records.get(name)
        if before is not None:
            ruled = json.loads(before["metadata"]["annotations"][f"{_PREFIX}rulings"])
            rules = json.loads(raw["metadata"]["annotations"][f"{_PREFIX}rulings"])
            for index, ruling in ruled.items():
                if rules.get(index) != ruling:
                    now = rules[index][0] if index in rules else "nothing"
                    self._findings.blame("ruled once", f"{name} position {index}: {ruling[0]}, then {now}")
        if gone:
            self._records.pop(name, None)
            return
        self._records[name] = raw
        self._items[name] = {int(key.split(".")[0]): json.loads(text)["id"] for key, text in raw["data"].items()}

    def _job(self, name: str, raw: Raw, *, gone: bool) -> None:
        if gone:
            self._jobs.pop(name, None)
            return
        before = self._jobs.get(name)
        self._jobs[name] = raw
        if before is None:
            self._findings.jobs[raw["metadata"]["annotations"].get(f"{_PREFIX}placement", "")] += 1
            self._findings.next_attempts += not name.endswith("-1")
            if name not in self._items:
                self._findings.blame("one live Job", f"{name} was created before any record of it")
            for item in self._items.get(name, {}).values():
                if self.succeeded[item]:
                    self._findings.blame("one live Job", f"{name} was created for {item}, which had succeeded before")

    def _pod(self, raw: Raw, *, gone: bool) -> None:
        metadata, status = raw["metadata"], raw.get("status") or {}
        uid, job, phase = metadata["uid"], metadata["labels"].get(_JOB_LABEL), status.get("phase")
        if job is None:
            return
        index = int(metadata["annotations"][_INDEX])
        if phase in _ENDED:
            self._ended[job][index] = phase
            if uid not in self._counted:
                self._counted.add(uid)
                self._end_of(raw, job, index)
        if gone:
            self._pods.pop(uid, None)
            return
        self._pods[uid] = raw
        on_virtual_node = sum(1 for pod in self._pods.values() if _is_paid(pod))
        if on_virtual_node > self._terms.addresses:
            self._findings.blame("addresses", f"{on_virtual_node} pods at once, {self._terms.addresses} addresses")

    def _end_of(self, raw: Raw, job: str, index: int) -> None:
        item = self._items.get(job, {}).get(index)
        if raw["status"]["phase"] == "Succeeded" and item is not None:
            self.succeeded[item] += 1
            if self.succeeded[item] > 1:
                self._findings.blame("one live Job", f"{item} has succeeded {self.succeeded[item]} times")
        if _is_paid(raw):
            self._bills[raw["metadata"]["uid"]] = self._terms.rate_usd * _seconds(raw)
            self._findings.bill_usd = sum(self._bills.values(), Decimal(0))
            self._cover()

    def _written(self, document: Raw) -> None:
        self._ledger, self._entries = document, dict(document["entries"])
        reserved = _reserved(document)
        for name, account in document["accounts"].items():
            total = Decimal(account["spent"] + reserved[name]) / _PICOS
            if total > self._terms.limit_usd:
                self._findings.blame("admission", f"{name} has {total} spent and reserved of {self._terms.limit_usd}")
        self._cover()

    # --- the laws of every moment -------------------------------------------------------------------------------------

    def _cover(self) -> None:
        spent = sum(account["spent"] for account in self._ledger["accounts"].values())
        covered = Decimal(spent + sum(_reserved(self._ledger).values())) / _PICOS
        if self._findings.bill_usd > covered:
            self._findings.blame("cover", f"{self._findings.bill_usd} billed, {covered} spent and reserved")

    def _one_live_job(self) -> None:
        if len(self._jobs) < 2:
            return
        live: dict[str, str] = {}
        for name, job in self._jobs.items():
            for item in self._live(name, job):
                if item in live:
                    self._findings.blame("one live Job", f"{item} is live in {live[item]} and in {name}")
                live[item] = name

    def _live(self, name: str, job: Raw) -> Iterator[str]:
        items, status = self._items.get(name, {}), job.get("status") or {}
        conditions = {each["type"] for each in status.get("conditions") or () if each["status"] == "True"}
        if conditions & {*_OVER}:
            return
        powerful = name in self._records
        indexes = {
            int(pod["metadata"]["annotations"][_INDEX])
            for pod in self._pods.values()
            if pod["metadata"]["labels"].get(_JOB_LABEL) == name and _runs_or_will(pod, powerful=powerful)
        }
        if powerful and "deletionTimestamp" not in job["metadata"] and not conditions & {*_ENDING}:
            over = _indexes(status.get("completedIndexes")) | _indexes(status.get("failedIndexes"))
            last = {
                index
                for index, phase in self._ended[name].items()
                if phase == "Succeeded" or not job["spec"].get("backoffLimitPerIndex")
            }
            indexes |= set(items) - over - last
        yield from (items[index] for index in indexes if index in items)

    # --- the end ------------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """What must be so when everything is over."""
        if self._terms.may_be_closing:
            self._without_closing()
        for kind, left in (("Jobs", self._jobs), ("pods", self._pods), ("records", self._records)):
            if left:
                names = sorted(raw["metadata"]["name"] for raw in left.values())
                self._findings.blame("nothing left", f"{kind} {', '.join(names)}")
        for name in sorted(self._entries):
            self._findings.blame("nothing left", f"entry {name}")
        spent = sum(account["spent"] for account in self._ledger["accounts"].values())
        self._findings.spent_usd = Decimal(spent) / _PICOS
        if self._findings.spent_usd < self._findings.bill_usd:
            self._findings.blame("cover", f"{self._findings.bill_usd} billed, {self._findings.spent_usd} spent in all")

    def _without_closing(self) -> None:
        for name in [name for name, entry in self._entries.items() if is_closing(entry)]:
            del self._entries[name]
            self._records.pop(name, None)
            self._jobs.pop(name, None)
            for uid, pod in list(self._pods.items()):
                if pod["metadata"]["labels"].get(_JOB_LABEL) == name and pod["status"].get("phase") in _ENDED:
                    del self._pods[uid]


def is_closing(entry: Raw) -> bool:
    """Whether an entry of the ledger claims nothing any more and has its money settled, if any."""
    return entry["state"] == "closing" and bool(entry["moneySettled"] or entry["placement"] == "node_pool")


def _is_paid(pod: Raw) -> bool:
    return (pod["spec"].get("nodeSelector") or {}).get("type") == "virtual-kubelet"


def _runs_or_will(pod: Raw, *, powerful: bool) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return "deletionTimestamp" not in pod["metadata"] and (phase == "Running" or (phase == "Pending" and powerful))


def _seconds(pod: Raw) -> Decimal:
    """From the first container's start to the last one's end: what the group is billed for."""
    ended = [
        state["terminated"]
        for container in pod["status"].get("containerStatuses") or ()
        if (state := container.get("state") or {}).get("terminated")
    ]
    starts = [datetime.fromisoformat(each["startedAt"]) for each in ended if each.get("startedAt")]
    ends = [datetime.fromisoformat(each["finishedAt"]) for each in ended if each.get("finishedAt")]
    return Decimal((max(ends) - min(starts)).total_seconds()) if starts and ends else Decimal(0)


def _reserved(document: Raw) -> Counter[str]:
    totals: Counter[str] = Counter()
    for entry in document["entries"].values():
        totals.update(entry["reserved"])
    return totals


def _indexes(text: str | None) -> set[int]:
    found: set[int] = set()
    for part in (text or "").split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found
