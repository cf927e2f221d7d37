"""The ledger, driven at random: no account is opened beyond its limit, whatever is charged, settled or restarted."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from dispatcher.core.budgets import AccountId, Budget, TopUp
from dispatcher.core.jobs import JobShape
from dispatcher.core.ledger import Draft, Entry, EntryState, Ledger, NoRoom
from dispatcher.core.units import NO_MONEY, Money
from tests.builders import NOW, an_entry
from tests.property import strategies as some

HOLD = timedelta(minutes=5)


class LedgerMachine(RuleBasedStateMachine):
    """Attempts come and go; pods run; leaders change; operators change limits. Time goes on."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOW
        self.budgets: tuple[Budget, ...] = ()
        self.draft = Draft(Ledger(epoch=1), (), HOLD)
        self.opened = 0
        self.topped_up = 0

    @initialize(budgets=some.budgets())
    def begin(self, budgets: tuple[Budget, ...]) -> None:
        self.budgets = budgets
        self.draft = Draft(Ledger(epoch=1), budgets, HOLD)

    # --- what is looked at ---

    def sums(self) -> dict[AccountId, Money]:
        ledger = self.draft.peek()
        reserved = ledger.reserved()
        return {name: account.spent + reserved.get(name, NO_MONEY) for name, account in ledger.accounts.items()}

    def document(self) -> str:
        return json.dumps(self.draft.peek().to_document(), sort_keys=True)

    def open_names(self) -> list[str]:
        return sorted(self.draft.entries)

    def admitted(self, act: Callable[[], None]) -> None:
        """The act raises sums only up to the limits; where it is refused it changes nothing."""
        before, document = self.sums(), self.document()
        try:
            act()
        except NoRoom:
            assert self.document() == document
            return
        accounts = self.draft.peek().accounts
        for name, total in self.sums().items():
            if total > before.get(name, NO_MONEY):
                assert total <= accounts[name].limit
                assert not accounts[name].overrun

    # --- what happens ---

    @rule(target=names, shape=some.shapes(pods_max=4, deadline_max=900), tenant=st.sampled_from(some.TENANTS))
    def open(self, shape: JobShape, tenant: str) -> object:
        self.opened += 1
        entry = an_entry(f"b{self.opened}", tenant=tenant, shape=shape, written=self.now)
        by_another = self.as_read_by_another(entry)
        self.admitted(lambda: self.draft.open(entry))
        assert self.is_open(entry.name) == by_another
        return entry.name if by_another else multiple()

    def as_read_by_another(self, entry: Entry) -> bool:
        """Whether one who reads this very ledger could open the entry."""
        draft = Draft(Ledger.from_document(json.loads(self.document())), self.budgets, HOLD)
        try:
            draft.open(entry)
        except NoRoom:
            return False
        return True

    def is_open(self, name: str) -> bool:
        return name in self.draft.entries

    @rule(name=names)
    def renew(self, name: str) -> None:
        if self.is_open(name) and not self.draft.entries[name].pods and not self.draft.entries[name].money_settled:
            self.admitted(lambda: self.draft.renew(name, self.now))

    @rule(name=names, pod=st.integers(0, 5), ended=st.booleans())
    def see_pod(self, name: str, pod: int, ended: bool) -> None:
        if self.is_open(name):
            before = self.sums()
            self.draft.pod_seen(name, f"{name}-{pod}", self.now, self.now if ended else None)
            assert self.sums() == before

    @rule(name=names, pod=st.integers(0, 5))
    def lose_pod(self, name: str, pod: int) -> None:
        if self.is_open(name):
            before = self.sums()
            self.draft.pod_gone(name, f"{name}-{pod}", self.now)
            assert self.sums() == before

    @rule(name=names, pod=st.integers(0, 5), length=some.seconds(0, 1500))
    def charge(self, name: str, pod: int, length: timedelta) -> None:
        uid = f"{name}-{pod}"
        if not self.is_open(name) or uid not in self.draft.entries[name].pods:
            return
        charged_before = self.draft.entries[name].pods[uid].charged
        sums, document, overruns = self.sums(), self.document(), len(self.draft.overruns)
        cost = self.draft.charge(name, uid, self.now - length, self.now)
        beyond = {account for _, account in self.draft.overruns[overruns:]}
        if charged_before:
            assert cost == NO_MONEY
            assert self.document() == document
        for account, total in self.sums().items():
            if account in beyond:
                assert total > sums.get(account, NO_MONEY)
                assert self.draft.peek().accounts[account].overrun
            else:
                assert total == sums.get(account, NO_MONEY)
        again = self.document()
        if uid in self.draft.entries[name].pods:
            assert self.draft.charge(name, uid, self.now - length, self.now) == NO_MONEY
        assert self.document() == again

    @rule(name=names, pod=st.integers(0, 5), length=some.seconds(0, 5000))
    def charge_an_estimate(self, name: str, pod: int, length: timedelta) -> None:
        uid = f"{name}-{pod}"
        if self.is_open(name) and uid in self.draft.entries[name].pods:
            before, overruns = self.sums(), list(self.draft.overruns)
            self.draft.charge(name, uid, self.now - length, self.now, estimated=True)
            assert self.draft.overruns == overruns
            assert all(total == before.get(account, NO_MONEY) for account, total in self.sums().items())

    @rule(name=names, count=st.integers(0, 5))
    def miss_pods(self, name: str, count: int) -> None:
        if self.is_open(name):
            before = self.sums()
            self.draft.pods_unseen(name, count, self.now)
            self.draft.no_more_pods(name)
            assert self.sums() == before

    @rule(name=names, finished=st.integers(0, 4), since=some.seconds(0, 2000))
    def lower(self, name: str, finished: int, since: timedelta) -> None:
        if not self.is_open(name) or not self.draft.entries[name].paid:
            return
        before, entry = self.sums(), self.draft.entries[name]
        self.draft.lower(name, min(finished, entry.shape.completions), self.now - since, self.now)
        assert all(total <= before[account] for account, total in self.sums().items())
        after = self.draft.entries[name].reserved
        assert all(NO_MONEY <= after[account] <= money for account, money in entry.reserved.items())
        document = self.document()
        self.draft.lower(name, min(finished, entry.shape.completions), self.now - since, self.now)
        assert self.document() == document

    @rule(name=names, ended=st.integers(0, 6))
    def settle(self, name: str, ended: int) -> None:
        if not self.is_open(name) or self.draft.entries[name].money_settled:
            return
        before = self.sums()
        self.draft.ended_seen(name, ended)
        self.draft.settle_money(name)
        assert all(total <= before[account] for account, total in self.sums().items())
        assert not any(money for money in self.draft.entries[name].reserved.values())

    @rule(name=names)
    def close(self, name: str) -> None:
        if self.is_open(name):
            before = self.sums()
            self.draft.close(name)
            assert self.draft.entries[name].state is EntryState.CLOSING
            assert self.sums() == before

    @rule(name=names)
    def drop(self, name: str) -> None:
        if self.is_open(name) and self.draft.entries[name].money_settled:
            before = self.sums()
            self.draft.drop(name)
            assert self.sums() == before

    @rule(later=st.one_of(some.seconds(0, 600), some.seconds(0, 200_000)))
    def wait(self, later: timedelta) -> None:
        self.now += later

    @rule()
    def write_and_read(self) -> None:
        before = self.sums()
        written = self.draft.finish(self.now)
        read = Ledger.from_document(json.loads(json.dumps(written.to_document())))
        assert read == written
        self.draft = Draft(read, self.budgets, HOLD)
        after = self.sums()
        assert after.items() <= before.items()
        forgotten = set(before) - set(after)
        assert not any(account in entry.reserved for entry in read.entries.values() for account in forgotten)

    @rule(amount=some.small_limits, again=st.booleans(), choice=st.integers(0, 20))
    def top_up(self, amount: Money, again: bool, choice: int) -> None:
        accounts = self.draft.peek().accounts
        if not accounts or not amount:
            return
        account_id = sorted(accounts)[choice % len(accounts)]
        account, before = accounts[account_id], self.sums()
        order = TopUp(f"t{self.topped_up}", self.now, amount, "ann", "a burst that matters")
        self.topped_up += 1
        assert self.draft.top_up(account_id, account, order)
        if again:
            assert not self.draft.top_up(account_id, account, order)
        after = self.draft.peek().accounts[account_id]
        assert after.limit == account.limit + amount
        assert (after.spent, after.overrun, after.top_ups[-1]) == (account.spent, account.overrun, order)
        assert self.sums() == before

    @rule()
    def change_leader(self) -> None:
        self.change_leader_and_budgets(self.budgets)

    @rule(limit=some.small_limits)
    def change_limits(self, limit: Money) -> None:
        self.change_leader_and_budgets(tuple(replace(budget, limit=limit) for budget in self.budgets))

    @rule(budgets=some.budgets())
    def change_budgets(self, budgets: tuple[Budget, ...]) -> None:
        self.change_leader_and_budgets(budgets)

    def change_leader_and_budgets(self, budgets: tuple[Budget, ...]) -> None:
        old = self.draft.finish(self.now)
        before = self.sums()
        self.budgets = budgets
        self.draft = Draft(old, budgets, HOLD)
        self.draft.take_over()
        after = self.draft.peek()
        assert after.epoch == old.epoch + 1
        limits = {budget.key: budget.limit for budget in budgets}
        for account_id, account in after.accounts.items():
            if account_id.budget_key in limits:
                assert account.limit == limits[account_id.budget_key] + account.topped_up
            if account_id in old.accounts:
                assert account.top_ups == old.accounts[account_id].top_ups
                assert self.sums()[account_id] == before[account_id]

    # --- what always holds ---

    @invariant()
    def nothing_is_negative(self) -> None:
        for entry in self.draft.entries.values():
            assert all(money >= NO_MONEY for money in entry.reserved.values())
            assert entry.may_come >= 0
        assert all(account.spent >= NO_MONEY for account in self.draft.peek().accounts.values())

    @invariant()
    def what_is_set_aside_has_an_account(self) -> None:
        ledger = self.draft.peek()
        assert set(ledger.reserved()) <= set(ledger.accounts)


TestLedger = LedgerMachine.TestCase
