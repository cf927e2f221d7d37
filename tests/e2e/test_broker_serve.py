"""`dispatcher broker serve` in a process of its own, used by the real SDK as an application would."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from azure.servicebus import ServiceBusClient as BlockingClient
from azure.servicebus import ServiceBusMessage, TransportType
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessagingEntityDisabledError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
    ServiceBusQuotaExceededError,
)
from typer.testing import CliRunner, Result

from dispatcher.cli import app
from tests.e2e.local_service import eventually
from tests.identities import a_certificate

CONFIG = """
queues:
  - {name: work, max_delivery_count: 3}
  - {name: closed, enabled: false}
keys:
  - {name: RootManageSharedAccessKey, key: SAS_KEY_VALUE}
  - {name: sender, key: may-send, rights: [send], queue: work}
"""


class ServedBroker:
    """Starts, stops and kills `dispatcher broker serve` on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "broker.yaml"
        self.config.write_text(CONFIG)
        self.connection_string_file = folder / "connection-string"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *more: str) -> list[str]:
        base = [sys.executable, "-m", "dispatcher", "broker", "serve", "--config", str(self.config)]
        return [*base, "--port", "0", "--connection-string-file", str(self.connection_string_file), *more]

    def launch(self, *more: str) -> None:
        """Starts it, and waits for nothing."""
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            self.process = subprocess.Popen(self.command(*more), stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    async def start(self, *more: str) -> str:
        """The connection string, once it serves."""
        self.launch(*more)

        def serves() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.err
            return self.connection_string_file.exists() and "Stop it" in self.err

        await eventually(serves, 60, "the broker serves")
        return self.connection_string_file.read_text()

    @property
    def out(self) -> list[str]:
        return (self.folder / "out").read_text().splitlines()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def faults_url(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+", self.err)
        assert found is not None, self.err
        return found[0]

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(30)

    def refused(self, *more: str) -> tuple[int, str]:
        """The exit code and stderr of a start that comes to nothing."""
        done = subprocess.run(self.command(*more), capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    async def asked(self, *arguments: str) -> Result:
        """What a `dispatcher broker` command about it answers, on a thread beside the clients of the test."""
        command = ["broker", *arguments, "--url", self.faults_url]
        return await asyncio.to_thread(CliRunner().invoke, app, command)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ServedBroker]:
    served = ServedBroker(tmp_path)
    yield served
    if served.process is not None and served.process.poll() is None:
        served.process.kill()
        served.process.wait(10)


async def send(connection: str, *texts: str, queue: str = "work") -> None:
    client = ServiceBusClient.from_connection_string(connection, retry_total=0)
    async with client, client.get_queue_sender(queue) as sender:
        await sender.send_messages([ServiceBusMessage(text) for text in texts])


async def received(connection: str, count: int) -> list[str]:
    """So many messages, completed."""
    texts: list[str] = []
    async with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_receiver("work") as link:
        while len(texts) < count:
            got = await link.receive_messages(count - len(texts), max_wait_time=20)
            assert got, f"only {texts}"
            for message in got:
                texts.append(str(message))
                await link.complete_message(message)
    return texts


async def test_it_serves_applications_ends_cleanly_and_keeps_their_messages(
    broker: ServedBroker, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    connection = await broker.start("--data-dir", str(data))
    assert broker.out[0] == connection
    assert "UseDevelopmentEmulator=true;" in connection
    assert re.search(r"SharedAccessKeyName=sender;.*EntityPath=work;", broker.out[1])
    assert "2 queues (work, closed)" in broker.err
    assert "SAS_KEY_VALUE" not in broker.err
    assert broker.connection_string_file.stat().st_mode & 0o077 == 0
    with BlockingClient.from_connection_string(connection) as client, client.get_queue_sender("work") as sender:
        sender.send_messages([ServiceBusMessage("one"), ServiceBusMessage("two")])
    assert await received(connection, 1) == ["one"]
    with pytest.raises(MessagingEntityDisabledError):
        await send(connection, "x", queue="closed")
    assert broker.end(signal.SIGTERM) == 0
    assert "The broker has stopped." in broker.err
    assert not broker.connection_string_file.exists()
    again = await broker.start("--data-dir", str(data))
    assert await received(again, 1) == ["two"]
    assert broker.end(signal.SIGINT) == 0


async def test_what_was_accepted_survives_kill_9(broker: ServedBroker, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    texts = [f"message {number}" for number in range(50)]
    await send(await broker.start("--data-dir", data), *texts)
    assert broker.end(signal.SIGKILL) == -signal.SIGKILL
    connection = await broker.start("--data-dir", data)
    assert await received(connection, 50) == texts


async def test_in_memory_it_leaves_no_files(broker: ServedBroker, tmp_path: Path) -> None:
    connection = await broker.start("--memory")
    await send(connection, "gone")
    assert broker.end(signal.SIGTERM) == 0
    assert set(os.listdir(tmp_path)) == {"broker.yaml", "out", "err"}  # noqa: PTH208 - a look, no walk


async def test_a_key_opens_what_it_was_given_for(broker: ServedBroker) -> None:
    await broker.start("--memory")
    sender = broker.out[1]
    await send(sender, "mine")
    async with ServiceBusClient.from_connection_string(sender, retry_total=0) as client:
        with pytest.raises(ServiceBusAuthorizationError):
            await client.get_queue_receiver("work").__aenter__()


async def test_tls_is_served_to_those_who_trust_the_certificate(broker: ServedBroker, tmp_path: Path) -> None:
    files = a_certificate(tmp_path)
    certificate, key = str(files.certificate), str(files.key)
    connection = await broker.start("--memory", "--tls-cert", certificate, "--tls-key", key, "--tls-port", "0")
    await send(connection, "sent in the clear")
    over_tls = broker.out[2]
    assert "UseDevelopmentEmulator" not in over_tls
    endpoint = re.findall(r"sb://localhost:\d+", over_tls)[0]

    def client(**more: str) -> ServiceBusClient:
        # Without its own address the SDK goes to port 5671, which may be another's in a test.
        return ServiceBusClient.from_connection_string(
            over_tls, custom_endpoint_address=endpoint, transport_type=TransportType.Amqp, retry_total=0, **more
        )

    trusting = client(connection_verify=certificate)
    async with trusting, trusting.get_queue_receiver("work") as receiver:
        (message,) = await receiver.receive_messages(1, max_wait_time=20)
        assert str(message) == "sent in the clear"
    async with client() as doubting:
        with pytest.raises(ServiceBusConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await doubting.get_queue_sender("work").__aenter__()


async def test_faults_are_set_over_http_and_by_the_commands(broker: ServedBroker) -> None:
    connection = await broker.start("--memory", "--faults-port", "0")
    async with aiohttp.ClientSession(broker.faults_url) as http:
        async with http.put("/faults/fill-quota", json={"queue": "work", "times": 1}) as answer:
            assert answer.status == 200
        with pytest.raises(ServiceBusQuotaExceededError):
            await send(connection, "too much")
        await send(connection, "enough")
    assert json.loads((await broker.asked("queues", "--json")).stdout)["work"]["active"] == 1
    assert re.search(r"^ work +1 +0 +0 +0 +0 *$", (await broker.asked("queues")).stdout, re.MULTILINE)
    armed = await broker.asked("fault", "fill-quota", "--queue", "work")
    assert (armed.exit_code, armed.stderr) == (0, "fill-quota is set: queue work, value 0.0\n")
    with pytest.raises(ServiceBusQuotaExceededError):
        await send(connection, "too much")
    assert re.search(r"fill-quota +until cleared +queue work, value 0.0 +2", (await broker.asked("faults")).stdout)
    assert (await broker.asked("fault", "fill-quota", "--clear")).exit_code == 0
    await send(connection, "enough again")
    async with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_receiver("work") as link:
        assert await link.receive_messages(1, max_wait_time=20)
        assert (await broker.asked("fault", "revoke-locks", "--queue", "work")).stderr == "revoke-locks hit 1\n"
    unknown = await broker.asked("fault", "nonsense")
    assert unknown.exit_code == 1
    assert "there is no fault 'nonsense'; there are" in unknown.stderr
    nowhere = await broker.asked("fault", "throttle", "--queue", "wrok")
    assert nowhere.stderr == "error: queue: there is no 'wrok'; there are work, closed\n"
    assert broker.end(signal.SIGTERM) == 0
    gone = await broker.asked("queues")
    assert (gone.exit_code, len(gone.stderr.splitlines())) == (3, 1)


async def test_one_broker_has_a_folder_at_a_time(broker: ServedBroker, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    await broker.start("--data-dir", data)
    code, err = broker.refused("--data-dir", data)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "choose another --data-dir" in err


def serve(*arguments: str) -> tuple[int, str]:
    """The exit code and stderr of a start that comes to nothing, in this process."""
    done = CliRunner().invoke(app, ["broker", "serve", "--port", "0", *arguments])
    return done.exit_code, done.stderr


@pytest.mark.parametrize("option", ["--port", "--faults-port"])
def test_a_port_that_is_taken_is_told_in_a_line(broker: ServedBroker, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        answer = serve("--config", str(broker.config), "--memory", option, port)
    assert answer == (1, f"error: cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--memory", "--data-dir", "x"], 2, "error: --memory and --data-dir exclude each other: take one out"),
        (["--memory", "--tls-cert", "x.pem"], 2, "error: --tls-cert and --tls-key belong together: give both"),
        (
            ["--memory", "--tls-cert", "x.pem", "--tls-key", "x.key"],
            1,
            "error: tls: x.pem with x.key: [Errno 2] No such",
        ),
        (
            ["--memory", "--connection-string-file", "/nowhere/x"],
            1,
            "error: --connection-string-file: /nowhere/x cannot",
        ),
    ],
)
def test_options_that_cannot_work_are_told_in_a_line(
    broker: ServedBroker, options: list[str], code: int, says: str
) -> None:
    exit_code, err = serve("--config", str(broker.config), *options)
    assert (exit_code, len(err.splitlines())) == (code, 1), err
    assert err.startswith(says)


def test_every_mistake_in_the_file_is_told_before_anything_starts(broker: ServedBroker) -> None:
    broker.config.write_text("queues:\n  - {name: a, lock_duration: 9m}\n  - {name: A}\nkyes: []\n")
    code, err = serve("--config", str(broker.config), "--memory")
    assert code == 2
    fields = [line.split(": ")[1] for line in err.splitlines()]
    assert fields == ["queues[0].lock_duration", "queues[1].name", "kyes"]
    checked = CliRunner().invoke(app, ["broker", "check", str(broker.config)])
    assert checked.exit_code == 2
    assert ["error: " + line for line in checked.stdout.splitlines()] == err.splitlines()
    as_json = json.loads(CliRunner().invoke(app, ["broker", "check", str(broker.config), "--json"]).stdout)
    assert (as_json["ok"], [mistake["path"] for mistake in as_json["mistakes"]]) == (False, fields)
