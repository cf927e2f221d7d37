"""What runs teach, how many nodes the load deserves, and what the guard says of steady work."""

from dispatcher.core.baseline import SAMPLE, Baseline, Load
from dispatcher.core.experience import Experience, Seen
from dispatcher.core.learning import KNOWN_FROM, Learned, Spans
from dispatcher.core.policy import Autoscaling, GuardAction, GuardPolicy, NodePoolPolicy, Policy
from dispatcher.core.pricing import NodePrice
from dispatcher.core.units import Money, Resources
from dispatcher.core.work import Placement
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_policy, a_task

NODE = NodePrice("D8s_v5", Money.from_usd("0.36"), Resources(8000, 32 * 10**9))
"""Eight pods of one core; $0.0001 a second."""
POOL = Autoscaling(nodes_max=20)
NODE_SECOND = Money.from_usd("0.0001")


def a_pool_policy(**changes: object) -> Policy:
    return a_policy(node_pool=NodePoolPolicy(price=NODE, autoscaling=POOL), **changes)


# --- durations --------------------------------------------------------------------------------------------------------


def test_quantiles_are_at_most_a_fifth_too_long_and_never_too_short() -> None:
    spans = Spans()
    for number in range(1, 101):
        spans.add(number * SECOND)
    for percent in (1, 50, 95, 100):
        assert percent * SECOND <= spans.quantile(percent) <= percent * SECOND * 1.2
    assert spans.mean == 50.5 * SECOND


def test_old_durations_are_forgotten() -> None:
    spans = Spans()
    for _ in range(3000):
        spans.add(HOUR)
    for _ in range(6000):
        spans.add(SECOND)
    assert spans.quantile(75) <= 1.2 * SECOND
    assert spans.count <= 2000


def test_too_few_runs_teach_nothing() -> None:
    learned = Learned()
    for number in range(KNOWN_FROM):
        assert learned.run("report", Placement.NODE_POOL, 50) is None, number
        assert learned.start("report", Placement.NODE_POOL, 50, MINUTE) == MINUTE
        learned.ran("report", Placement.NODE_POOL, 10 * SECOND)
        learned.started("report", Placement.NODE_POOL, SECOND)
    assert learned.mean_run("report") == 10 * SECOND
    assert learned.start("report", Placement.NODE_POOL, 50, MINUTE) <= 1.2 * SECOND
    assert learned.run("report", Placement.VIRTUAL_NODE, 50) is None


# --- how many nodes ---------------------------------------------------------------------------------------------------


def wanted_after(hours: float, milli_nodes: int, premium: str, *, stuck: int = 0) -> int:
    """The same load for so long, where the virtual node costs so many times what a full node does."""
    baseline, now = Baseline(POOL, NODE), NOW
    elsewhere = Money(int(float(premium) * NODE_SECOND.picos * milli_nodes / 1000))
    for _ in range(int(HOUR * hours / SAMPLE)):
        baseline.sample(Load(milli_nodes, elsewhere), stuck, now)
        now += SAMPLE
    assert baseline.wanted is not None
    return baseline.wanted.nodes


def test_a_steady_load_is_given_the_nodes_that_it_fills() -> None:
    assert wanted_after(6, 4000, "4") == 4
    assert wanted_after(6, 4000, "1.3") == 4


def test_where_the_virtual_node_is_cheaper_no_node_is_wanted_however_steady_the_load() -> None:
    assert wanted_after(6, 4000, "0.9") == 0


def test_a_node_must_be_filled_to_pay() -> None:
    assert wanted_after(6, 400, "1.3") == 0


def test_what_the_virtual_node_does_not_take_is_given_nodes_and_no_more_than_there_may_be() -> None:
    assert wanted_after(0.1, 400, "0.9", stuck=2500) == 3
    assert wanted_after(0.1, 400, "0.9", stuck=10**6) == POOL.nodes_max


def test_a_burst_that_ends_before_nodes_start_wants_none_at_list_prices() -> None:
    baseline, now, most = Baseline(POOL, NODE), NOW, 0
    for sample in range(240 * 4):
        load = 8000 if sample % 240 < 8 else 0
        wanted = baseline.sample(Load(load, Money(NODE_SECOND.picos * load * 12 // 10_000)), 0, now)
        most = max(most, wanted.nodes)
        now += SAMPLE
    assert most == 0


# --- steady work ------------------------------------------------------------------------------------------------------


def seen_for(experience: Experience, pods: int, minutes: int, every: int = 1) -> None:
    """So many pods of ``report`` on the virtual node, in one of ``every`` samples, for so long."""
    now = NOW
    for number in range(int(minutes * MINUTE / SAMPLE)):
        busy = pods if number % every == 0 else 0
        experience.sample(Seen(on_virtual_node={"report": busy}), now)
        now += SAMPLE


def test_steady_work_is_advised_to_nodes_with_both_lines_and_the_money() -> None:
    experience = Experience(a_pool_policy())
    seen_for(experience, 16, 120)
    (advice,) = experience.advice
    assert (advice.task, advice.steady_pods, advice.nodes) == ("report", 16, 2)
    # $0.0000146 a pod and second on the virtual node, $0.36 an hour for eight on a node.
    assert advice.break_even_permille == 856
    assert "rule of thumb: at most 50 %" in advice.sentence
    assert "pays from 85 % use on: 2 of them ($17.28 a day) would replace $20.18 a day" in advice.sentence


def test_the_rule_of_thumb_and_break_even_differ() -> None:
    experience = Experience(a_pool_policy())
    seen_for(experience, 4, 120)
    (advice,) = experience.advice
    assert advice.is_steady
    assert advice.nodes == 0  # half a node full
    assert "no node would be cheaper: leave it there" in advice.sentence


def test_bursts_are_no_steady_work() -> None:
    experience = Experience(a_pool_policy())
    seen_for(experience, 16, 120, every=4)
    assert experience.advice == ()


def test_nothing_is_said_too_early_nor_of_work_that_may_run_nowhere_else() -> None:
    early = Experience(a_pool_policy())
    seen_for(early, 16, 30)
    assert early.advice == ()
    task = a_task(placements=(Placement.VIRTUAL_NODE,))
    there_only = Experience(a_policy(task, node_pool=NodePoolPolicy(price=NODE)))
    seen_for(there_only, 16, 120)
    assert there_only.advice == ()


def test_operators_may_have_steady_work_kept_off() -> None:
    for action, kept in ((GuardAction.ADVISE, frozenset()), (GuardAction.STOP, frozenset({"report"}))):
        experience = Experience(a_pool_policy(guard=GuardPolicy(action=action)))
        seen_for(experience, 16, 120)
        assert experience.kept_off == kept


def test_a_changed_pool_begins_anew_and_what_was_learned_stays() -> None:
    experience = Experience(a_pool_policy())
    experience.learned.ran("report", Placement.NODE_POOL, SECOND)
    before, learned = experience.baseline, experience.learned
    experience.adopt(a_pool_policy())
    assert experience.baseline is before
    experience.adopt(a_policy(node_pool=NodePoolPolicy(price=NODE, autoscaling=Autoscaling(nodes_max=3))))
    assert experience.baseline is not before
    experience.adopt(a_policy())
    assert experience.baseline is None
    assert experience.learned is learned
    assert experience.wanted is None
