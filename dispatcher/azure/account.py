"""The AciAccount port on Azure Resource Manager: looks by itself, and hands over what it has at once.

Decides when to look and which groups to read one by one: a list shows no times, so those of whom they are wanted are
asked for by name. No caller waits for Azure. What could not be read stays as it was, and says how old it is. Knows
nothing of pods, money or what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from dispatcher.azure.arm import NotThere, Refused, ResourceManager, Throttled
from dispatcher.azure.config import AccountConfig, Token
from dispatcher.azure.reading import group_listed, group_read, quotas
from dispatcher.core.observations import AccountSeen, GroupSeen, Quota
from dispatcher.errors import LookFailed

if TYPE_CHECKING:
    from dispatcher.ports import AciAccount

log = structlog.get_logger(__name__)

Now = Callable[[], datetime]
_REMEDY = (
    "grant the identity the role Reader on the resource group (for quotas on the subscription), or take the section "
    "azure out"
)
_QUOTAS_AGAIN = timedelta(minutes=10)
"""How soon quotas are asked for again that nobody gives us."""


def _nobody_listens() -> None:
    return None


class ContainerGroups:
    """The container groups of our Jobs' pods. ``start`` before use, then ``stop``.

    ``now`` is the dispatcher's clock; ``on_news`` is called when a look has brought something new.
    """

    def __init__(
        self, config: AccountConfig, token: Token, now: Now, on_news: Callable[[], None] = _nobody_listens
    ) -> None:
        self._config = config
        self._arm = ResourceManager(config, token)
        self._now = now
        self._on_news = on_news
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wanted: frozenset[str] = frozenset()
        self._seen: AccountSeen | None = None
        self._listed_at: datetime | None = None
        self._quotas_at: datetime | None = None
        self._quotas: tuple[Quota, Quota] | None = None
        self._fault: str | None = None
        self._quota_fault: str | None = None
        self._failures = 0

    async def start(self) -> None:
        """Begins to look."""
        await self._arm.__aenter__()
        self._task = asyncio.create_task(self._run(), name="container groups")

    async def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._arm.__aexit__()

    def faults(self) -> Iterator[str]:
        """What cannot be read now, a line each. Charges are upper bounds then, and the configured quotas count."""
        if self._fault is not None:
            yield self._fault
        if self._quota_fault is not None:
            yield self._quota_fault

    async def look(self, wanted: Collection[str]) -> AccountSeen:
        """What was seen so far; the times of those wanted follow. Raises LookFailed while nothing was seen."""
        self._wanted = frozenset(wanted)
        if self._task is not None and self._task.done():
            raise LookFailed("the reader of container groups has broken down")
        if self._unread():
            self._bell.set()
        if self._seen is None:
            raise LookFailed(self._fault or "container groups have not been listed yet")
        return self._seen

    def _unread(self) -> set[str]:
        """Those wanted whose end is not known."""
        known = self._seen.groups if self._seen is not None else {}
        return {uid for uid in self._wanted if uid not in known or known[uid].stopped_at is None}

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                pause = await self._look()
            except Throttled as throttled:
                pause = self._failed(throttled, timedelta(seconds=throttled.after_s))
            except LookFailed as failure:
                doubled = timedelta(seconds=min(2**self._failures, self._config.backoff_max.total_seconds()))
                pause = self._failed(failure, doubled)
            else:
                self._fault, self._failures = None, 0
            await asyncio.sleep(pause.total_seconds())
            try:
                async with asyncio.timeout((self._config.look_every - pause).total_seconds()):
                    await self._bell.wait()
            except TimeoutError:
                pass  # nobody has rung: it is time all the same
            self._bell.clear()

    def _failed(self, failure: LookFailed, pause: timedelta) -> timedelta:
        self._failures = min(self._failures + 1, 10)
        remedy = f"; {_REMEDY}" if isinstance(failure, (Refused, NotThere)) else ""
        told = f"container groups cannot be read: {failure}{remedy}"
        if told != self._fault:
            log.warning("account.not_read", error=str(failure))
        self._fault = told
        return pause

    async def _look(self) -> timedelta:
        """One look at what is due. Raises LookFailed where the list did not come whole."""
        before, started = self._seen, self._now()
        groups, as_of = await self._listed(started)
        groups = await self._read_wanted(groups)
        await self._ask_quotas(started)
        group_quota, core_quota = self._quotas or (None, None)
        self._seen = AccountSeen(as_of, groups, group_quota, core_quota)
        if self._seen != before:
            self._on_news()
        return self._config.pause_min

    async def _listed(self, now: datetime) -> tuple[dict[str, GroupSeen], datetime]:
        """The groups that there are, with what was read of each before; and as of when."""
        seen, config = self._seen, self._config
        if seen is not None and self._listed_at is not None:
            missing = not self._wanted <= seen.groups.keys()
            due = self._listed_at + (config.list_again_after if missing else config.look_every)
            if now < due:
                return dict(seen.groups), seen.as_of
        entries = await self._arm.pages(config.groups_path)
        self._listed_at = now
        known: Mapping[str, GroupSeen] = seen.groups if seen is not None else {}
        groups: dict[str, GroupSeen] = {}
        for raw in entries:
            listed = group_listed(raw, config.namespaces)
            if listed is not None:
                groups[listed.pod_uid] = known.get(listed.pod_uid, listed)
        for uid in self._wanted & known.keys() - groups.keys():
            if known[uid].stopped_at is not None:  # its times were read in time
                groups[uid] = replace(known[uid], gone=True)
        return groups, now

    async def _read_wanted(self, groups: dict[str, GroupSeen]) -> dict[str, GroupSeen]:
        """One by one, side by side. One that cannot be read stays as it was; one that is gone is taken out."""
        wanted = [
            each for uid, each in groups.items() if uid in self._wanted and each.stopped_at is None and not each.gone
        ]
        answers = await asyncio.gather(*(self._read_one(each) for each in wanted))
        for before, after in zip(wanted, answers, strict=True):
            if after is None:
                del groups[before.pod_uid]
            else:
                groups[before.pod_uid] = after
        return groups

    async def _read_one(self, group: GroupSeen) -> GroupSeen | None:
        read_at = self._now()
        try:
            raw = await self._arm.get(f"{self._config.groups_path}/{group.name}")
        except NotThere:
            return None
        except LookFailed as failure:
            log.info("group.not_read", group=group.name, error=str(failure))
            return group
        made_anew = (raw.get("tags") or {}).get("UID") != group.pod_uid
        return None if made_anew else group_read(raw, group, read_at)

    async def _ask_quotas(self, now: datetime) -> None:
        path = self._config.usages_path
        again = self._config.quotas_every if self._quota_fault is None else _QUOTAS_AGAIN
        if path is None or (self._quotas_at is not None and now < self._quotas_at + again):
            return
        self._quotas_at = now
        try:
            self._quotas = quotas(await self._arm.pages(path))
        except LookFailed as failure:
            remedy = f"; {_REMEDY}" if isinstance(failure, (Refused, NotThere)) else ""
            told = f"quotas cannot be read, those of virtual_node count: {failure}{remedy}"
            if told != self._quota_fault:
                log.warning("quotas.not_read", error=str(failure))
            self._quota_fault, self._quotas = told, None
        else:
            self._quota_fault = None


if TYPE_CHECKING:

    def _is_an_aci_account(account: ContainerGroups) -> AciAccount:
        return account
