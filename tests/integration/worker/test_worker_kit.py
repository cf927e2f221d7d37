"""What the worker kit does with a pod's items, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import psutil
import pytest
from kit_run import POD, PodFolder, ReportQueue

from dispatcher.core.failures import FailureCause
from dispatcher.core.reports import ReportedOutcome
from dispatcher.core.units import UTC, to_text

DONE, FAILED = ReportedOutcome.DONE, ReportedOutcome.FAILED
MakePod = Callable[..., PodFolder]


async def test_each_item_of_the_pods_share_is_run_once_and_reported(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(8, index=1, pods=3)
    ended = await pod.run(
        'cat "$BURST_ITEM_FILE" >/dev/null && echo "$JOB_COMPLETION_INDEX" >>"$OUT/ran"; echo "says $BURST_ATTEMPT";'
        'echo "https://results/$BURST_SEQUENCE_NUMBER" >"$BURST_RESULT_FILE";'
        '[ "$JOB_COMPLETION_INDEX" != 4 ] || exit 3'
    )
    assert ended.code == 0
    assert pod.lines("ran") == ["1", "4", "7"]
    told = [(each.position, each.sequence_number, each.outcome, each.exit_code) for each in queue.reports]
    assert told == [(1, 101, DONE, 0), (4, 104, FAILED, 3), (7, 107, DONE, 0)]
    done, failed, _ = queue.reports
    assert (done.batch, done.attempt, done.pod, done.queue, done.digest) == ("k2x9", 2, POD, "work", f"{1:064x}")
    assert (failed.cause, failed.message, failed.log_tail) == (FailureCause.APPLICATION, "exit code 3", "says 2\n")
    assert done.result_ref == "https://results/101"
    assert done.started_at is not None
    assert done.finished_at is not None
    assert timedelta(0) <= done.finished_at - done.started_at < timedelta(minutes=1)
    assert ended.said.count("says 2") == 3


async def test_a_program_made_for_one_item_a_pod_finds_its_item_and_its_trace(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    facts = json.loads((pod.items / "1.json").read_text())
    traced = {**facts, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "x=y"}
    (pod.items / "1.json").write_text(json.dumps(traced))
    await pod.run(
        'grep -o "item-[0-9]" "$BURST_ITEMS_DIR/$JOB_COMPLETION_INDEX.json" >>"$OUT/ids";'
        'echo "${TRACEPARENT-none}" >>"$OUT/traces"; echo "${BURST_PODS-unset}" >>"$OUT/pods"'
    )
    assert pod.lines("ids") == ["item-0", "item-1"]
    assert pod.lines("traces") == ["none", traced["traceparent"]]
    assert pod.lines("pods") == ["unset", "unset"]


async def test_with_one_item_a_pod_the_kit_is_the_command(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(2, index=1)
    pod.connection_file.unlink()
    ended = await pod.run('echo "item $JOB_COMPLETION_INDEX"; exit 7', BURST_PODS=None, BURST_BATCH=None)
    assert (ended.code, ended.said) == (7, "item 1\n")
    ended = await pod.run("kill -9 $$", BURST_PODS=None)
    assert ended.code == -signal.SIGKILL
    assert queue.seen == []


async def test_a_program_that_cannot_be_started_fails_its_items_as_the_templates_fault(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    assert (await pod.run(["no-such-program", "--now"])).code == 0
    assert [(each.outcome, each.cause, each.exit_code) for each in queue.reports] == [
        (FAILED, FailureCause.TEMPLATE, None)
    ] * 2
    assert queue.reports[0].message == "cannot start no-such-program: No such file or directory"


async def test_an_item_that_runs_too_long_is_ended_with_all_it_started_and_the_next_one_runs(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    script = (
        '[ "$JOB_COMPLETION_INDEX" = 1 ] && exit 0;'
        'sh -c "trap : TERM; echo \\$\\$ >>$OUT/pids; while :; do sleep 1; done" & sleep 600'
    )
    ended = await pod.run(script, BURST_ITEM_TIMEOUT="1.5")
    assert ended.code == 0
    first, second = queue.reports
    assert (first.outcome, first.cause, second.outcome) == (FAILED, FailureCause.ITEM_TIMEOUT, DONE)
    assert first.message == "ran longer than the task's item_timeout, and was stopped (ended by SIGTERM)"
    assert not any(psutil.pid_exists(int(pid)) and _runs(int(pid)) for pid in pod.lines("pids"))


async def test_what_a_run_leaves_behind_is_ended_before_the_next_one(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(2)
    script = (
        'for pid in $(cat "$OUT/left" 2>/dev/null); do cut -d" " -f3 "/proc/$pid/stat" >>"$OUT/states"; done;'
        'setsid sleep 600 & echo $! >>"$OUT/left"; exit 0'
    )
    assert (await pod.run(script)).code == 0
    assert [each.outcome for each in queue.reports] == [DONE, DONE]
    assert len(pod.lines("left")) == 2
    assert pod.lines("states") in ([], ["Z"], ["X"])
    assert not any(psutil.pid_exists(int(pid)) and _runs(int(pid)) for pid in pod.lines("left"))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- being told to stop --------------------------------------------------------------------------------------------


async def test_after_sigterm_the_item_under_way_is_finished_and_no_further_one_begun(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(3)
    running = await pod.start('echo "$JOB_COMPLETION_INDEX" >>"$OUT/ran"; until [ -e "$OUT/go" ]; do sleep 0.05; done')
    await pod.until_line("ran", "0")
    running.signal(signal.SIGTERM)
    running.signal(signal.SIGTERM)
    (pod.path / "go").touch()
    ended = await running.end()
    assert ended.code == 0
    assert [(each.position, each.outcome) for each in queue.reports] == [(0, DONE)]
    assert pod.lines("ran") == ["0"]
    assert "stops before position 1" in ended.said


async def test_an_item_that_does_not_end_within_the_grace_is_ended_and_reported_as_stopped(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    running = await pod.start('trap "exit 1" TERM; echo "$$" >>"$OUT/ran"; while :; do sleep 0.1; done', "--grace", "3")
    await queue.until(lambda: bool(pod.lines("ran")))
    running.signal(signal.SIGTERM)
    assert (await running.end()).code == 0
    (report,) = queue.reports
    assert (report.outcome, report.cause, report.exit_code) == (FAILED, FailureCause.CANCELLED, 1)


async def test_a_run_that_the_signal_reached_too_did_not_fail_by_itself(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(2)
    running = await pod.start('trap "exit 1" TERM; echo "$$" >>"$OUT/ran"; while :; do sleep 0.05; done')
    await queue.until(lambda: bool(pod.lines("ran")))
    running.signal(signal.SIGTERM)
    os.kill(int(pod.lines("ran")[0]), signal.SIGTERM)
    assert (await running.end()).code == 0
    (report,) = queue.reports
    assert (report.cause, report.exit_code) == (FailureCause.CANCELLED, 1)


async def test_the_pod_ends_by_itself_at_its_deadline_with_code_0(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(3)
    stop_at = time.time() + 14  # ten of them are kept for the end of a run and its report
    running = await pod.start("sleep 600", BURST_STOP_AT=_instant(stop_at))
    ended = await running.end()
    assert ended.code == 0
    assert time.time() < stop_at
    (report,) = queue.reports
    assert (report.position, report.outcome, report.cause) == (0, FAILED, FailureCause.CANCELLED)
    ended = await pod.run("exit 0", BURST_STOP_AT=_instant(time.time() - 5))
    assert ended.code == 0
    assert len(queue.reports) == 1


def _instant(seconds: float) -> str:
    return to_text(datetime.fromtimestamp(seconds, UTC))


async def test_what_had_ended_before_the_kit_was_killed_is_told(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(3)
    running = await pod.start('echo "$$" >>"$OUT/ran"; [ "$JOB_COMPLETION_INDEX" = 0 ] || exec sleep 600')
    await queue.until(lambda: len(pod.lines("ran")) == 2 and len(queue.reports) == 1)
    running.signal(signal.SIGKILL)
    os.kill(int(pod.lines("ran")[1]), signal.SIGKILL)
    assert (await running.end()).code == -signal.SIGKILL
    assert [(each.position, each.outcome) for each in queue.reports] == [(0, DONE)]


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"JOB_COMPLETION_INDEX": None}, "JOB_COMPLETION_INDEX is not set"),
        ({"JOB_COMPLETION_INDEX": "-1"}, "JOB_COMPLETION_INDEX is '-1'"),
        ({"JOB_COMPLETION_INDEX": "9"}, "/9.json; is the record mounted"),
        ({"BURST_PODS": "0"}, "BURST_PODS is '0'"),
        ({"BURST_PODS": "many"}, "BURST_PODS is 'many'"),
        ({"BURST_BATCH": None}, "BURST_BATCH is not set"),
        ({"BURST_ATTEMPT": "one"}, "BURST_ATTEMPT is 'one'"),
        ({"BURST_POD_UID": None}, "BURST_POD_UID is not set"),
        ({"BURST_ITEM_TIMEOUT": "0"}, "BURST_ITEM_TIMEOUT is '0'"),
        ({"BURST_STOP_AT": "tomorrow"}, "BURST_STOP_AT is 'tomorrow'"),
        ({"BURST_REPORTS_DIR": "/nowhere"}, "/nowhere/connection-string cannot be read"),
    ],
)
async def test_what_cannot_be_worked_with_is_told_in_a_line_and_nothing_is_begun(
    a_pod: MakePod, queue: ReportQueue, changes: dict[str, str | None], told: str
) -> None:
    pod = a_pod(1)
    ended = await pod.run('echo ran >>"$OUT/ran"', **changes)
    assert ended.code == 2
    assert told in ended.said
    assert ended.said.count("\n") == 1
    assert pod.lines("ran") == []
    assert queue.seen == []


async def test_a_file_that_is_no_item_costs_only_that_item(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(3)
    (pod.items / "0.json").write_text("{")
    (pod.items / "1.json").write_text('{"queue": "work"}')
    ended = await pod.run("exit 0")
    assert ended.code == 1
    assert [each.position for each in queue.reports] == [2]
    assert "1.json lacks sequence_number" in ended.said


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "no command"), (["--grace", "no"], "--grace"), (["--report-wait", "-1"], "--report-wait"), (["--x"], "--x")],
)
async def test_a_command_line_that_is_none_is_refused(words: list[str], told: str, a_pod: MakePod) -> None:
    ended = await a_pod(1).run([] if not words else ["true"], *words)
    assert ended.code == 2
    assert told in ended.said
