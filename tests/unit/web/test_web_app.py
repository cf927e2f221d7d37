"""The HTTP service: what it answers, and to whom."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer

from dispatcher.errors import BadConfiguration
from dispatcher.web import Health, Sources, WebServer, make_app
from dispatcher.web.app import names_this_machine


class Told:
    """What the sources say; a test changes one thing."""

    faults: tuple[str, ...] = ()
    hangs: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    status: Mapping[str, Any] = {"leading": True}

    def sources(self) -> Sources:
        return Sources(
            status=lambda: self.status,
            health=lambda: Health(self.faults),
            liveness=lambda: Health(self.hangs),
            readiness=lambda: Health(self.ready),
            metrics=lambda: (b"burst_backlog_items 4.0\n", "text/plain; version=0.0.4; charset=utf-8"),
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def client(told: Told) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(make_app(told.sources()))) as client:
        yield client


async def test_the_status_is_answered_as_it_is(client: TestClient[Any, Any]) -> None:
    response = await client.get("/api/status")
    assert response.status == 200
    assert await response.json() == {"leading": True}
    assert response.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_health_and_readiness_are_200_or_503_with_the_reasons(told: Told, client: TestClient[Any, Any]) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        response = await client.get(path)
        assert (response.status, await response.json()) == (200, {"ok": True, "faults": []})
    told.faults, told.ready = ("broker: journal full",), ("the first cycle has not ended yet",)
    assert (await client.get("/healthz")).status == 503
    assert (await client.get("/livez")).status == 200
    told.hangs = ("queue work: nothing is received any more",)
    assert (await client.get("/livez")).status == 503
    assert (await (await client.get("/healthz")).json())["faults"] == ["broker: journal full"]
    assert (await (await client.get("/readyz")).json())["faults"] == ["the first cycle has not ended yet"]


async def test_metrics_are_answered_with_their_content_type(client: TestClient[Any, Any]) -> None:
    response = await client.get("/metrics")
    assert "version=0.0.4" in response.headers["Content-Type"]
    assert await response.text() == "burst_backlog_items 4.0\n"


async def test_a_name_that_points_here_but_is_not_this_machine_is_refused(client: TestClient[Any, Any]) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "10.0.0.1", "[2001:db8::1]:80"):
        response = await client.get("/api/status", headers={"Host": host})
        assert response.status == 403, host
        assert "leading" not in await response.text()


async def test_in_a_cluster_probes_and_prometheus_ask_by_the_pods_address_and_nothing_else_is_answered(
    told: Told,
) -> None:
    app = make_app(told.sources(), probed_from_outside=True)
    async with TestClient(TestServer(app)) as client:
        for path in ("/healthz", "/livez", "/readyz", "/metrics"):
            assert (await client.get(path, headers={"Host": "10.244.1.7:8480"})).status == 200, path
        for path in ("/", "/api/status", "/metrics/", "/healthz/../api/status"):
            response = await client.get(path, headers={"Host": "10.244.1.7:8480"})
            assert response.status == 403, path
        assert (await client.get("/api/status", headers={"Host": "localhost:8480"})).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8480", "127.0.0.1:8480", "127.8.9.1", "[::1]:8480", "[::1]"])
def test_loopback_names_are_this_machine(host: str) -> None:
    assert names_this_machine(host)


async def test_what_is_not_there_is_told_with_what_is(client: TestClient[Any, Any]) -> None:
    response = await client.get("/api/statuz")
    assert response.status == 404
    assert "/api/status" in (await response.json())["error"]
    assert (await client.post("/api/status")).status == 405


async def test_an_answer_that_breaks_is_one_bad_answer_and_tells_no_inside(
    told: Told, client: TestClient[Any, Any]
) -> None:
    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise ZeroDivisionError("inside")

    told.status = Broken(a=1)
    response = await client.get("/api/status")
    assert response.status == 500
    assert "inside" not in await response.text()
    assert (await client.get("/healthz")).status == 200


async def test_a_taken_port_is_told_in_one_line(told: Told) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadConfiguration, match=f"port {port} is taken by another program; choose another"):
            async with WebServer(make_app(told.sources()), host="127.0.0.1", port=port):
                pass


async def test_the_server_says_where_it_listens_and_lets_go_of_the_port(told: Told) -> None:
    async with WebServer(make_app(told.sources()), host="127.0.0.1", port=0) as server:
        async with ClientSession() as session, session.get(f"{server.url}/healthz") as response:
            assert response.status == 200
        url = server.url
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(url.rpartition(":")[2])))
