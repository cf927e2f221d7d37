"""The embedded cluster in the object store: read once at the start, then written change by change.

Decides how jobs, pods and groups become objects. Knows nothing of what they mean. One process writes them, so that a
change is the difference between two worlds, in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dispatcher.embedded.ledger_store import RECORD_KIND
from dispatcher.embedded.objects import ObjectStore, Transaction
from dispatcher.embedded.processes.pods import (
    Job,
    Pod,
    group_from_json,
    group_to_json,
    job_from_json,
    job_to_json,
    pod_from_json,
    pod_to_json,
    rates_from_json,
    rates_to_json,
)
from dispatcher.embedded.processes.turns import World
from dispatcher.embedded.processes.virtual_node import Group, Meter
from dispatcher.errors import OutcomeUnknown

V = TypeVar("V")

_JOB, _POD, _GROUP, _METER = "job", "pod", "container-group", "virtual-node"
_RATES = "rates"


class Keeper:
    """Writes what changes between two worlds."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._certain = True

    async def load(self) -> World:
        """The world as it was last kept. Raises LookFailed."""
        return await self._store.read(_load)

    async def keep(self, old: World, new: World) -> None:
        """Makes the store hold ``new``. Raises StoreWriteFailed (it holds ``old``) or OutcomeUnknown (one of both)."""
        known = old if self._certain else World()
        certain = self._certain

        def write(seen: Transaction) -> None:
            if not certain:
                _forget_everything(seen)
            _write(seen, known, new)

        if known == new and certain:
            return
        try:
            await self._store.write(write)
        except (OutcomeUnknown, asyncio.CancelledError):
            self._certain = False  # the next write says everything anew
            raise
        self._certain = True

    async def records(self, names: frozenset[str]) -> frozenset[str]:
        """Which of these records exist. Raises LookFailed."""
        if not names:
            return names
        return await self._store.read(lambda seen: frozenset(n for n in names if seen.has(RECORD_KIND, n)))

    async def items(self, record: str) -> Mapping[str, str] | None:
        """A record's data; None if it is gone. Raises LookFailed."""
        stored = await self._store.read(lambda seen: seen.get(RECORD_KIND, record))
        return None if stored is None else stored.body["data"]


def _load(seen: Transaction) -> World:
    jobs = [job_from_json(stored.uid, stored.body) for stored in seen.all(_JOB)]
    pods = [pod_from_json(stored.uid, stored.body) for stored in seen.all(_POD)]
    groups: dict[str, Group] = {stored.uid: group_from_json(stored.uid, stored.body) for stored in seen.all(_GROUP)}
    rates = seen.get(_METER, _RATES)
    meter = Meter(groups) if rates is None else rates_from_json(rates.body, groups)
    return World({job.name: job for job in jobs}, {pod.uid: pod for pod in pods}, meter)


def _forget_everything(seen: Transaction) -> None:
    for kind in (_JOB, _POD, _GROUP, _METER):
        for stored in seen.all(kind):
            seen.remove(kind, stored.name)


def _write(seen: Transaction, old: World, new: World) -> None:
    def job_uid(_: str, job: Job) -> str:
        return job.uid

    _write_kind(seen, _JOB, old.jobs, new.jobs, job_to_json, job_uid)
    _write_kind(seen, _POD, old.pods, new.pods, pod_to_json, _own_name)
    _write_kind(seen, _GROUP, old.meter.groups, new.meter.groups, group_to_json, _own_name)
    if old.meter is not new.meter:
        seen.put(_METER, _RATES, rates_to_json(new.meter), uid=_RATES)


def _own_name(name: str, _: Pod | Group) -> str:
    return name


def _write_kind(
    seen: Transaction,
    kind: str,
    old: Mapping[str, V],
    new: Mapping[str, V],
    to_json: Callable[[V], Mapping[str, Any]],
    uid_of: Callable[[str, V], str],
) -> None:
    for name in old.keys() - new.keys():
        seen.remove(kind, name)
    for name, value in new.items():
        if old.get(name) != value:
            seen.put(kind, name, to_json(value), uid=uid_of(name, value))
