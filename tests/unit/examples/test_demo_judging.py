"""The judge sums up what happened, and no broken run gets past it."""

from dataclasses import replace
from typing import Any

import judging
import pytest
from judging import Artifact, DeadLetter, Evidence, Run, judge

LEDGER = {
    "event": "ledger.written",
    "at": "2026-01-01T00:00:00Z",
    "limit_usd": "0.50",
    "spent_usd": "0.10",
    "reserved_usd": "0.20",
    "addresses_in_use": 7,
    "addresses_usable": 11,
    "over_limit": False,
}


def a_run(item: str = "a", batch: str = "b1", attempt: int = 1, started: float = 0.0, **changes: Any) -> Run:
    """A run of one second that ended well."""
    run = Run(item, batch, attempt, index=0, pid=1, started=started, ended=started + 1.0, ok=True)
    return replace(run, **changes)


def a_launch(batch: str, attempt: int = 1, placement: str = "node_pool") -> dict[str, Any]:
    job = f"burst-{batch}-{attempt}"
    return {
        "event": "batch.launched",
        "batch": batch,
        "attempt": attempt,
        "job": job,
        "placement": placement,
        "items": 2,
    }


def an_artifact(item: str, **changes: Any) -> dict[str, list[Artifact]]:
    return {item: [replace(Artifact(f"{item}.html", digest=f"digest of {item}"), **changes)]}


def some_evidence(**changes: Any) -> Evidence:
    """A run in which all went well: `a` is plain, `b` is flaky and was retried, `x` was poison."""
    evidence = Evidence(
        kinds={"a": "plain", "b": "flaky", "x": "poison"},
        runs=[a_run("a"), a_run("b", ok=False), a_run("b", "b2", attempt=2, started=5.0)],
        events=[
            a_launch("b1"),
            a_launch("b2", attempt=2, placement="virtual_node"),
            {"event": "item.retried", "item": "b", "cause": "application", "allowance": "item"},
            {"event": "batch.held", "reason": "node_headroom", "task": "report", "tenant": "acme", "items": 3},
            {"event": "batch.held", "reason": "node_headroom", "task": "report", "tenant": "acme", "items": 1},
            {"event": "batch.held", "reason": "budget_exhausted", "task": "report", "tenant": "acme", "items": 3},
            LEDGER | {"reserved_usd": "0.35", "addresses_in_use": 9},
            LEDGER,
            {"event": "attempt.closed", "job": "burst-b1-1", "placement": "node_pool", "cost_usd": "0.5"},
            {"event": "attempt.closed", "job": "burst-b2-2", "placement": "virtual_node", "cost_usd": "0.0125"},
        ],
        artifacts=an_artifact("a") | an_artifact("b"),
        left_in_queue=[],
        dead_letters=[DeadLetter("x", "bad_json", "Expecting value: line 1")],
        seconds=12.34,
    )
    return replace(evidence, **changes)


def without(evidence: Evidence, event: str) -> list[dict[str, Any]]:
    return [each for each in evidence.events if each["event"] != event]


def test_a_good_run_is_summed_up_without_problems() -> None:
    verdict = judge(some_evidence())
    assert verdict.problems == []
    assert verdict.summary == {
        "items": {"enqueued": 3, "succeeded": 2, "dead_lettered": 1},
        "batches": 2,
        "placements": {
            "node_pool": {"batches": 1, "items": 1},
            "virtual_node": {"batches": 1, "items": 1, "cost_usd": 0.0125},
        },
        "held": {"budget_exhausted": 1, "node_headroom": 2},
        "retries": {"item": 1, "platform": 0},
        "budget": {"limit_usd": 0.5, "spent_usd": 0.1, "reserved_peak_usd": 0.35},
        "subnet": {"usable": 11, "in_use_peak": 9},
        "outcomes": {"asked": 0, "told": 0},
        "overlapping_attempts": 0,
        "seconds": 12.3,
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"artifacts": an_artifact("a")}, "neither done nor dead-lettered: b (left no artifact)"),
        (
            {"artifacts": an_artifact("a") | an_artifact("b", problem="has no chart")},
            "neither done nor dead-lettered: b (b.html: has no chart)",
        ),
        (
            {"artifacts": an_artifact("a") | an_artifact("b", digest="digest of a")},
            "neither done nor dead-lettered: a (its artifact is the same as that of b), "
            "b (its artifact is the same as that of a)",
        ),
        (
            {"artifacts": an_artifact("b") | {"a": [Artifact("a.jpg", "1"), Artifact("a.html", "2")]}},
            "neither done nor dead-lettered: a (left 2 artifacts)",
        ),
        (
            {"runs": [a_run("a"), a_run("b", ok=False)]},
            "neither done nor dead-lettered: b (has an artifact, and no run of it ended well)",
        ),
        ({"left_in_queue": ["stranger"]}, "still in the queue: stranger"),
        (
            {"left_in_queue": ["a"]},
            "neither done nor dead-lettered: a (is done, and its message is still in the queue)",
        ),
        (
            {"dead_letters": [DeadLetter("x", "bad_json", ""), DeadLetter("a", "no_reason_at_all", "")]},
            "done and dead-lettered as well: a",
        ),
        (
            {
                "dead_letters": [DeadLetter("x", "bad_json", ""), DeadLetter("b", "application", "")],
                "artifacts": an_artifact("a"),
            },
            "dead-lettered and did not deserve it: b",
        ),
        ({"dead_letters": []}, "cannot work and was not dead-lettered: x"),
        ({"dead_letters": [DeadLetter("x", "bad_json", "")] * 2}, "dead-lettered more than once: x"),
        ({"dead_letters": [DeadLetter("x", "", "")]}, "dead-lettered without a reason: x"),
        (
            {"runs": [*some_evidence().runs, a_run("a", "b9", attempt=4, started=50.0)]},
            "ran without a batch.launched in the event log: b9 attempt 4",
        ),
        (
            {"runs": [*some_evidence().runs, a_run("a", "b2", attempt=2, started=0.5)]},
            "ran twice at the same time: a (attempts 1 and 2)",
        ),
        (
            {"events": [*some_evidence().events, LEDGER | {"reserved_usd": "0.4000001"}]},
            "the budget was passed: 2026-01-01T00:00:00Z: 0.10 spent + 0.4000001 reserved > 0.50 USD",
        ),
        (
            {"events": [*some_evidence().events, LEDGER | {"addresses_in_use": 12}]},
            "the subnet was passed: 2026-01-01T00:00:00Z: 12 in use of 11",
        ),
        (
            {"events": without(some_evidence(), "ledger.written")},
            "the event log has no ledger.written: nothing is known about money and addresses",
        ),
        ({"asked": {"a"}}, "asked to hear of its end and did not: a"),
        ({"outcomes": {"a": ["done"]}}, "heard of its end without having asked: a"),
        ({"asked": {"a"}, "outcomes": {"a": ["done", "dead_lettered"]}}, "heard of two different ends: a"),
        ({"asked": {"x"}, "outcomes": {"x": ["done"]}}, "heard that it was done, and is dead-lettered: x"),
        ({"asked": {"a"}, "outcomes": {"a": ["dead_lettered"]}}, "heard that it was dead-lettered, and is not: a"),
    ],
)
def test_a_broken_run_is_named(changes: dict[str, Any], problem: str) -> None:
    assert problem in judge(some_evidence(**changes)).problems


def test_whoever_asked_may_hear_of_the_same_end_more_than_once() -> None:
    evidence = some_evidence(asked={"a", "x"}, outcomes={"a": ["done", "done"], "x": ["dead_lettered"]})
    assert judge(evidence).problems == []
    assert judge(evidence).summary["outcomes"] == {"asked": 2, "told": 2}


def test_a_limit_reached_to_the_cent_is_not_passed() -> None:
    assert judging.ledger_problems([LEDGER | {"spent_usd": "0.30", "reserved_usd": "0.20"}]) == []


def test_messages_of_others_in_the_dead_letter_queue_are_not_counted() -> None:
    letters = [DeadLetter("x", "bad_json", ""), DeadLetter("of an earlier run", "", "")]
    verdict = judge(some_evidence(dead_letters=letters))
    assert verdict.summary["items"]["dead_lettered"] == 1
    assert verdict.problems == []


def test_a_restart_inside_a_job_counts_as_a_retry_of_the_item() -> None:
    runs = [a_run("a", ok=False), a_run("a", started=2.0), *some_evidence().runs[1:]]
    assert judge(some_evidence(runs=runs)).summary["retries"] == {"item": 2, "platform": 0}


def test_a_restart_inside_a_job_that_the_service_told_of_counts_once() -> None:
    runs = [a_run("b", ok=False), a_run("b", started=2.0)]
    assert judging.retries(some_evidence(runs=runs)) == {"item": 1, "platform": 0}


def test_retries_of_the_platform_are_counted_apart() -> None:
    lost = {"event": "item.retried", "item": "a", "cause": "node_lost", "allowance": "platform"}
    evidence = some_evidence(events=[*some_evidence().events, lost, lost])
    assert judging.retries(evidence) == {"item": 1, "platform": 2}


def test_an_item_counts_where_it_succeeded_and_every_item_that_ran_counts_once() -> None:
    places = judge(some_evidence(runs=[a_run("a", ok=False), a_run("b", "b2", attempt=2), a_run("b", started=9.0)]))
    assert places.summary["placements"]["node_pool"]["items"] == 1
    assert places.summary["placements"]["virtual_node"]["items"] == 1


def test_a_batch_that_was_placed_twice_counts_in_both_placements_and_once_in_all() -> None:
    events = [a_launch("b1"), a_launch("b1", attempt=2, placement="virtual_node"), LEDGER]
    summary = judge(some_evidence(events=events)).summary
    assert summary["batches"] == 1
    assert [summary["placements"][place]["batches"] for place in ("node_pool", "virtual_node")] == [1, 1]


def test_an_attempt_that_was_closed_again_after_a_restart_costs_once() -> None:
    events = some_evidence().events
    assert (
        judge(some_evidence(events=[*events, events[-1]])).summary["placements"]["virtual_node"]["cost_usd"] == 0.0125
    )


# --- runs ------------------------------------------------------------------------------------------------------


def a_line(event: str, at: float, **changes: Any) -> dict[str, Any]:
    return {"item": "a", "batch": "b1", "attempt": 1, "index": 0, "pid": 1, "event": event, "at": at, **changes}


def test_starts_and_ends_are_joined_by_pod() -> None:
    lines = [
        a_line("start", 1.0),
        a_line("start", 2.0, item="b", index=1),
        a_line("end", 3.0, ok=True),
        a_line("end", 4.0, item="b", index=1, ok=False),
    ]
    assert judging.pair_runs(lines) == [
        Run("a", "b1", 1, 0, 1, started=1.0, ended=3.0, ok=True),
        Run("b", "b1", 1, 1, 1, started=2.0, ended=4.0, ok=False),
    ]


def test_a_killed_run_has_no_end_and_its_restart_has_its_own() -> None:
    killed, restarted = judging.pair_runs([a_line("start", 1.0), a_line("start", 2.0), a_line("end", 3.0, ok=True)])
    assert killed.ended is None
    assert (restarted.started, restarted.ended) == (2.0, 3.0)
    assert judging.overlapping([killed, restarted]) == []


def test_an_end_without_a_start_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="item a ended in batch b1 without having started"):
        judging.pair_runs([a_line("end", 3.0, ok=True)])


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((0.0, 1.0), (2.0, 3.0), False),
        ((0.0, 2.0), (1.0, 3.0), True),
        ((1.0, 3.0), (0.0, 2.0), True),
        ((0.0, 9.0), (2.0, 3.0), True),
        ((0.0, 2.0), (1.0, None), True),
        ((0.0, 2.0), (3.0, None), False),
        ((0.0, None), (1.0, None), False),
    ],
)
def test_runs_overlap_when_both_were_under_way(
    one: tuple[float, float | None], other: tuple[float, float | None], overlap: bool
) -> None:
    runs = [a_run(started=started, ended=ended) for started, ended in (one, other)]
    assert bool(judging.overlapping(runs)) is overlap


def test_runs_of_different_items_may_be_under_way_together() -> None:
    assert judging.overlapping([a_run("a"), a_run("b")]) == []


# --- reading and telling ---------------------------------------------------------------------------------------


def test_only_the_last_line_of_a_log_may_be_torn() -> None:
    assert judging.read_json_lines('{"a": 1}\n{"b"', "log") == [{"a": 1}]
    with pytest.raises(ValueError, match="log, line 1: not JSON"):
        judging.read_json_lines('{"a"\n{"b": 1}\n', "log")
    with pytest.raises(ValueError, match="log, line 1: not JSON"):
        judging.read_json_lines('{"a"\n', "log")


def test_a_problem_names_the_first_few() -> None:
    assert judging.named("lost", "gfedcba") == ["lost: a, b, c, d, e and 2 more"]
    assert judging.named("lost", []) == []


def test_the_table_tells_the_summary() -> None:
    told = judging.table(judge(some_evidence()).summary)
    assert "3 enqueued = 2 done + 1 dead-lettered" in told
    assert "1 batches, 1 items, $0.0125" in told
    assert "budget_exhausted 1x, node_headroom 2x" in told
    assert "$0.1000 spent of $0.5000, at most $0.3500 reserved" in told


def test_the_table_can_be_told_without_a_ledger() -> None:
    evidence = some_evidence(events=without(some_evidence(), "ledger.written"))
    assert "unknown spent of unknown" in judging.table(judge(evidence).summary)
