"""The Lease of the embedded default: one object that says who leads, until when, and which process that is.

Decides when a lease is free: it ran out, or the process that holds it is no more (all are on this machine, so that is
seen at once). Knows nothing of what leading means; the ledger's version is the fence.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from dispatcher.core.units import from_text, to_text
from dispatcher.embedded.identity import ProcessIdentity
from dispatcher.embedded.objects import ObjectStore, StoredObject, StoreWriteFailed, Transaction
from dispatcher.errors import OutcomeUnknown

if TYPE_CHECKING:
    from dispatcher.ports import Clock, Lease

log = structlog.get_logger(__name__)

_KIND = "lease"


class EmbeddedLease:
    """One contender for the lease of that name."""

    def __init__(
        self, objects: ObjectStore, clock: Clock, *, lasts: timedelta = timedelta(seconds=15), name: str = "leader"
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._lasts = lasts
        self._name = name
        self._contender = str(uuid.uuid4())
        self._held_until: datetime | None = None

    async def acquire(self) -> bool:
        """Takes or renews the lease; whether we hold it now. A write that fails leaves what was held as it was."""
        me = ProcessIdentity.mine()
        now = self._clock.now()
        until = now + self._lasts
        if self._held_until is not None and until - self._held_until < self._lasts / 3 and now < self._held_until:
            return True  # renewed a moment ago: a write for every look would be on the path of each item

        def take(seen: Transaction) -> bool:
            stored = seen.get(_KIND, self._name)
            if stored is not None and not self._is_free(stored, now):
                return False
            body = {"contender": self._contender, "until": to_text(until),
                    "pid": me.pid, "start": me.start, "boot": me.boot}  # fmt: skip
            if stored is None:
                seen.add(_KIND, self._name, body)
            else:
                seen.change(stored, body=body)
            return True

        try:
            self._held_until = until if await self._objects.write(take) else None
        except (StoreWriteFailed, OutcomeUnknown) as error:
            log.warning("lease.not_renewed", error=str(error))
        return self._held_until is not None and now < self._held_until

    async def release(self) -> None:
        """Gives the lease up if it is ours; one that cannot be given up ends with this process or by itself."""
        self._held_until = None

        def give_up(seen: Transaction) -> None:
            stored = seen.get(_KIND, self._name)
            if stored is not None and stored.body["contender"] == self._contender:
                seen.remove(_KIND, self._name)

        try:
            await self._objects.write(give_up)
        except (StoreWriteFailed, OutcomeUnknown) as error:
            log.warning("lease.not_released", error=str(error))

    def _is_free(self, stored: StoredObject, now: datetime) -> bool:
        body = stored.body
        if body["contender"] == self._contender or from_text(body["until"]) <= now:
            return True
        return not ProcessIdentity(body["pid"], body["start"], body["boot"]).lives()


if TYPE_CHECKING:

    def _is_a_lease(lease: EmbeddedLease) -> Lease:
        return lease
