"""What a client connects with while files change and identities fail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus.exceptions import ServiceBusConnectionError

from dispatcher.errors import BadConfiguration
from dispatcher.queue import ServiceBusConfig
from dispatcher.queue.access import ConnectionStringFile, Identity, NoToken
from dispatcher.queue.links import Clients
from dispatcher.queue.translate import refusal
from dispatcher.service.access import BrokerAccess
from dispatcher.settings import Settings

TASK = {"name": "report", "image": "report:1", "command": ["true"], "resources": {"cpu": "500m", "memory": "512Mi"}}


def string(key: str, name: str = "listen") -> str:
    return f"Endpoint=sb://orders.example/;SharedAccessKeyName={name};SharedAccessKey={key}"


class Told:
    """Hears what is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


def as_kubernetes_does(folder: Path, text: str, turn: int) -> None:
    """A mounted Secret changes by one rename of the link that its files are seen through."""
    (folder / f"..{turn}").mkdir()
    (folder / f"..{turn}" / "connection-string").write_text(text)
    (folder / "..new").symlink_to(f"..{turn}")
    (folder / "..new").rename(folder / "..data")
    if turn == 1:
        (folder / "connection-string").symlink_to("..data/connection-string")


def test_a_rotation_of_a_mounted_secret_is_followed_and_told_without_it(tmp_path: Path) -> None:
    told = Told()
    as_kubernetes_does(tmp_path, string("geheim-1"), 1)
    file = ConnectionStringFile(tmp_path / "connection-string", told)
    assert file() == string("geheim-1")
    assert file() == string("geheim-1")
    assert told.events == []
    as_kubernetes_does(tmp_path, string("geheim-2", "other") + "\n", 2)
    assert file() == string("geheim-2", "other")
    assert told.names == ["connection_string.changed"]
    assert told.events[0][1]["key_name"] == "other"
    assert "geheim" not in str(told.events) + repr(file)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("  \n"), "is empty"),
        (lambda path: path.write_text("geheim"), "is no connection string"),
        (lambda path: path.write_text("Endpoint=sb://orders.example/;SharedAcc"), "is no connection string"),
        (lambda path: path.write_text(string("geheim").rpartition(";")[0]), "lacks SharedAccessKey"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is no text"),
        (lambda path: path.write_text("x" * 70_000), "is larger than 65536 bytes"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
    ],
)
def test_a_file_that_says_nothing_usable_leaves_the_last_one_in_force_and_is_told_once(
    tmp_path: Path, spoil: Callable[[Path], Any], why: str
) -> None:
    told, path = Told(), tmp_path / "secret"
    path.write_text(string("geheim-1"))
    file = ConnectionStringFile(path, told)
    spoil(path)
    assert [file(), file()] == [string("geheim-1")] * 2
    assert file.fault is not None
    assert file.fault.startswith(f"{path} {why}")
    assert "geheim" not in file.fault + str(told.events)
    assert told.names == ["connection_string.kept"]
    if path.is_dir():
        path.rmdir()
    path.write_text(string("geheim-2"))
    assert file() == string("geheim-2")
    assert file.fault is None
    assert told.names == ["connection_string.kept", "connection_string.mended", "connection_string.changed"]


@pytest.mark.parametrize("text", [None, "", "Endpoint=sb://x;SharedAccessKeyName=geheim"])
def test_without_a_usable_one_to_begin_with_nothing_starts(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "secret").write_text(text)
    with pytest.raises(BadConfiguration) as caught:
        ConnectionStringFile(tmp_path / "secret")
    (line,) = caught.value.mistakes
    assert line.startswith(f"service_bus.connection_string_file: {tmp_path / 'secret'} ")
    assert "geheim" not in line


async def test_clients_are_made_anew_when_the_secret_is_another_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(string("one"))
    clients = Clients(ServiceBusConfig(queue="work", connection_string=ConnectionStringFile(path)))
    assert not clients.follow()
    first = clients.get()
    assert clients.get() is first
    assert not clients.follow()
    path.write_text("")
    assert not clients.follow()
    path.write_text(string("two"))
    assert clients.follow()
    assert not clients.follow()
    assert clients.generation == 1
    second = clients.get()
    assert second is not first
    path.write_text(string("three"))
    assert clients.get() is not second  # nobody need have looked in between
    await clients.close()


# --- identities -----------------------------------------------------------------------------------------------------


class Credential:
    """Does what it is told to, and remembers being closed."""

    def __init__(self, *answers: AccessToken | Exception | float) -> None:
        self._answers = list(answers)
        self.is_closed = False

    async def get_token(self, *_scopes: str, **_kwargs: Any) -> AccessToken:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            pytest.fail("nobody waits so long")
        return answer

    async def close(self) -> None:
        self.is_closed = True


async def test_an_identity_that_gives_no_token_says_so_in_one_line_with_the_remedy() -> None:
    good = AccessToken("t", 1)
    credential = Credential(ClientAuthenticationError("AADSTS70021: no matching record\nTrace ID: 1"), 30.0, good)
    identity = Identity("workload", make=lambda: credential, token_seconds=0.05)
    with pytest.raises(NoToken, match=r"federated credential.*AADSTS70021: no matching record") as caught:
        await identity.get_token("scope")
    assert "\n" not in str(caught.value)
    with pytest.raises(NoToken, match=r"no answer within 0\.05 s"):
        await identity.get_token("scope")
    assert await identity.get_token("scope") == good
    await identity.close()
    assert credential.is_closed


async def test_what_the_identity_says_reaches_people_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(NoToken, match="'client_id', 'token_file_path'") as caught:
        await Identity("workload").get_token("scope")
    told = refusal(ServiceBusConnectionError(message="Handler failed", error=caught.value))
    assert told is not None
    assert told.startswith("the workload identity gives no token; check the pod's label")


# --- from the settings ----------------------------------------------------------------------------------------------


def a_way_in(folder: Path, bus: dict[str, Any], tell: Told | None = None, queues: int = 1) -> BrokerAccess:
    names = [{"name": f"q{n}", "tasks": ["report"]} for n in range(queues)]
    return BrokerAccess(Settings(queues=names, tasks=[TASK], service_bus=bus), folder, tell)


async def test_each_way_in_becomes_what_the_adapter_needs(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(string("one"))
    by_file = a_way_in(tmp_path, {"connection_string_file": "secret", "operations_per_second": 900}, queues=2)
    config = by_file.queue("q0")
    assert config.connection_string is not None
    assert (config.connection_string(), config.operations_per_second) == (string("one"), 450)
    by_identity = a_way_in(
        tmp_path,
        {"namespace": "orders.example", "custom_endpoint": "sb://10.0.0.1:5671", "ca_file": "ca.pem"},
    )
    config = by_identity.queue("q0")
    assert (config.namespace, config.connection_string) == ("orders.example", None)
    assert config.credential is not None
    assert config.credential() is by_identity.queue("q0").credential()  # type: ignore[misc]
    assert config.client_options["custom_endpoint_address"] == "sb://10.0.0.1:5671"
    assert config.client_options["connection_verify"] == str(tmp_path / "ca.pem")
    await by_identity.close()
    with pytest.raises(BadConfiguration, match="nothing says how to reach the broker"):
        a_way_in(tmp_path, {})


def test_a_spoilt_file_and_a_signature_that_is_over_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=h&sig=geheim&se=1000000000&skn=n")
    access = a_way_in(tmp_path, {"connection_string_file": "secret"})
    path.write_text("")
    config = access.queue("q0")
    assert config.connection_string is not None
    config.connection_string()
    spoilt, over = access.faults()
    assert "secret is empty; copy it whole" in spoilt
    assert spoilt.endswith("the connection string read before is used on")
    assert over.startswith("service_bus.connection_string: its signature ended at 2001-09-09")
    assert "geheim" not in spoilt + over
