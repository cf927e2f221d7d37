"""The stand-in over HTTP: Azure's API for those with a token, and the steering beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aci_kit import body, container
from aiohttp.test_utils import TestClient, TestServer

from testbed.aci.execution import Execution
from testbed.aci.groups import Start, Stop
from testbed.aci.options import Options
from testbed.aci.region import Region
from testbed.aci.server import Server

SUBSCRIPTION = Options().subscription
GROUPS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/burst/providers/Microsoft.ContainerInstance/containerGroups"
LOCATION = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerInstance/locations/eastus"
VERSION = {"api-version": "2023-05-01"}
WRITER = {"Authorization": "Bearer writer"}
READER = {"Authorization": "Bearer reader"}


class Caller:
    """Requests as the connector makes them."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def __call__(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        headers: dict[str, str] = WRITER,
        params: dict[str, str] = VERSION,
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        response = await self.client.request(method, path, json=json, headers=headers, params=params)
        content = await response.json() if response.content_type == "application/json" else await response.text()
        return response.status, content, response

    async def state(self, name: str, wanted: str) -> dict[str, Any]:
        """The group as soon as it is in that state."""
        ends = time.monotonic() + 30
        while True:
            _, group, _ = await self("GET", f"{GROUPS}/{name}", headers=READER)
            if group["properties"]["instanceView"]["state"] == wanted:
                found: dict[str, Any] = group
                return found
            assert time.monotonic() < ends, group
            await asyncio.sleep(0.02)


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    options = Options(prepare_seconds=0.05, image_mb=1, stop_seconds=0.05, delete_seconds=0.1, restart_seconds=0.05)
    server = Server(Region(options), lambda it: Execution(tmp_path / "groups", tmp_path, it.exited))
    async with TestClient(TestServer(server.application(), host="127.0.0.1")) as client:
        yield Caller(client)


async def test_a_group_is_created_runs_and_goes(call: Caller) -> None:
    status, group, answer = await call("PUT", f"{GROUPS}/one", body(container(STANDIN_RUN_SECONDS="never")))
    assert (status, group["properties"]["provisioningState"]) == (201, "Pending")
    assert "Azure-AsyncOperation" in answer.headers
    assert group["id"] == f"{GROUPS}/one"
    running = await call.state("one", "Running")
    view = running["properties"]["containers"][0]["properties"]["instanceView"]
    assert (view["currentState"]["state"], view["restartCount"]) == ("Running", 0)
    assert [event["name"] for event in view["events"]] == ["Pulling", "Pulled", "Created", "Started"]
    assert running["properties"]["ipAddress"]["ip"] == "10.240.0.4"
    status, operation, _ = await call("GET", f"{LOCATION}/operations/one")
    assert (status, operation["status"]) == (200, "Succeeded")
    status, group, _ = await call("DELETE", f"{GROUPS}/one")
    assert (status, group["properties"]["provisioningState"]) == (200, "Deleting")

    ends = time.monotonic() + 30
    while (await call("GET", f"{GROUPS}/one"))[0] != 404:
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)
    assert (await call("DELETE", f"{GROUPS}/one"))[0] == 204


@pytest.mark.parametrize(
    ("method", "how", "status", "code"),
    [
        ("GET", {"headers": {}}, 401, "InvalidAuthenticationToken"),
        ("GET", {"headers": {"Authorization": "Bearer guessed"}}, 401, "InvalidAuthenticationToken"),
        ("GET", {"params": {}}, 400, "MissingApiVersionParameter"),
        ("GET", {}, 404, "ResourceNotFound"),
        ("PUT", {"headers": READER, "json": body()}, 403, "AuthorizationFailed"),
        ("DELETE", {"headers": READER}, 403, "AuthorizationFailed"),
        ("PUT", {"json": []}, 400, "InvalidRequestContent"),
        ("PUT", {"json": body() | {"properties": 1}}, 400, "InvalidRequestContent"),
    ],
)
async def test_azures_refusals_have_azures_form(
    call: Caller, method: str, how: dict[str, Any], status: int, code: str
) -> None:
    seen, content, _ = await call(method, f"{GROUPS}/one", **how)
    assert (seen, content["error"]["code"]) == (status, code)


async def test_another_subscription_is_not_found(call: Caller) -> None:
    status, content, _ = await call("GET", GROUPS.replace(SUBSCRIPTION, "another"))
    assert (status, content["error"]["code"]) == (404, "SubscriptionNotFound")


async def test_a_refusal_for_a_rate_says_how_long_to_wait(call: Caller) -> None:
    await call("POST", "/faults", {"kind": "throttled", "seconds": 7.2})
    status, content, answer = await call("PUT", f"{GROUPS}/one", body())
    assert (status, content["error"]["code"]) == (429, "ResourceRequestsThrottled")
    assert answer.headers["Retry-After"] == "8"


async def test_a_body_that_is_too_big_is_refused(call: Caller) -> None:
    await call("PATCH", "/options", {"body_bytes_max": 1000})
    volumes = [{"name": "items", "secret": {"a": "x" * 2000}}]
    status, content, _ = await call("PUT", f"{GROUPS}/one", body(volumes=volumes))
    assert (status, content["error"]["code"]) == (413, "RequestEntityTooLarge")


async def test_lists_are_of_one_resource_group_or_of_all_and_tell_no_instances(call: Caller) -> None:
    await call("PUT", f"{GROUPS}/one", body())
    other = GROUPS.replace("/burst/", "/other/")
    await call("PUT", f"{other}/two", body())
    every = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerInstance/containerGroups"
    names = {path: [each["name"] for each in (await call("GET", path))[1]["value"]] for path in (GROUPS, other, every)}
    assert names == {GROUPS: ["one"], other: ["two"], every: ["one", "two"]}
    (shown, *_) = (await call("GET", GROUPS))[1]["value"]
    assert "instanceView" not in shown["properties"]
    assert shown["tags"]["PodName"] == "pod"


async def test_secrets_are_never_given_back(call: Caller) -> None:
    one = container()
    one["properties"]["environmentVariables"] = [{"name": "KEY", "secureValue": "hidden"}]
    _, group, answer = await call(
        "PUT", f"{GROUPS}/one", body(one, volumes=[{"name": "items", "secret": {"a": "aGk="}}])
    )
    assert "hidden" not in await answer.text()
    assert group["properties"]["volumes"] == [{"name": "items", "secret": {}}]


async def test_a_log_can_be_cut_and_of_one_that_has_ended_only_the_end_is_kept(call: Caller) -> None:
    text = "".join(f"line {number:05}\n" for number in range(3000))
    await call("PUT", f"{GROUPS}/runs", body(container(STANDIN_RUN_SECONDS="never", STANDIN_LOG=text)))
    await call("PUT", f"{GROUPS}/ended", body(container(STANDIN_LOG=text)))
    await call.state("runs", "Running")
    await call.state("ended", "Succeeded")

    async def log(name: str, **params: str) -> list[str]:
        path = f"{GROUPS}/{name}/containers/worker/logs"
        lines: list[str] = (await call("GET", path, params=VERSION | params))[1]["content"].splitlines()
        return lines

    assert len(await log("runs")) == 3000
    assert await log("runs", tail="2") == ["line 02998", "line 02999"]
    kept = await log("ended")
    assert (len(kept), kept[-1]) == (1000, "line 02999")
    assert (await call("GET", f"{GROUPS}/ended/containers/nobody/logs"))[0] == 404


async def test_whoever_reads_the_times_of_a_group_comes_to_its_bill(call: Caller) -> None:
    await call("PUT", f"{GROUPS}/one", body(container(STANDIN_RUN_SECONDS="0.3")))
    group = await call.state("one", "Succeeded")
    view = group["properties"]["containers"][0]["properties"]["instanceView"]
    (line,) = (await call("GET", "/bill"))[1]["groups"]
    ((start, stop),) = line["spans"]
    assert view["events"][0]["firstTimestamp"].removesuffix("Z") == start.removesuffix("+00:00")
    assert view["currentState"]["finishTime"].removesuffix("Z") == stop.removesuffix("+00:00")


async def test_groups_can_be_steered_by_name(call: Caller) -> None:
    for name in ("restarts", "ends", "goes"):
        await call("PUT", f"{GROUPS}/{name}", body(container(STANDIN_RUN_SECONDS="never")))
        await call.state(name, "Running")
    await call("POST", "/groups/restarts/maintenance", {"code": 7148})
    view = (await call("GET", f"{GROUPS}/restarts"))[1]["properties"]["containers"][0]["properties"]["instanceView"]
    assert view["previousState"]["exitCode"] == 7148
    await call("POST", "/groups/ends/finish", {"exit_code": 3})
    ended = await call.state("ends", "Failed")
    assert ended["properties"]["containers"][0]["properties"]["instanceView"]["currentState"]["exitCode"] == 3
    await call("POST", "/groups/goes/vanish")
    assert (await call("GET", f"{GROUPS}/goes"))[0] == 404
    assert (await call("POST", "/groups/nobody/vanish"))[0] == 404


async def test_a_reset_forgets_everything_and_may_change_what_the_start_fixed(call: Caller) -> None:
    await call("PUT", f"{GROUPS}/one", body())
    await call("POST", "/faults", {"kind": "internal", "times": 1})
    await call("PATCH", "/options", {"groups_max": 1})
    assert (await call("POST", "/reset", {"subnet": "10.0.0.0/29"}))[0] == 204
    assert (await call("GET", "/faults"))[1]["faults"] == []
    assert (await call("GET", "/bill"))[1]["groups"] == []
    limits = (await call("GET", "/statistics"))[1]["limit"]
    assert (limits["groups"], limits["addresses"]) == (100, 3)


@pytest.mark.parametrize(
    ("path", "method", "told", "said"),
    [
        ("/faults", "POST", {"kind": "rain"}, "'rain' is none of quota_groups"),
        ("/faults", "POST", {"kind": "internal", "often": 1}, "often: a fault has kind"),
        ("/faults", "POST", {"kind": "internal", "times": 0}, "times: a whole number"),
        ("/faults", "POST", {"kind": "internal", "match": "("}, "match: no regular expression"),
        ("/faults", "POST", {"kind": "maintenance", "code": 1}, "7147 or 7148"),
        ("/faults", "POST", [], "an object with a kind"),
        ("/options", "PATCH", {"speed": 2}, "speed: no such option"),
        ("/options", "PATCH", {"subnet": "10.0.0.0/24"}, "subnet: fixed at the start"),
        ("/reset", "POST", {"rate_scale": 0}, "must be above 0"),
    ],
)
async def test_a_mistake_in_the_steering_is_named(call: Caller, path: str, method: str, told: Any, said: str) -> None:
    status, content, _ = await call(method, path, told)
    assert status == 400
    assert said in content["error"]["message"]


async def test_requests_and_usage_are_told(call: Caller) -> None:
    await call("POST", "/faults", {"kind": "no_capacity", "match": "^two$"})
    await call("PUT", f"{GROUPS}/one", body(container(cpu=1.5)))
    await call("PUT", f"{GROUPS}/two", body())
    told = (await call("GET", "/requests"))[1]["requests"]
    assert [(each["verb"], each["name"], each["status"], each["code"]) for each in told] == [
        ("PUT", "one", 201, ""),
        ("PUT", "two", 409, "ServiceUnavailable"),
    ]
    usages = (await call("GET", f"{LOCATION}/usages", headers=READER))[1]["value"]
    assert [(each["name"]["value"], each["currentValue"], each["limit"]) for each in usages] == [
        ("ContainerGroups", 1, 100),
        ("StandardCores", 2, 100),
    ]
    assert (await call("GET", "/statistics"))[1]["refused"] == {"ServiceUnavailable": 1}


async def test_the_timer_looks_when_something_is_due_and_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(
        Region(Options(prepare_seconds=1000)), lambda it: Execution(tmp_path / "groups", tmp_path, it.exited)
    )
    looks = 0
    advance = Region.advance

    def counted(region: Region, now: datetime) -> list[Any]:
        nonlocal looks
        looks += 1
        return advance(region, now)

    monkeypatch.setattr(Region, "advance", counted)
    async with TestClient(TestServer(server.application(), host="127.0.0.1")) as client:
        assert (await Caller(client)("PUT", f"{GROUPS}/one", body()))[0] == 201
        for _ in range(1000):
            await asyncio.sleep(0)
    assert looks <= 4  # at the start, for the request, and once after it


class Noted(Execution):
    """Starts nothing, and remembers what it was to start."""

    async def do(self, act: Start | Stop) -> None:
        if isinstance(act, Start):
            started.append(act.group.name)


started: list[str] = []


async def test_what_is_due_when_a_request_is_refused_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    monkeypatch.setattr("testbed.aci.server.utc_now", lambda: now)
    started.clear()
    region = Region(Options(executes=True, prepare_seconds=1000, groups_max=1))
    server = Server(region, lambda it: Noted(tmp_path / "groups", tmp_path, it.exited))
    async with TestClient(TestServer(server.application(), host="127.0.0.1")) as client:
        call = Caller(client)
        assert (await call("PUT", f"{GROUPS}/one", body()))[0] == 201
        now += timedelta(seconds=2000)  # its start is due, and the timer, which counts real seconds, is asleep
        assert (await call("PUT", f"{GROUPS}/two", body()))[0] == 409
        assert started == ["one"]
