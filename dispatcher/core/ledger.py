"""The ledger: what is spent, what is set aside, and which addresses and creates every open attempt still holds.

Decides how accounts and entries change and that spent + reserved of an account never passes its limit. Knows nothing of
where the document is stored; it is written as a whole, by compare-and-swap, so a :class:`Draft` collects all changes of
a cycle and becomes the next :class:`Ledger` only once its write was accepted.

Addresses, groups and creates are reckoned from the entries: an attempt holds one address for every group that may still
come, one for every group that is there (finished and terminating ones too), and each for ``release_hold`` after its
group has gone. A create token is held while a group may come, and on until there is proof that it was asked for (its
pod is there before, and may be for long); from then on it counts for as long as the longer window.
Groups that were found without a pod stand beside the entries: they are charged to the accounts as they bill on, beyond
anything that was set aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from dispatcher.core.budgets import ANYONE, CLOCK_ERROR, Account, AccountId, Budget, Spender, TopUp, WorstCase, touched
from dispatcher.core.jobs import JobShape, attempt_name
from dispatcher.core.leaks import Leak
from dispatcher.core.pricing import cost_of
from dispatcher.core.units import NO_MONEY, UTC, Money, from_text, to_text, whole_seconds
from dispatcher.core.windows import Window
from dispatcher.core.work import Placement

FORMAT = 1
FIVE_MINUTES = timedelta(minutes=5)
ONE_HOUR = timedelta(hours=1)
_ACCOUNT_KEPT_AFTER = timedelta(hours=48)
_SMALL_CHANGE = 8
"""What a running attempt could give back is given back once it is more than this part of what it has set aside."""
_TOKEN_GRAIN = timedelta(seconds=5)
_GRAINS_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)


class NoRoom(Exception):
    """An entry was to be opened beyond an account's limit. Planning should have seen it: nothing is written."""


@dataclass(frozen=True, slots=True)
class PodNote:
    """What the ledger knows of one pod of a paid attempt, from first sight until it is charged and gone."""

    created_at: datetime
    ended_at: datetime | None = None
    charged: bool = False
    gone_at: datetime | None = None
    asked_for: bool = True
    """Its group is known to have been asked for: the create counts in its window."""

    def to_json(self) -> list[Any]:
        """Plain data, short: there is one for every pod."""
        ended = self.ended_at and to_text(self.ended_at)
        note = [to_text(self.created_at), ended, self.charged, self.gone_at and to_text(self.gone_at)]
        return note if self.asked_for else [*note, False]

    @classmethod
    def from_json(cls, data: list[Any]) -> PodNote:
        """Reads what :meth:`to_json` wrote."""
        created, ended, charged, gone, *asked_for = data
        return cls(from_text(created), ended and from_text(ended), charged, gone and from_text(gone), not asked_for)


class EntryState(StrEnum):
    """Where an attempt's entry is in its life."""

    OPEN = "open"
    CLOSING = "closing"
    """All its items are settled or carried on: it claims none any more; money and addresses stay."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One open attempt: its claim, the money it holds, the groups it can still make and those it made."""

    batch: str
    attempt: int
    task: str
    tenant: str
    placement: Placement
    items: int
    written: datetime
    """When this reservation was written; the Job's create is sent within LAUNCH_SEND of it."""
    epoch: int
    shape: JobShape
    rate: Money = NO_MONEY
    tail: timedelta = timedelta(0)
    cpu_millis: int = 0
    reserved: Mapping[AccountId, Money] = field(default_factory=dict)
    """What is left of what was set aside, by account."""
    spent: Money = NO_MONEY
    state: EntryState = EntryState.OPEN
    job_uid: str | None = None
    """None until the Job was seen."""
    may_come: int = 0
    """Groups that the Job may still make."""
    noted: int = 0
    """Pods ever noted, dropped ones included."""
    ended: int = 0
    """The most pods that the Job's own status has counted as ended."""
    pods: Mapping[str, PodNote] = field(default_factory=dict)
    holds: tuple[tuple[datetime, int], ...] = ()
    """Addresses that are free again from that time on."""
    money_settled: bool = False

    @property
    def name(self) -> str:
        """The name that record, entry and Job share."""
        return attempt_name(self.batch, self.attempt)

    @property
    def spender(self) -> Spender:
        """Whose money it spends."""
        return Spender(self.tenant, self.task)

    @property
    def paid(self) -> bool:
        """Whether its pods are billed by the second."""
        return self.placement is Placement.VIRTUAL_NODE

    @property
    def groups(self) -> int:
        """Groups that may come or whose pod is there."""
        return self.may_come + sum(1 for note in self.pods.values() if note.gone_at is None)

    @property
    def creates_to_come(self) -> int:
        """Groups that may still be asked for: those of pods that are there already, as far as is known, too."""
        return self.may_come + sum(1 for note in self.pods.values() if not note.asked_for)

    def addresses(self, now: datetime) -> int:
        """Addresses held now."""
        return self.groups + sum(count for until, count in self.holds if until > now)

    @property
    def worst_case(self) -> WorstCase:
        """What it was reserved for."""
        return WorstCase(self.shape, self.rate, self.tail)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the ledger document."""
        return {
            "batch": self.batch,
            "attempt": self.attempt,
            "task": self.task,
            "tenant": self.tenant,
            "placement": self.placement.value,
            "items": self.items,
            "written": to_text(self.written),
            "epoch": self.epoch,
            "shape": [
                self.shape.completions,
                self.shape.parallelism,
                self.shape.backoff_limit_per_index,
                whole_seconds(self.shape.deadline),
            ],
            "rate": self.rate.picos,
            "tail": whole_seconds(self.tail),
            "cpu": self.cpu_millis,
            "reserved": {account: money.picos for account, money in self.reserved.items()},
            "spent": self.spent.picos,
            "state": self.state.value,
            "job": self.job_uid,
            "mayCome": self.may_come,
            "noted": self.noted,
            "ended": self.ended,
            "pods": {uid: note.to_json() for uid, note in self.pods.items()},
            "holds": [[to_text(until), count] for until, count in self.holds],
            "moneySettled": self.money_settled,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Reads what :meth:`to_json` wrote."""
        completions, parallelism, retries, deadline = data["shape"]
        return cls(
            batch=data["batch"],
            attempt=data["attempt"],
            task=data["task"],
            tenant=data["tenant"],
            placement=Placement(data["placement"]),
            items=data["items"],
            written=from_text(data["written"]),
            epoch=data["epoch"],
            shape=JobShape(completions, parallelism, retries, timedelta(seconds=deadline)),
            rate=Money(data["rate"]),
            tail=timedelta(seconds=data["tail"]),
            cpu_millis=data["cpu"],
            reserved={AccountId(account): Money(picos) for account, picos in data["reserved"].items()},
            spent=Money(data["spent"]),
            state=EntryState(data["state"]),
            job_uid=data["job"],
            may_come=data["mayCome"],
            noted=data["noted"],
            ended=data["ended"],
            pods={uid: PodNote.from_json(note) for uid, note in data["pods"].items()},
            holds=tuple((from_text(until), count) for until, count in data["holds"]),
            money_settled=data["moneySettled"],
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """When creates, or deletes, happened in the last hour: (time, how many), in order."""

    used: tuple[tuple[datetime, int], ...] = ()

    def count(self, now: datetime, window: timedelta) -> int:
        """How many were used within the window that ends now."""
        return sum(count for at, count in self.used if at > now - window)

    def add(self, at: datetime, count: int = 1) -> Tokens:
        """With these used too. Times within one grain are kept as one, at the grain's end, which is the safe side."""
        kept_at = at + (_GRAINS_BEGIN - at) % _TOKEN_GRAIN
        used = dict(self.used)
        used[kept_at] = used.get(kept_at, 0) + count
        return Tokens(tuple(sorted(used.items())))

    def pruned(self, now: datetime) -> Tokens:
        """Without what is older than an hour."""
        return Tokens(tuple(use for use in self.used if use[0] > now - ONE_HOUR))

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [[to_text(at), count] for at, count in self.used]

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> Tokens:
        """Reads what :meth:`to_json` wrote."""
        return cls(tuple((from_text(at), count) for at, count in data))


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of it, as last accepted by the store."""

    epoch: int = 0
    accounts: Mapping[AccountId, Account] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    creates: Tokens = Tokens()
    deletes: Tokens = Tokens()
    written: datetime | None = None
    frozen: str = ""
    """Why nothing may be opened on the virtual node until an operator has looked; empty: it may."""
    leaks: Mapping[str, Leak] = field(default_factory=dict)
    """Groups without a pod, by the uid that it had."""

    def reserved(self) -> Mapping[AccountId, Money]:
        """What is set aside, by account."""
        totals: Counter[AccountId] = Counter()
        for entry in self.entries.values():
            for account, money in entry.reserved.items():
                totals[account] += money.picos
        return {account: Money(picos) for account, picos in totals.items()}

    def addresses(self, now: datetime) -> int:
        """Addresses held on the virtual node."""
        leaked = sum(1 for leak in self.leaks.values() if leak.holds_address(now))
        return leaked + sum(entry.addresses(now) for entry in self.entries.values())

    def to_document(self) -> dict[str, Any]:
        """The document, as plain JSON."""
        return {
            "format": FORMAT,
            "epoch": self.epoch,
            "accounts": {name: account.to_json() for name, account in self.accounts.items()},
            "entries": {name: entry.to_json() for name, entry in self.entries.items()},
            "creates": self.creates.to_json(),
            "deletes": self.deletes.to_json(),
            "written": self.written and to_text(self.written),
            "frozen": self.frozen,
            # Only where there are some: so a version that knows nothing of them reads all other ledgers.
            **({"leaks": {uid: leak.to_json() for uid, leak in self.leaks.items()}} if self.leaks else {}),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Ledger:
        """Reads what :meth:`to_document` wrote; raises ValueError for a format that this version does not know."""
        if document.get("format") != FORMAT:
            raise ValueError(f"ledger format {document.get('format')!r}; this version reads {FORMAT}")
        return cls(
            epoch=document["epoch"],
            accounts={AccountId(name): Account.from_json(data) for name, data in document["accounts"].items()},
            entries={name: Entry.from_json(data) for name, data in document["entries"].items()},
            creates=Tokens.from_json(document["creates"]),
            deletes=Tokens.from_json(document["deletes"]),
            written=document["written"] and from_text(document["written"]),
            frozen=document["frozen"],
            leaks={uid: Leak.from_json(data) for uid, data in document.get("leaks", {}).items()},
        )


def accounts_of(
    ledger_accounts: Mapping[AccountId, Account],
    budgets: tuple[Budget, ...],
    spender: Spender,
    start: datetime,
    end: datetime,
) -> dict[AccountId, Account]:
    """Every account that this spending within [start, end) is booked to.

    An account of a budget that operators have since changed or taken away is enforced until its window ends.
    """
    owners = spender.owners
    found = {
        account_id: ledger_accounts.get(account_id, Account(budget.name, window, budget.limit, NO_MONEY))
        for budget, window, account_id in touched(budgets, spender, start, end)
    }
    for account_id, account in ledger_accounts.items():
        if account_id.owner in owners and account.window.overlap(start, end):
            found.setdefault(account_id, account)
    return found


class Draft:
    """The next ledger in the making. Nothing here has happened until :meth:`finish` was written and accepted."""

    def __init__(self, ledger: Ledger, budgets: tuple[Budget, ...], release_hold: timedelta) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._release_hold = release_hold
        self._accounts = dict(ledger.accounts)
        self._entries = dict(ledger.entries)
        self._reserved = Counter({account: money.picos for account, money in ledger.reserved().items()})
        self._creates = ledger.creates
        self._deletes = ledger.deletes
        self._epoch = ledger.epoch
        self._frozen = ledger.frozen
        self._leaks = dict(ledger.leaks)
        self.changed = False
        self.warnings: list[tuple[AccountId, int]] = []
        """Accounts that :meth:`finish` found to have passed a percentage that operators want to be told of."""
        self.overruns: list[tuple[str, AccountId]] = []
        """Charges of this draft that went beyond what was set aside: (attempt, account)."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries as they stand in the draft."""
        return self._entries

    def over_limit(self) -> Iterator[tuple[AccountId, Account, Money]]:
        """Accounts on which nothing may be opened, since more is bound than their limit allows; what is set aside."""
        for account_id, account in self._accounts.items():
            reserved = Money(self._reserved[account_id])
            if account.spent + reserved > account.limit:
                yield account_id, account, reserved

    @property
    def leaks(self) -> Mapping[str, Leak]:
        """Groups without a pod, as they stand in the draft."""
        return self._leaks

    @property
    def deletes(self) -> Tokens:
        """The delete tokens as they stand in the draft."""
        return self._deletes

    def _put(self, entry: Entry) -> None:
        self._entries[entry.name] = entry
        self.changed = True

    def _reserve(self, entry: Entry, now: datetime) -> Entry:
        worst = entry.worst_case
        reserved: dict[AccountId, Money] = {}
        start, end = worst.first_second(now), worst.last_second(now)
        accounts = accounts_of(self._accounts, self._budgets, entry.spender, start, end)
        for account_id, account in accounts.items():
            amount = worst.within(account.window, now)
            if not amount:
                continue
            left = account.limit.picos - account.spent.picos - self._reserved[account_id]
            if amount.picos > left or account.overrun:
                raise NoRoom(f"{account_id}: {Money(left)} left, {amount} needed")
            reserved[account_id] = amount
        for account_id, amount in reserved.items():
            self._accounts.setdefault(account_id, accounts[account_id])
            self._reserved[account_id] += amount.picos
        return replace(entry, reserved=reserved, written=now)

    def open(self, entry: Entry) -> None:
        """Opens an attempt's entry with its worst case set aside in every account. Raises NoRoom, changing nothing."""
        if entry.name in self._entries:
            raise NoRoom(f"{entry.name} is open already")
        if entry.paid:
            entry = self._reserve(replace(entry, may_come=entry.shape.pods_max), entry.written)
        self._put(entry)

    def renew(self, name: str, now: datetime) -> None:
        """Sets a reservation aside anew from now, for a Job that was never seen. Raises NoRoom, changing nothing."""
        entry = self._entries[name]
        if not entry.paid:
            self._put(replace(entry, written=now, epoch=self._epoch))
            return
        for account_id, money in entry.reserved.items():
            self._reserved[account_id] -= money.picos
        try:
            renewed = self._reserve(entry, now)
        except NoRoom:
            for account_id, money in entry.reserved.items():
                self._reserved[account_id] += money.picos
            raise
        self._put(replace(renewed, epoch=self._epoch))

    def job_seen(self, name: str, uid: str) -> None:
        """The Job exists."""
        if self._entries[name].job_uid != uid:
            self._put(replace(self._entries[name], job_uid=uid))

    def ended_seen(self, name: str, ended: int) -> None:
        """So many pods the Job's own status has counted as ended."""
        if ended > self._entries[name].ended:
            self._put(replace(self._entries[name], ended=ended))

    def pod_seen(
        self, name: str, uid: str, created_at: datetime, ended_at: datetime | None, asked_by: datetime | None = None
    ) -> None:
        """A pod of a paid attempt: at first sight, when its group is known to have been asked for, and when it ended.

        ``asked_by``: an instant at which the group had been asked for at the latest; None: it may still be. What has
        ended was asked for by its end.
        """
        entry = self._entries[name]
        asked_by = asked_by or ended_at
        note = entry.pods.get(uid)
        if note is None:
            note = PodNote(created_at, asked_for=False)
            may_come = max(0, entry.may_come - 1)
            entry = replace(entry, pods={**entry.pods, uid: note}, noted=entry.noted + 1, may_come=may_come)
            self._put(entry)
        if asked_by is not None and not note.asked_for:
            self._creates = self._creates.add(max(created_at, asked_by))
            note = replace(note, asked_for=True)
        if ended_at is not None and note.ended_at is None:
            note = replace(note, ended_at=ended_at)
        if note is not entry.pods[uid]:
            self._put(replace(entry, pods={**entry.pods, uid: note}))

    def pod_gone(self, name: str, uid: str, at: datetime) -> None:
        """The pod is there no more: its group's delete was asked for by now, and its address is held a while longer."""
        entry = self._entries[name]
        note = entry.pods.get(uid)
        if note is None or note.gone_at is not None:
            return
        holds = (*(hold for hold in entry.holds if hold[0] > at), (at + self._release_hold, 1))
        if not note.asked_for:
            self._creates = self._creates.add(at)
        self._deletes = self._deletes.add(at)
        pods = {**entry.pods, uid: replace(note, gone_at=at, asked_for=True)}
        self._put(_without_finished_notes(replace(entry, pods=pods, holds=holds)))

    def pods_unseen(self, name: str, count: int, at: datetime) -> None:
        """So many pods may have come and gone without being seen, now that no more can come.

        Each is charged at its worst when money is settled, has used up a create and a delete, and its address is held.
        """
        entry = self._entries[name]
        count = min(count, entry.may_come)
        if count <= 0:
            return
        self._creates, self._deletes = self._creates.add(at, count), self._deletes.add(at, count)
        holds = (*(hold for hold in entry.holds if hold[0] > at), (at + self._release_hold, count))
        self._put(replace(entry, ended=max(entry.ended, entry.noted + count), holds=holds))

    def no_more_pods(self, name: str) -> None:
        """The Job makes no pods any more: those that never came hold nothing."""
        if self._entries[name].may_come:
            self._put(replace(self._entries[name], may_come=0))

    def charge(self, name: str, uid: str, start: datetime, end: datetime, *, estimated: bool = False) -> Money:
        """Books what a stopped group cost in [start, end) to the windows it was billed in, once; what it cost.

        ``estimated``: the end is when it was noticed, not when it was. So it is no proof that more was billed than was
        set aside: a pod costs at most its Job's deadline and a tail, and all together no more than what is left.
        """
        entry = self._entries[name]
        note = entry.pods[uid]
        if note.charged:
            return NO_MONEY
        if estimated:
            end = min(end, start + entry.shape.deadline + entry.tail)
        cost = cost_of(entry.rate, end - start)
        entry = self._book(entry, start, end, estimated=estimated)
        pods = {**entry.pods, uid: replace(note, charged=True)}
        self._put(_without_finished_notes(replace(entry, pods=pods, spent=entry.spent + cost)))
        return cost

    def _book(self, entry: Entry, start: datetime, end: datetime, *, estimated: bool) -> Entry:
        """Moves each window's own seconds from reserved to spent, in one change; beyond what is reserved.

        An overrun.
        """
        reserved = dict(entry.reserved)
        accounts = accounts_of(self._accounts, self._budgets, entry.spender, start, end)
        for account_id, account in accounts.items():
            amount = cost_of(entry.rate, account.window.overlap(start, end))
            left = reserved.get(account_id, NO_MONEY)
            if estimated:
                amount = min(amount, left)
            covered = min(amount, left)
            if amount > left:
                self.overruns.append((entry.name, account_id))
            overrun = account.overrun or amount > left
            self._accounts[account_id] = replace(account, spent=account.spent + amount, overrun=overrun)
            self._reserved[account_id] -= covered.picos
            if account_id in reserved:
                reserved[account_id] = left - covered
        return replace(entry, reserved=reserved)

    def lower(self, name: str, finished: int, made_at: datetime, now: datetime) -> None:
        """Gives back what a running attempt can cost no more, so that others may start with it.

        ``finished``: indexes that make no pod any more and all of whose pods are noted; ``made_at``: when its Job came
        to be, by the bill's clock. What stays in each window: what pods that are not charged have billed so far; what
        those that may still run can bill until the Job's deadline; the tails of all that are not charged or may still
        come. It only ever becomes less, and small change is left where it is: each change is a write.
        """
        entry = self._entries[name]
        lowered = {
            account_id: min(left, _may_still_cost(entry, self._accounts[account_id].window, finished, made_at, now))
            for account_id, left in entry.reserved.items()
        }
        before, after = (sum(money.picos for money in each.values()) for each in (entry.reserved, lowered))
        if before == after or (before - after) * _SMALL_CHANGE < before:
            return
        for account_id, left in entry.reserved.items():
            self._reserved[account_id] -= left.picos - lowered[account_id].picos
        self._put(replace(entry, reserved=lowered))

    def settle_money(self, name: str) -> Money:
        """All seen pods are charged: what was never seen is charged at its worst, the rest is given back.

        Returns the estimated part, zero where every pod was seen.
        """
        entry = self._entries[name]
        unseen = max(0, entry.ended - entry.noted)
        worst = cost_of(entry.rate, entry.shape.deadline + entry.tail) * unseen
        reserved: dict[AccountId, Money] = {}
        for account_id, left in entry.reserved.items():
            estimated = min(worst, left)
            account = self._accounts[account_id]
            self._accounts[account_id] = replace(account, spent=account.spent + estimated)
            self._reserved[account_id] -= left.picos
        self._put(replace(entry, reserved=reserved, spent=entry.spent + worst, money_settled=True))
        return worst

    def leak_found(self, uid: str, leak: Leak) -> None:
        """A group is there without its pod, and nothing that was set aside covers it."""
        self._leaks[uid] = leak
        self.changed = True

    def leak_seen(self, uid: str, until: datetime) -> None:
        """It bills still at that time. What is not a whole second yet is charged with the next."""
        leak = self._leaks[uid]
        whole = (until - leak.charged_until) // timedelta(seconds=1)
        if whole > 0:
            self._charge_leak(uid, leak.charged_until + timedelta(seconds=whole))

    def leak_stopped(self, uid: str, at: datetime) -> None:
        """It has stopped by then, and costs no more; it is still there."""
        self._charge_leak(uid, at)
        self._leaks[uid] = replace(self._leaks[uid], stopped=True)
        self.changed = True

    def leak_gone(self, uid: str, at: datetime) -> None:
        """It is there no more at that time; its address is held a while longer."""
        if not self._leaks[uid].stopped:
            self._charge_leak(uid, at)
        self._leaks[uid] = replace(self._leaks[uid], held_until=at + self._release_hold)
        self.changed = True

    def forget_leaks(self, now: datetime) -> None:
        """Those whose address is free again are over."""
        for uid in [uid for uid, leak in self._leaks.items() if not leak.holds_address(now)]:
            del self._leaks[uid]
            self.changed = True

    def _charge_leak(self, uid: str, until: datetime) -> None:
        """Books what it cost since it was last charged: once for each second, to the windows they fell into."""
        leak = self._leaks[uid]
        start = leak.charged_until
        cost = cost_of(leak.rate, until - start)
        if not cost:
            return
        spender = Spender(leak.tenant, leak.task)
        for account_id, account in accounts_of(self._accounts, self._budgets, spender, start, until).items():
            if not leak.tenant and account_id.owner != ANYONE:
                continue
            amount = cost_of(leak.rate, account.window.overlap(start, until))
            spent, leaked = account.spent + amount, account.leaked + amount
            self._accounts[account_id] = replace(account, spent=spent, leaked=leaked)
        self._leaks[uid] = replace(leak, charged_until=until, spent=leak.spent + cost)
        self.changed = True

    def close(self, name: str) -> None:
        """All items are settled or carried on: the entry claims none any more."""
        if self._entries[name].state is EntryState.OPEN:
            self._put(replace(self._entries[name], state=EntryState.CLOSING))

    def drop(self, name: str) -> None:
        """Forgets an attempt: its Job and record are gone, its money is settled, its holds are over."""
        entry = self._entries.pop(name)
        for account_id, money in entry.reserved.items():
            self._reserved[account_id] -= money.picos
        self.changed = True

    def top_up(self, account_id: AccountId, untouched: Account, top_up: TopUp) -> bool:
        """Adds a person's money to an account, once; whether that was new. ``untouched``: what it is if there is none.

        Nothing that is spent or set aside changes: what was over its limit may still be, and nothing is opened there.
        """
        if any(each.id == top_up.id for account in self._accounts.values() for each in account.top_ups):
            return False
        account = self._accounts.get(account_id, untouched)
        added = (*account.top_ups, top_up)
        # A percentage that the old limit had passed may be passed again.
        self._accounts[account_id] = replace(account, limit=account.limit + top_up.amount, top_ups=added, warned=0)
        self.changed = True
        return True

    def take_over(self) -> None:
        """A new leader: the epoch rises, and the limits that operators have set come into force.

        A budget whose account is new starts with the reservations of all open entries that it would have counted.
        """
        self._epoch += 1
        self.changed = True
        limits = {budget.key: budget.limit for budget in self._budgets}
        for account_id, account in self._accounts.items():
            limit = limits.get(account_id.budget_key)
            if limit is not None and limit + account.topped_up != account.limit:
                self._accounts[account_id] = replace(account, limit=limit + account.topped_up)
        known = frozenset(self._accounts)
        for entry in list(self._entries.values()):
            if entry.paid and not entry.money_settled:
                self._adopt(entry, known)

    def _adopt(self, entry: Entry, known: frozenset[AccountId]) -> None:
        """From the attempt's first second on: its pods may be long over and not charged yet."""
        worst = entry.worst_case
        start, end = worst.first_second(entry.written), worst.last_second(entry.written)
        reserved = dict(entry.reserved)
        for budget, window, account_id in touched(self._budgets, entry.spender, start, end):
            amount = worst.within(window, entry.written)
            if account_id in known or not amount:
                continue
            self._accounts.setdefault(account_id, Account(budget.name, window, budget.limit, NO_MONEY))
            self._reserved[account_id] += amount.picos
            reserved[account_id] = amount
        self._put(replace(entry, reserved=reserved))

    def freeze(self, why: str) -> None:
        """Nothing is opened on the virtual node until an operator has looked."""
        self._frozen = why
        self.changed = True

    def peek(self) -> Ledger:
        """The ledger as it would be: what plans are made from."""
        return Ledger(
            self._epoch,
            self._accounts,
            self._entries,
            self._creates,
            self._deletes,
            self._ledger.written,
            self._frozen,
            self._leaks,
        )

    def _warn(self) -> None:
        """Marks what has passed a percentage of its limit; each is told once, since the mark is written."""
        warn_at = {budget.key: budget.warn_at for budget in self._budgets if budget.warn_at}
        for account_id, account in self._accounts.items():
            passed = [
                percent
                for percent in warn_at.get(account_id.budget_key, ())
                if account.spent.picos * 100 >= account.limit.picos * percent and percent > account.warned
            ]
            if passed:
                self.warnings.append((account_id, max(passed)))
                self._accounts[account_id] = replace(account, warned=max(passed))

    def finish(self, now: datetime) -> Ledger:
        """The ledger to be written."""
        self._warn()
        live = {account for entry in self._entries.values() for account in entry.reserved}
        accounts = {
            account_id: account
            for account_id, account in self._accounts.items()
            if account_id in live or account.window.end + _ACCOUNT_KEPT_AFTER > now
        }
        written = now if self._ledger.written is None else max(now, self._ledger.written)
        return replace(
            self.peek(),
            accounts=accounts,
            entries=dict(self._entries),
            leaks=dict(self._leaks),
            creates=self._creates.pruned(now),
            deletes=self._deletes.pruned(now),
            written=written,
        )


def _may_still_cost(entry: Entry, window: Window, finished: int, made_at: datetime, now: datetime) -> Money:
    """The most that what is not charged of an attempt costs in that window, so far and from now on.

    The proof is that of the reservation, with what is known by now put in: at any instant at most P pods are active,
    and each group outlives its pod by no more than the tail. Pods that came and were not noted have billed no more than
    what P pods can have, less what the noted ones did. Each pod that could come and is not noted may be such a one,
    also of a Job that has stopped: it came and vanished while nobody watched.
    """
    shape, late = entry.shape, now + CLOCK_ERROR
    gone = max(timedelta(0), now - made_at - CLOCK_ERROR)
    ahead = max(timedelta(0), shape.deadline - gone)
    end = late + ahead
    unnoted = max(entry.may_come, shape.pods_max - entry.noted)
    billed, known, groups = 0, timedelta(0), unnoted
    for note in entry.pods.values():
        until = note.ended_at or note.gone_at
        known += max(timedelta(0), (until or now) - note.created_at)
        if not note.charged:
            groups += 1
            start, stop = note.created_at - CLOCK_ERROR, (until or now) + CLOCK_ERROR
            billed += whole_seconds(window.overlap(start, stop))
    if unnoted:
        whole = shape.parallelism * (late - made_at)
        billed += whole_seconds(
            min(max(timedelta(0), whole - known), shape.parallelism * window.overlap(made_at, late))
        )
    active = min(shape.parallelism, max(0, shape.completions - finished))
    running = active * min(whole_seconds(ahead), whole_seconds(window.overlap(now - CLOCK_ERROR, end)))
    oldest = min((note.created_at for note in entry.pods.values()), default=now)
    tails = groups * min(whole_seconds(entry.tail), whole_seconds(window.overlap(oldest, end + entry.tail)))
    return entry.rate * (billed + running + tails)


def _without_finished_notes(entry: Entry) -> Entry:
    pods = {uid: note for uid, note in entry.pods.items() if not (note.charged and note.gone_at)}
    return entry if len(pods) == len(entry.pods) else replace(entry, pods=pods)
