"""That reports arrive: whatever the queue and the network do, and what the kit does when they cannot."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from azure.servicebus.aio import ServiceBusClient
from kit_run import Answerer, PodFolder, ReportQueue, Taken, accepts, drops, status

from dispatcher.core.reports import ReportedOutcome, read_report
from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, Fault, QueueConfig, Right
from dispatcher.worker.service_bus import read_access, send
from tests.identities import a_certificate

DONE, FAILED = ReportedOutcome.DONE, ReportedOutcome.FAILED
MakePod = Callable[..., PodFolder]


async def test_reports_travel_by_the_brokers_rest_interface_to_the_real_sdk(a_pod: MakePod) -> None:
    config = BrokerConfig(
        queues=(QueueConfig("reports"),),
        access_policies=(AccessPolicy("send", "send-only", frozenset({Right.SEND}), "reports"),),
    )
    pod = a_pod(3)
    async with Broker(config) as broker:
        pod.connection_file.write_text(
            f"Endpoint={broker.endpoint};SharedAccessKeyName=send;SharedAccessKey=send-only;"
            "EntityPath=reports;UseDevelopmentEmulator=true"
        )
        broker.faults.arm(Fault.THROTTLE, queue="reports", value=1)  # one at once, another every second
        ended = await pod.run('[ "$JOB_COMPLETION_INDEX" != 1 ]')
        assert ended.code == 0, ended.said
        broker.faults.disarm()
        async with (
            ServiceBusClient.from_connection_string(broker.connection_string) as client,
            client.get_queue_receiver("reports") as receiver,
        ):
            messages = await receiver.receive_messages(max_message_count=10, max_wait_time=20)
        assert broker.counts("reports").entered == 3
    reports = [read_report(b"".join(message.body)) for message in messages]
    assert [(each.position, each.outcome) for each in reports] == [(0, DONE), (1, FAILED), (2, DONE)]
    assert [message.message_id for message in messages] == [each.message_id for each in reports]
    assert {message.content_type for message in messages} == {"application/json"}
    assert "told to" not in ended.said


async def test_reports_go_by_https_to_a_certificate_that_is_trusted_and_to_no_other(
    a_pod: MakePod, tmp_path: Path
) -> None:
    tls = a_certificate(tmp_path)
    pod = a_pod(1)
    async with Broker(BrokerConfig(queues=(QueueConfig("reports"),), tls=tls)) as broker:
        pod.connection_file.write_text(
            f"Endpoint=sb://localhost:{broker.port}/;SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=loopback-only;EntityPath=Reports"
        )
        ended = await pod.run("exit 0", "--report-wait", "1")
        assert ended.code == 1
        assert "its certificate is not trusted" in ended.said
        assert broker.counts("reports").entered == 0
        ended = await pod.run("exit 0", SSL_CERT_FILE=str(tls.certificate))
        assert ended.code == 0, ended.said
        assert broker.counts("reports").entered == 1


async def test_a_report_is_sent_again_until_it_is_accepted_and_work_goes_on_meanwhile(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    queue.script = [status(503), drops, status(429, **{"Retry-After": "1"})]
    ended = await pod.run("exit 0")
    assert ended.code == 0, ended.said
    assert [each.position for each in queue.reports] == [0, 1]
    assert [taken.properties["MessageId"] for taken in queue.seen[:4]] == [queue.reports[0].message_id] * 4
    assert queue.seen[0].path == "/reports/messages"
    assert ended.said.index("position 1, item 101: done") > 0


async def test_a_request_is_signed_as_service_bus_wants_it_and_the_key_is_never_told(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(1)
    queue.script = [status(503)]
    ended = await pod.run("exit 0")
    scheme, _, fields = queue.seen[0].authorization.partition(" ")
    told = {name: values[0] for name, values in parse_qs(fields).items()}
    assert scheme == "SharedAccessSignature"
    assert told["sr"] == f"http://127.0.0.1:{queue.port}/reports"
    assert told["skn"] == "send"
    assert 0 < int(told["se"]) - time.time() <= 3600
    raw = dict(part.split("=", 1) for part in fields.split("&"))
    expected = hmac.new(b"secret", f"{raw['sr']}\n{raw['se']}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(told["sig"]) == expected
    assert "secret" not in ended.said
    assert told["sig"] not in ended.said


async def test_a_key_that_is_changed_is_read_again(a_pod: MakePod, queue: ReportQueue) -> None:
    pod = a_pod(2)

    def by_key(taken: Taken) -> web.StreamResponse | None:
        pod.connection_file.write_text("half of a conn")
        if taken is queue.seen[1]:
            pod.connection_file.write_text(queue.connection_string("new key"))
        return accepts(taken) if len(queue.seen) > 2 else status(401)(taken)

    queue.usual = by_key
    ended = await pod.run("exit 0")
    assert ended.code == 0, ended.said
    assert [each.position for each in queue.reports] == [0, 1]
    fields = dict(part.split("=", 1) for part in queue.seen[2].authorization.partition(" ")[2].split("&"))
    expected = hmac.new(b"new key", f"{fields['sr']}\n{fields['se']}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(parse_qs(f"sig={fields['sig']}")["sig"][0]) == expected


@pytest.mark.parametrize("code", [403, 413])
async def test_what_is_too_large_is_sent_without_what_is_only_for_people(
    a_pod: MakePod, queue: ReportQueue, code: int
) -> None:
    pod = a_pod(1)
    queue.usual = lambda taken: accepts(taken) if len(taken.body) < 400 else status(code)(taken)
    ended = await pod.run('head -c 3000 /dev/zero | tr "\\0" x; exit 3')
    assert ended.code == 0, ended.said
    (report,) = queue.reports
    assert (report.outcome, report.log_tail, report.exit_code) == (FAILED, "", None)


@pytest.mark.parametrize("answer", [status(401), status(410)])
async def test_no_work_is_begun_that_nobody_can_be_told_of(
    a_pod: MakePod, queue: ReportQueue, answer: Answerer
) -> None:
    pod = a_pod(3)
    queue.usual = answer
    ended = await pod.run('echo "$JOB_COMPLETION_INDEX" >>"$OUT/ran"; sleep 0.5', "--report-wait", "1")
    assert ended.code == 1
    assert pod.lines("ran") in (["0"], ["0", "1"])
    assert "since reports are refused" in ended.said
    assert "could not be told; their items are done again" in ended.said


@pytest.mark.parametrize(
    ("answer", "final", "too_large", "wait"),
    [
        (status(400), True, False, None),
        (status(401), True, False, None),
        (status(403), True, True, None),
        (status(404), True, False, None),
        (status(410), True, False, None),
        (status(413), True, True, None),
        (status(408), False, False, None),
        (status(429, **{"Retry-After": "7"}), False, False, 7.0),
        (status(503, **{"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}), False, False, None),
        (status(307, Location="http://127.0.0.1:9/"), True, False, None),
    ],
)
async def test_each_answer_of_the_service_means_one_thing(
    a_pod: MakePod, queue: ReportQueue, answer: Answerer, final: bool, too_large: bool, wait: float | None
) -> None:
    access = read_access(a_pod(1).connection_file)
    queue.usual = answer
    got = await asyncio.to_thread(send, access, b"{}", {"MessageId": "x"}, time.time())
    assert (got.accepted, got.final, got.too_large, got.wait_seconds) == (False, final, too_large, wait)
    assert "told" in got.text
    assert len(queue.seen) == 1


async def test_reports_that_nobody_takes_are_given_up_after_a_while_with_code_1(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(2)
    queue.usual = status(503)
    ended = await pod.run("exit 0", "--report-wait", "1.5")
    assert ended.code == 1
    assert "2 outcomes could not be told; their items are done again" in ended.said
    assert queue.reports == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "lacks Endpoint"),
        ("Endpoint=sb://x/;SharedAccessKeyName=a;SharedAccessKey=hush", "lacks EntityPath"),
        ("Endpoint=sb://x/;EntityPath=q;SharedAccessKeyName=a", "lacks SharedAccessKeyName with SharedAccessKey"),
        ("Endpoint=nothing;EntityPath=q;SharedAccessKeyName=a;SharedAccessKey=hush", "without a host"),
    ],
)
async def test_a_connection_string_that_is_none_is_told_before_any_work(
    a_pod: MakePod, queue: ReportQueue, text: str, told: str
) -> None:
    pod = a_pod(1)
    pod.connection_file.write_text(text)
    ended = await pod.run('echo ran >>"$OUT/ran"')
    assert ended.code == 2
    assert told in ended.said
    assert "hush" not in ended.said
    assert pod.lines("ran") == []


async def test_what_a_run_prints_is_passed_on_and_its_end_kept_in_whole_characters(
    a_pod: MakePod, queue: ReportQueue
) -> None:
    pod = a_pod(1)
    ended = await pod.run("i=0; while [ $i -lt 900 ]; do echo öäü; i=$((i+1)); done; printf '\\377end'; exit 1")
    assert ended.code == 0
    (report,) = queue.reports
    assert report.log_tail.endswith("öäü\n\N{REPLACEMENT CHARACTER}end")
    assert set(report.log_tail.replace("\N{REPLACEMENT CHARACTER}end", "")) == set("öäü\n")
    assert 900 < len(report.log_tail.encode()) <= 1024
    assert json.loads(queue.seen[0].body)["format"] == 1
