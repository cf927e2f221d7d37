"""Items in flight, driven at random beside a plain model of where each item should be."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from dispatcher.core.batching import LaneKey
from dispatcher.core.inflight import InFlight, ItemState
from dispatcher.core.work import ItemId, WorkItem
from tests.builders import an_item

S = ItemState
IN_LANES = (S.UNDER_LOCK, S.BACKLOG)
CLAIMED = (S.IN_ATTEMPT, S.HELD_RETRY)


class InFlightMachine(RuleBasedStateMachine):
    """Messages arrive, some of them twice; records claim them; they are done, dead, retried, or found again."""

    arrived = Bundle("arrived")

    def __init__(self) -> None:
        super().__init__()
        self.inflight = InFlight()
        self.items: dict[ItemId, WorkItem] = {}
        self.states: dict[ItemId, ItemState] = {}
        self.order: list[ItemId] = []
        """Items in lanes, in the order in which they got there."""
        self.copies: dict[ItemId, list[ItemId]] = {}
        self.number = 0

    def first_of(self, item: WorkItem) -> ItemId | None:
        for item_id, state in self.states.items():
            other = self.items[item_id]
            if state is not S.COPY and (other.message_id, other.digest) == (item.message_id, item.digest):
                return item_id
        return None

    @rule(
        target=arrived,
        message=st.integers(0, 3),
        digest=st.sampled_from("ab"),
        tenant=st.sampled_from(("acme", "globex")),
        state=st.sampled_from(IN_LANES),
    )
    def arrive(self, message: int, digest: str, tenant: str, state: ItemState) -> ItemId:
        self.number += 1
        item = an_item(self.number, message_id=f"m{message}", digest=digest, tenant=tenant)
        first = self.first_of(item)
        got = self.inflight.arrive(item, state)
        self.items[item.id] = item
        if first is None:
            self.states[item.id] = state
            self.order.append(item.id)
        else:
            self.states[item.id] = S.COPY
            self.copies.setdefault(first, []).append(item.id)
        assert got is self.states[item.id]
        return item.id

    @rule(item_id=arrived)
    def defer(self, item_id: ItemId) -> None:
        if self.states.get(item_id) is S.UNDER_LOCK:
            self.inflight.move(item_id, S.BACKLOG)
            self.states[item_id] = S.BACKLOG

    @rule(tenant=st.sampled_from(("acme", "globex")), count=st.integers(1, 3))
    def launch_a_batch(self, tenant: str, count: int) -> None:
        """A record claims the front of a lane."""
        front = [item_id for item_id in self.order if self.items[item_id].tenant == tenant][:count]
        for item_id in front:
            self.inflight.claim(self.items[item_id], S.IN_ATTEMPT)
            self.order.remove(item_id)
            self.states[item_id] = S.IN_ATTEMPT

    @rule(item_id=arrived)
    def retry(self, item_id: ItemId) -> None:
        state = self.states.get(item_id)
        if state in CLAIMED:
            following = S.HELD_RETRY if state is S.IN_ATTEMPT else S.IN_ATTEMPT
            self.inflight.move(item_id, following)
            self.states[item_id] = following

    @rule(item_id=arrived)
    def rule_on(self, item_id: ItemId) -> None:
        if self.states.get(item_id) in CLAIMED:
            self.inflight.move(item_id, S.RULED)
            self.states[item_id] = S.RULED

    @rule(item_id=arrived, done=st.booleans())
    def settle(self, item_id: ItemId, done: bool) -> None:
        """Done takes the copies along; after dead the first of them runs."""
        if self.states.get(item_id) not in (S.RULED, *IN_LANES):
            return
        waiting = list(self.inflight.copies_of(item_id))
        assert waiting == self.copies.get(item_id, [])
        if done:
            for copy in waiting:
                assert self.inflight.settled(copy) == []
                self.forget(copy)
            self.copies.pop(item_id, None)
            waiting = []
        promoted = self.inflight.settled(item_id)
        self.forget(item_id)
        self.copies.pop(item_id, None)
        assert promoted == waiting[:1]
        for copy in promoted:
            self.states[copy] = S.BACKLOG
            self.order.append(copy)
            if waiting[1:]:
                self.copies[copy] = waiting[1:]

    @rule(item_id=arrived)
    def find_a_copy_settled(self, item_id: ItemId) -> None:
        if self.states.get(item_id) is S.COPY:
            assert self.inflight.settled(item_id) == []
            self.forget(item_id)
            for behind in self.copies.values():
                if item_id in behind:
                    behind.remove(item_id)

    def forget(self, item_id: ItemId) -> None:
        self.states.pop(item_id)
        if item_id in self.order:
            self.order.remove(item_id)

    @invariant()
    def every_item_is_where_it_should_be(self) -> None:
        assert len(self.inflight) == len(self.states)
        assert all(self.inflight.state(item_id) is state for item_id, state in self.states.items())
        assert {state: self.inflight.count(state) for state in S} == {
            state: list(self.states.values()).count(state) for state in S
        }

    @invariant()
    def lanes_hold_what_waits_in_the_order_in_which_it_came(self) -> None:
        expected: dict[LaneKey, list[ItemId]] = {}
        for item_id in self.order:
            item = self.items[item_id]
            expected.setdefault(LaneKey(item.task, item.tenant, item.priority), []).append(item_id)
        assert {lane.key: [item.id for item in lane.items.values()] for lane in self.inflight.lanes()} == expected
        assert self.inflight.in_lanes() == len(self.order)

    @invariant()
    def of_equal_messages_one_runs_and_the_others_wait(self) -> None:
        running = [
            (self.items[item_id].message_id, self.items[item_id].digest)
            for item_id, state in self.states.items()
            if state is not S.COPY
        ]
        assert len(running) == len(set(running))
        behind = {copy for item_id in self.states for copy in self.inflight.copies_of(item_id)}
        assert behind == {item_id for item_id, state in self.states.items() if state is S.COPY}


TestInFlight = InFlightMachine.TestCase
