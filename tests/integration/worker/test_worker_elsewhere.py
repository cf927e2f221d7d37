"""The kit as one file, and a worker that is not the kit: both through the broker's REST interface."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from azure.servicebus.aio import ServiceBusClient
from kit_run import PodFolder, ReportQueue, status
from typer.testing import CliRunner

from dispatcher.cli import app
from dispatcher.core.failures import FailureCause
from dispatcher.core.reports import ReportedOutcome, read_report
from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, QueueConfig, Right

ROOT = Path(__file__).parents[3]
SHELL_WORKER = ROOT / "examples" / "workers" / "worker.sh"
DONE, FAILED = ReportedOutcome.DONE, ReportedOutcome.FAILED
MakePod = Callable[..., PodFolder]


def made(folder: Path) -> Path:
    output = folder / "burst-worker.pyz"
    result = CliRunner().invoke(app, ["worker-kit", "--output", str(output)])
    assert (result.exit_code, result.stdout) == (0, f"{output}\n")
    return output


async def test_the_kit_is_one_file_that_needs_nothing_else(tmp_path: Path, a_pod: MakePod, queue: ReportQueue) -> None:
    first = made(tmp_path).read_bytes()
    kit = made(tmp_path)
    assert kit.read_bytes() == first
    pod = a_pod(4, pods=2)
    program = (sys.executable, "-I", str(kit))  # neither this folder nor what is installed for the user
    ended = await (await pod.start('[ "$JOB_COMPLETION_INDEX" = 0 ]', program=program)).end()
    assert ended.code == 0, ended.said
    assert [(each.position, each.outcome) for each in queue.reports] == [(0, DONE), (2, FAILED)]


def test_a_kit_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["worker-kit", "--output", str(tmp_path / "no" / "kit.pyz")])
    assert result.exit_code == 1
    assert "No such file or directory" in result.output


async def test_the_worker_in_shell_reports_as_the_kit_does(a_pod: MakePod) -> None:
    config = BrokerConfig(
        queues=(QueueConfig("reports"),),
        access_policies=(AccessPolicy("send", "s+nd/only==", frozenset({Right.SEND}), "reports"),),
    )
    pod = a_pod(7, pods=2)
    async with Broker(config) as broker:
        pod.connection_file.write_text(
            f"Endpoint={broker.endpoint}/;SharedAccessKeyName=send;SharedAccessKey=s+nd/only==;"
            "EntityPath=reports;UseDevelopmentEmulator=true\n"
        )
        script = "case $JOB_COMPLETION_INDEX in 2) exit 3;; 4) sleep 60;; 6) exec no-such-program;; esac"
        running = await pod.start(script, program=("sh", str(SHELL_WORKER)), BURST_ITEM_TIMEOUT="1")
        ended = await running.end()
        assert ended.code == 0, ended.said
        async with (
            ServiceBusClient.from_connection_string(broker.connection_string) as client,
            client.get_queue_receiver("reports") as receiver,
        ):
            messages = await receiver.receive_messages(max_message_count=10, max_wait_time=20)
    reports = [read_report(b"".join(message.body)) for message in messages]
    assert [(each.position, each.outcome, each.cause) for each in reports] == [
        (0, DONE, None),
        (2, FAILED, FailureCause.APPLICATION),
        (4, FAILED, FailureCause.ITEM_TIMEOUT),
        (6, FAILED, FailureCause.TEMPLATE),
    ]
    assert [(each.sequence_number, each.digest) for each in reports] == [(100 + n, f"{n:064x}") for n in (0, 2, 4, 6)]
    assert [message.message_id for message in messages] == [each.message_id for each in reports]


async def test_the_worker_in_shell_sends_again_what_was_not_taken(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(1)
    queue.script = [status(503)]
    running = await pod.start("true", program=("sh", str(SHELL_WORKER)))
    assert (await running.end()).code == 0
    assert [each.outcome for each in queue.reports] == [DONE]
    assert len(queue.seen) == 2


def test_the_guide_shows_that_very_worker() -> None:
    guide = (ROOT / "docs" / "worker.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", guide, re.DOTALL)
    assert shown == SHELL_WORKER.read_text(encoding="utf-8")
