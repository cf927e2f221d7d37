"""The coarse world keeps its own laws, the rules do what they are called, and shipped scenarios keep their bounds."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.core.budgets import Budget
from dispatcher.core.policy import Autoscaling, NodePoolPolicy, Policy, VirtualNodePolicy
from dispatcher.core.pricing import NodePrice
from dispatcher.core.units import Money, Resources
from dispatcher.core.work import Task
from dispatcher.errors import BadConfiguration
from dispatcher.simulator.economy.comparing import DECIDERS, Advised, compare, guard_advice, run_one
from dispatcher.simulator.economy.traces import read_trace
from dispatcher.simulator.economy.workload import Workload, from_rows

SCENARIOS = Path(__file__).parents[2] / "config" / "scenarios"
NODE = NodePrice("D8s_v5", Money.from_usd("0.36"), Resources(8000, 32 * 10**9))
POD = Resources(1000, 2 * 10**9)
WIDE = 10**6


def a_policy(start_by: float | None = 60, budget: str | None = None, **place: int) -> Policy:
    objective = None if start_by is None else timedelta(seconds=start_by)
    quotas = {"creates_per_5min": WIDE, "creates_per_hour": WIDE, "groups_max": WIDE, "cores_max": WIDE} | place
    task = Task("work", "i", ("run",), POD, start_by=objective, parallelism_max=WIDE, spill_after=timedelta(0))
    return Policy(
        tasks={"work": task},
        virtual_node=VirtualNodePolicy(**({"subnet_prefix": 16} | quotas)),
        node_pool=NodePoolPolicy(price=NODE, autoscaling=Autoscaling(nodes_max=20)),
        budgets=(Budget("daily", Money.from_usd(budget)),) if budget else (),
        launches_per_cycle_max=1000,
    )


def burst(count: int, run: float = 60.0, every: float = 0.0, at: float = 10.0) -> Workload:
    return from_rows("burst", [(at + every * n, run, 0, 0) for n in range(count)], ("work",), ("acme",), 1)


@pytest.mark.parametrize("name", DECIDERS)
def test_every_item_runs_once_under_everybody(name: str) -> None:
    outcome, _ = run_one(name, burst(40), a_policy(), 1)
    assert len(outcome.waits) == 40
    assert outcome.not_run == 0
    assert outcome.virtual_items <= 40


def test_a_bill_is_what_was_used_and_no_more() -> None:
    outcome, _ = run_one("all-virtual", burst(10), a_policy(), 1)
    assert outcome.nodes_cost == Money(0)
    assert outcome.virtual_cost == Money(int(outcome.virtual_seconds) * Money.from_usd("0.0000146").picos)
    assert 10 * (60 + 10) <= outcome.virtual_seconds <= 10 * (60 + 110 + 1)


def test_a_node_is_billed_from_the_request_to_the_end_of_the_delay() -> None:
    outcome, _ = run_one("cluster-autoscaler", burst(8), a_policy(), 1)
    assert outcome.node_starts == 1
    # Start-up of 144 to 234 s, a minute of work, ten minutes of delay.
    assert 144 + 60 + 600 <= outcome.node_seconds <= 234 + 65 + 600 + 15
    assert outcome.missed_percent == 100.0


def test_the_product_spills_a_burst_and_keeps_steady_work_on_nodes() -> None:
    spilled, _ = run_one("dispatcher", burst(40), a_policy(), 1)
    assert spilled.virtual_items == 40
    steady, _ = run_one("dispatcher", burst(1200, every=6.0, run=90.0), a_policy(), 1)  # fifteen pods for two hours
    assert steady.virtual_items < 900
    assert steady.missed_percent <= 1.0


def test_the_product_keeps_a_budget_and_the_address_book_in_that_world_too() -> None:
    outcome, product = run_one("dispatcher", burst(200), a_policy(budget="0.05"), 1)
    assert outcome.virtual_cost <= Money.from_usd("0.05")
    assert outcome.not_run == 0
    assert product.name == "burst dispatcher"
    outcome, _ = run_one("dispatcher", burst(60), a_policy(subnet_prefix=28), 1)
    assert outcome.addresses_most <= 11


def test_spot_nodes_lose_pods_and_their_work_is_done_again() -> None:
    outcome, _ = run_one("spot", burst(600, run=3000.0, every=20.0), a_policy(), 3)
    assert outcome.lost_pods > 0
    assert len(outcome.waits) == 600


def test_the_same_seed_gives_the_same_run() -> None:
    one, two = (run_one("dispatcher", burst(100, every=2.0), a_policy(), 5)[0] for _ in range(2))
    assert (one.cost, list(one.waits)) == (two.cost, list(two.waits))


def test_where_the_autoscaler_suffices_it_is_said() -> None:
    patient = a_policy(start_by=1800)
    work = burst(900, run=600.0, every=20.0)  # thirty pods for five hours, and half an hour to wait
    found = compare("patient", work, patient, 1, ("cluster-autoscaler", "keda", "dispatcher"))
    assert found.advised is Advised.AUTOSCALER
    assert "you do not need virtual nodes" in found.recommendation


def test_the_guard_advises_steady_work_to_nodes() -> None:
    assert guard_advice(burst(600, run=600.0, every=20.0), a_policy())[0].nodes == 3
    assert guard_advice(burst(40), a_policy()) == []


# --- recorded work ----------------------------------------------------------------------------------------------------


def test_an_event_log_is_work_that_can_be_played(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    at = "2026-03-04T09:00:{:02d}.000000Z"
    of = {"sequence_number": 7, "task": "work", "tenant": "acme"}
    events = [
        {"format": "burst-dispatcher.events", "version": 1, "at": at.format(0)},
        {"event": "item.received", "at": at.format(1), **of},
        {"event": "batch.launched", "at": at.format(3), "job": "burst-a-1"},
        {"event": "item.done", "at": at.format(33), "job": "burst-a-1", **of},
    ]
    log.write_text("".join(json.dumps(each) + "\n" for each in events), encoding="utf-8")
    work = read_trace(log)
    assert (list(work.at), list(work.run), work.tasks, work.tenants) == ([0.0], [30.0], ("work",), ("acme",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("when,run_seconds\n1,2\n", "column at is missing"),
        ("at,run_seconds\n1,soon\n", "line 2: at and run_seconds must be numbers"),
        ("at,run_seconds\n1,0\n", "line 2: run_seconds must be more than 0"),
        ("at,run_seconds\n", "holds no item"),
    ],
)
def test_a_bad_trace_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfiguration, match=said):
        read_trace(path)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_keep_their_bounds(path: Path) -> None:
    policies = ["--policy", "all-virtual", "--policy", "keda", "--policy", "dispatcher"]
    result = CliRunner().invoke(app, ["simulate", str(path), "--check", "--json", *policies])
    assert result.exit_code == 0, result.output
    assert "recommendation" in result.output


def test_bounds_that_are_not_kept_fail_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tight.yaml"
    path.write_text(
        "about: too tight\nlasts: 10m\ntasks: [{name: a, resources: {cpu: 1, memory: 1G}, runs: {median: 30s}, "
        "steady_per_second: 0.05}]\nexpected: {cost_usd_max: 0.0001, advice: nodes}\n",
        encoding="utf-8",
    )
    charts = tmp_path / "charts"
    result = CliRunner().invoke(
        app, ["simulate", str(path), "--check", "--policy", "dispatcher", "--charts", str(charts)]
    )
    assert result.exit_code == 1
    assert "the cost in dollars was" in result.output
    assert "expected nodes" in result.output
    assert (charts / "index.html").exists()
    assert (charts / "cost.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("about: x\n", "needs either tasks or a manifest"),
        ("about: x\nmanifest: a.yaml\nnodes: {nodes_min: 3, nodes_max: 2}\n", "nodes_min is more than nodes_max"),
        ("about: x\nmanifest: a.yaml\nsurprise: 1\n", "surprise"),
        ("about: [\n", "is no YAML"),
    ],
)
def test_a_bad_scenario_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["simulate", str(path)])
    assert result.exit_code == 2
    assert said in result.output
