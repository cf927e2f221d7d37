"""A plan uses no more than there was, in the order that was promised, and is finished when it is carried out."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.addresses import AddressBook
from dispatcher.core.batching import LaneKey, manifest_bytes, next_batch
from dispatcher.core.capacity import NodeSpace
from dispatcher.core.observations import NodeHeadroom
from dispatcher.core.plan import Launch, Plan, Snapshot, plan_cycle
from dispatcher.core.policy import NodePoolPolicy, Policy
from dispatcher.core.units import NO_MONEY, Resources
from dispatcher.core.verdicts import HoldReason
from dispatcher.core.work import ItemId, Placement
from tests.builders import NOW, a_node, a_task, after_launches, an_item, lane_of
from tests.property import strategies as some

World = tuple[Snapshot, Policy]


def on(plan: Plan, where: Placement) -> list[Launch]:
    return [launch for launch in plan.launches if launch.placed.where is where]


def lane_key(launch: Launch) -> LaneKey:
    return LaneKey(launch.task, launch.tenant, launch.priority)


# --- no more than there was -------------------------------------------------------------------------------------------


@given(some.worlds())
def test_no_account_is_planned_beyond_its_limit(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    after = after_launches(snapshot, plan, policy).ledger  # raises NoRoom otherwise
    before, reserved = snapshot.ledger.reserved(), after.reserved()
    for name, account in after.accounts.items():
        more = reserved.get(name, NO_MONEY) > before.get(name, NO_MONEY)
        assert not more or account.spent + reserved[name] <= account.limit


@given(some.worlds())
def test_no_more_addresses_groups_cores_and_creates_are_planned_than_there_are(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    virtual, profile = on(plan, Placement.VIRTUAL_NODE), policy.virtual_node
    if not virtual:
        return
    assert profile is not None
    after = after_launches(snapshot, plan, policy).ledger
    entries = [entry for entry in after.entries.values() if entry.paid]
    groups, coming = sum(entry.groups for entry in entries), sum(entry.creates_to_come for entry in entries)
    assert after.addresses(NOW) <= profile.addresses_max
    assert groups <= profile.groups_max
    assert sum(entry.groups * entry.cpu_millis for entry in entries) <= profile.cores_max * 1000
    short, long = profile.rate_windows
    assert after.creates.count(NOW, short) + coming <= profile.creates_per_5min
    assert after.creates.count(NOW, long) + coming <= profile.creates_per_hour


@given(some.worlds())
def test_every_planned_pod_fits_on_one_of_the_nodes(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    nodes = [[node.free.cpu_millis, node.free.memory_bytes, node.pods_free] for node in snapshot.headroom.nodes]
    pods = [pod for requests, count in snapshot.starting for pod in [requests] * count]
    starting = len(pods)
    for launch in on(plan, Placement.NODE_POOL):
        pods += [policy.tasks[launch.task].requests] * launch.placed.shape.parallelism
    for number, pod in enumerate(pods):
        node = next(
            (node for node in nodes if node[0] >= pod.cpu_millis and node[1] >= pod.memory_bytes and node[2] > 0), None
        )
        assert node is not None or number < starting
        if node is not None:
            node[0], node[1], node[2] = node[0] - pod.cpu_millis, node[1] - pod.memory_bytes, node[2] - 1
    if policy.node_pool.pods_max is not None and len(pods) > starting:
        assert snapshot.node_pods + len(pods) - starting <= policy.node_pool.pods_max


@given(some.worlds())
def test_no_task_gets_more_pods_than_it_may_run(world: World) -> None:
    snapshot, policy = world
    planned: Counter[str] = Counter()
    for launch in plan_cycle(snapshot, policy, NOW).launches:
        planned[launch.task] += launch.placed.shape.parallelism
    for task, pods in planned.items():
        assert snapshot.active.get(task, 0) + pods <= policy.tasks[task].parallelism_max


@given(some.worlds())
def test_nothing_goes_where_its_task_may_not_run(world: World) -> None:
    snapshot, policy = world
    for launch in plan_cycle(snapshot, policy, NOW).launches:
        assert launch.placed.where in policy.tasks[launch.task].placements


@given(some.worlds())
def test_an_open_circuit_is_probed_by_one_pod_at_most(world: World) -> None:
    snapshot, policy = world
    allowed = snapshot.circuit.pods_allowed(NOW)
    virtual = on(plan_cycle(snapshot, policy, NOW), Placement.VIRTUAL_NODE)
    if allowed is not None:
        assert sum(launch.placed.shape.parallelism for launch in virtual) <= allowed


# --- finished when carried out ----------------------------------------------------------------------------------------


@given(some.worlds())
def test_planning_again_at_once_with_the_launches_carried_out_launches_nothing(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    again = plan_cycle(after_launches(snapshot, plan, policy), policy, NOW)
    assert (again.launches, again.rejections) == ((), ())


@given(some.worlds())
def test_the_same_world_gives_the_same_plan(world: World) -> None:
    snapshot, policy = world
    backwards = replace(snapshot, lanes=list(reversed(snapshot.lanes)))
    plan = plan_cycle(snapshot, policy, NOW)
    assert plan_cycle(snapshot, policy, NOW) == plan
    assert plan_cycle(backwards, policy, NOW).launches == plan.launches


@given(some.worlds())
def test_everything_that_waits_is_launched_or_rejected_or_held_with_a_reason(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    taken = sum(len(act.items) for act in (*plan.launches, *plan.rejections))
    retried = [retry for retry in snapshot.retries if retry.name in {launch.retry for launch in plan.launches}]
    waiting = sum(len(lane.items) for lane in snapshot.lanes) + sum(retry.count for retry in snapshot.retries)
    held = sum(hold.count for hold in plan.holds)
    assert waiting == taken + sum(retry.count for retry in retried) + held


# --- order and company ------------------------------------------------------------------------------------------------


@given(some.worlds())
def test_each_lane_goes_from_its_front_in_the_order_of_arrival(world: World) -> None:
    snapshot, policy = world
    taken: dict[LaneKey, list[ItemId]] = {}
    for launch in plan_cycle(snapshot, policy, NOW).launches:
        assert all(LaneKey(item.task, item.tenant, item.priority) == lane_key(launch) for item in launch.items)
        taken.setdefault(lane_key(launch), []).extend(item.id for item in launch.items)
    for lane in snapshot.lanes:
        mine = taken.get(lane.key, [])
        assert mine == [item.id for item in lane.items.values()][: len(mine)]


@given(some.worlds())
def test_batches_are_bounded_by_count_and_bytes_and_retries_go_whole(world: World) -> None:
    snapshot, policy = world
    retries = {retry.name: retry.count for retry in snapshot.retries}
    for launch in plan_cycle(snapshot, policy, NOW).launches:
        if launch.retry is not None:
            assert launch.placed.shape.completions == retries[launch.retry]
            continue
        assert launch.placed.shape.completions == len(launch.items) <= policy.tasks[launch.task].batch_size_max
        assert len(launch.items) == 1 or sum(map(manifest_bytes, launch.items)) <= policy.manifest_bytes_max


@given(some.worlds())
def test_no_lane_gets_a_second_batch_before_another_that_could_go_had_its_first(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    order = [lane_key(launch) for launch in plan.launches if launch.retry is None]
    rounds: Counter[LaneKey] = Counter()
    last = 0
    for key in order:
        rounds[key] += 1
        assert rounds[key] >= last
        last = rounds[key]


@given(some.worlds())
def test_in_the_first_round_higher_priorities_and_then_tenants_served_less_go_first(world: World) -> None:
    snapshot, policy = world
    seen: set[LaneKey] = set()
    turns: list[tuple[float, float]] = []
    for launch in plan_cycle(snapshot, policy, NOW).launches:
        key = lane_key(launch)
        if launch.retry is None and key not in seen:
            seen.add(key)
            weight = policy.tenant_weights.get(key.tenant, 1)
            turns.append((-key.priority, snapshot.active_of_tenant.get(key.tenant, 0) / weight))
    assert turns == sorted(turns)


@given(some.worlds())
def test_only_work_of_a_busy_task_waits_for_company_and_never_longer_than_its_patience(world: World) -> None:
    snapshot, policy = world
    plan = plan_cycle(snapshot, policy, NOW)
    launched = {lane_key(launch) for launch in plan.launches}
    for hold in plan.holds:
        if hold.held.reason is HoldReason.LINGER:
            key = LaneKey(hold.task, hold.tenant, hold.priority)
            assert snapshot.active.get(hold.task, 0) > 0 or key in launched
            assert hold.held.until is not None
            assert hold.held.until > NOW


@given(some.worlds())
def test_what_is_held_until_a_time_is_held_until_a_time_to_come(world: World) -> None:
    snapshot, policy = world
    for hold in plan_cycle(snapshot, policy, NOW).holds:
        assert hold.held.until is None or hold.held.until > NOW


# --- the parts --------------------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(0, 900), max_size=20)


@given(sizes, st.integers(1, 6), st.integers(400, 4000))
def test_batches_of_a_lane_are_the_lane_in_order_and_as_large_as_they_may_be(
    lengths: list[int], count_max: int, bytes_max: int
) -> None:
    waiting = [an_item(number, params_json="x" * length) for number, length in enumerate(lengths, 1)]
    task, lane, taken = a_task(batch_size_max=count_max), lane_of(waiting), 0
    while taken < len(waiting):
        batch = next_batch(lane, taken, task, bytes_max)
        assert batch == waiting[taken : taken + len(batch)]
        assert 1 <= len(batch) <= count_max
        total = sum(map(manifest_bytes, batch))
        assert len(batch) == 1 or total <= bytes_max
        taken += len(batch)
        if len(batch) < count_max and taken < len(waiting):
            assert total + manifest_bytes(waiting[taken]) > bytes_max


nodes = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8)), max_size=4)
pods = st.builds(Resources, st.integers(1, 40).map(lambda n: n * 100), st.integers(1, 40).map(lambda n: n * 10**8))


@given(nodes, st.lists(st.tuples(pods, st.integers(0, 5)), max_size=4), pods)
def test_slots_are_what_fits_node_by_node_and_shrink_as_they_are_taken(
    free: list[tuple[int, int, int]], taken: list[tuple[Resources, int]], pod: Resources
) -> None:
    headroom = NodeHeadroom(tuple(a_node(*node, f"node-{number}") for number, node in enumerate(free)))
    space = NodeSpace(headroom, NodePoolPolicy(), 0)
    fits = sum(
        min(node.free.cpu_millis // pod.cpu_millis, node.free.memory_bytes // pod.memory_bytes, node.pods_free)
        for node in headroom.nodes
    )
    assert space.slots(pod) == fits
    for requests, count in taken:
        before = space.slots(pod)
        space.take(requests, count)
        assert space.slots(pod) <= before
    before = space.slots(pod)
    space.take(pod, before)
    assert space.slots(pod) == 0


@given(some.worlds(), pods)
def test_what_the_address_book_says_fits_can_be_taken(world: World, pod: Resources) -> None:
    snapshot, policy = world
    if policy.virtual_node is None:
        return
    book = AddressBook(snapshot.ledger, policy.virtual_node, NOW)
    count, reason = book.fit(pod)
    book.take(pod, count)
    assert book.fit(pod) == (0, reason)
