"""The address book, driven at random: Azure is never asked for more than it has, however late pods come and go."""

from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from dispatcher.core.addresses import AddressBook, groups_counted
from dispatcher.core.ledger import Draft, Ledger
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.units import Resources
from tests.builders import NOW, a_shape, an_entry
from tests.property import strategies as some

HOLD = timedelta(minutes=5)
ONE_CORE = Resources(1000, 10**9)


class AddressMachine(RuleBasedStateMachine):
    """A model of the subnet beside the ledger: groups that were made, are there, and have gone."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.now: datetime = NOW
        self.policy = VirtualNodePolicy()
        self.ledger = Ledger(epoch=1)
        self.launched = 0
        self.pods = 0
        self.to_come: dict[str, int] = {}
        self.there: dict[str, list[str]] = {}
        self.waiting: set[str] = set()
        """Pods that are there and whose group the connector has not asked for yet."""
        self.gone_at: list[datetime] = []
        self.created_at: list[datetime] = []
        self.told_at: list[datetime] = []
        """When a create was known to have been, which is never before it was."""
        self.untold: set[str] = set()

    @initialize(policy=some.virtual_nodes)
    def begin(self, policy: VirtualNodePolicy) -> None:
        self.policy = policy

    def book(self) -> AddressBook:
        return AddressBook(self.ledger, self.policy, self.now)

    def change(self) -> Draft:
        return Draft(self.ledger, (), HOLD)

    def write(self, draft: Draft) -> None:
        self.ledger = draft.finish(self.now)

    @rule(target=jobs, wanted=st.integers(1, 8))
    def launch(self, wanted: int) -> object:
        """As many as there is said to be room for, as a plan does."""
        count = min(wanted, self.book().fit(ONE_CORE)[0])
        if not count:
            return multiple()
        self.launched += 1
        entry = an_entry(f"b{self.launched}", shape=a_shape(count), cpu_millis=1000, written=self.now)
        draft = self.change()
        draft.open(entry)
        self.write(draft)
        self.to_come[entry.name], self.there[entry.name] = count, []
        return entry.name

    @rule(job=jobs)
    def make_a_pod(self, job: str) -> None:
        if self.to_come[job]:
            self.to_come[job] -= 1
            self.pods += 1
            uid = f"{job}-{self.pods}"
            self.there[job].append(uid)
            self.waiting.add(uid)
            draft = self.change()
            draft.pod_seen(job, uid, self.now, None)
            self.write(draft)

    @rule(job=jobs, told=st.booleans())
    def ask_for_a_group(self, job: str, told: bool) -> None:
        """The connector comes to it; that it did is seen now, or not before the pod has gone."""
        uid = min(self.waiting.intersection(self.there[job]), default=None)
        if uid is None:
            return
        self.waiting.discard(uid)
        self.created_at.append(self.now)
        if not told:
            self.untold.add(uid)
            return
        self.told_at.append(self.now)
        draft = self.change()
        draft.pod_seen(job, uid, self.now, None, self.now)
        self.write(draft)

    @rule(job=jobs, charged=st.booleans())
    def lose_a_group(self, job: str, charged: bool) -> None:
        if self.there[job]:
            uid = self.there[job].pop()
            self.gone_at.append(self.now)
            if uid in self.waiting:
                self.waiting.discard(uid)
                self.untold.add(uid)
                self.created_at.append(self.now)
            if uid in self.untold:
                self.told_at.append(self.now)
            draft = self.change()
            draft.pod_seen(job, uid, self.now, self.now)
            if charged:
                draft.charge(job, uid, self.now, self.now)
            draft.pod_gone(job, uid, self.now)
            self.write(draft)

    @rule(job=jobs, unseen=st.integers(0, 8))
    def stop_the_job_after_looking_away(self, job: str, unseen: int) -> None:
        """So many groups may have come and gone while nobody watched: they count as if they just had."""
        missed = min(unseen, self.to_come[job])
        self.to_come[job] = 0
        self.created_at += [self.now] * missed
        self.told_at += [self.now] * missed
        self.gone_at += [self.now] * missed
        draft = self.change()
        draft.pods_unseen(job, unseen, self.now)
        draft.no_more_pods(job)
        self.write(draft)

    @rule(job=jobs)
    def stop_the_job(self, job: str) -> None:
        self.to_come[job] = 0
        draft = self.change()
        draft.no_more_pods(job)
        self.write(draft)

    @rule(later=some.seconds(0, 900))
    def wait(self, later: timedelta) -> None:
        self.now += later

    @invariant()
    def no_more_addresses_than_the_subnet_has(self) -> None:
        held = sum(1 for at in self.gone_at if at + HOLD > self.now)
        in_use = sum(self.to_come.values()) + sum(map(len, self.there.values())) + held
        assert self.book().in_use == self.ledger.addresses(self.now) == in_use
        assert in_use <= self.policy.addresses_max

    @invariant()
    def no_more_groups_and_cores_than_the_quota_allows(self) -> None:
        # A group is there for as long as the tail after its pod.
        going = sum(1 for at in self.gone_at if at + min(self.policy.tail, HOLD) > self.now)
        groups = sum(self.to_come.values()) + sum(map(len, self.there.values())) + going
        assert sum(groups_counted(each, self.policy, self.now) for each in self.ledger.entries.values()) == groups
        assert groups <= self.policy.groups_max
        assert groups <= self.policy.cores_max  # of one core each

    @invariant()
    def no_more_creates_than_the_rate_allows(self) -> None:
        coming = sum(self.to_come.values()) + len(self.waiting)
        for window, limit in self.limits():
            made = sum(1 for at in self.created_at if at > self.now - window)
            assert made + coming <= limit

    def limits(self) -> tuple[tuple[timedelta, int], ...]:
        short, long = self.policy.rate_windows
        return (short, self.policy.creates_per_5min), (long, self.policy.creates_per_hour)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        count, _reason = self.book().fit(ONE_CORE)
        entries = self.ledger.entries.values()
        groups = sum(groups_counted(each, self.policy, self.now) for each in entries)
        free = [
            self.policy.addresses_max - self.book().in_use,
            self.policy.groups_max - groups,
            self.policy.cores_max - groups,
        ]
        slack, coming = timedelta(seconds=5), sum(each.creates_to_come for each in entries)
        for window, limit in self.limits():
            made = sum(1 for at in self.told_at if at > self.now - window - slack)
            free.append(limit - made - coming)
        assert count >= max(0, min(free))


TestAddressBook = AddressMachine.TestCase
