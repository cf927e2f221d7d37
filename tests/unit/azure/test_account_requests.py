"""Requests to Azure Resource Manager over real sockets: pages, tries, waits that Azure asks for, and what is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dispatcher.azure import AccountConfig, ContainerGroups, probe
from dispatcher.azure.arm import NotThere, Refused, ResourceManager, Throttled
from dispatcher.errors import LookFailed
from testbed.waiting import until

Answer = Callable[[web.Request], web.StreamResponse]


class Azure:
    """Answers in the order in which they were prepared, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[str] = []
        self.tokens: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        self.tokens.append(request.headers.get("Authorization", ""))
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)

    def will(self, *answers: Answer) -> None:
        self.answers = list(answers)


def says(status: int, body: Any, **headers: str) -> Answer:
    return lambda _: web.Response(
        status=status,
        text=body if isinstance(body, str) else json.dumps(body),
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        content_type="application/json",
    )


def error(code: str, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


@pytest.fixture
async def azure() -> AsyncIterator[tuple[Azure, AccountConfig]]:
    made = Azure()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield (
            made,
            AccountConfig(
                "sub", "group", frozenset({"work"}), region="eastus", endpoint=str(server.make_url("/")).rstrip("/"),
                pause_min=timedelta(milliseconds=10), look_every=timedelta(milliseconds=50), requests_per_second=1000,
                patience=timedelta(seconds=20), request_timeout=timedelta(seconds=5),
            ),
        )  # fmt: skip


async def token() -> str:
    return "secret"


async def all_of(config: AccountConfig) -> list[Any]:
    async with ResourceManager(config, token) as arm:
        return await arm.pages(config.groups_path)


async def test_all_pages_are_read_with_version_and_token(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    following = f"{config.endpoint}/next?page=2"
    made.will(says(200, {"value": [1, 2], "nextLink": following}), says(200, {"value": [3]}))
    assert await all_of(config) == [1, 2, 3]
    path = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.ContainerInstance/containerGroups"
    assert made.asked == [f"{path}?api-version=2023-05-01", "/next?page=2"]
    assert made.tokens == ["Bearer secret"] * 2


async def test_no_token_is_sent_to_where_another_page_is_said_to_be(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    made.will(says(200, {"value": [], "nextLink": "https://elsewhere.example/next"}))
    with pytest.raises(LookFailed, match="elsewhere"):
        await all_of(config)


async def test_a_service_that_is_unwell_is_asked_again(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    made.will(says(503, error("ServerTimeout")), says(200, "no json"), says(200, {"value": [1]}))
    assert await all_of(config) == [1]
    assert len(made.asked) == 3


async def test_a_short_wait_that_azure_asks_for_is_kept(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    made.will(says(429, error("TooManyRequests"), Retry_After="1"), says(200, {"value": [1]}))
    began = asyncio.get_running_loop().time()
    assert await all_of(config) == [1]
    assert asyncio.get_running_loop().time() - began >= 1


async def test_a_long_wait_that_azure_asks_for_is_told_and_kept_by_all_that_follows(
    azure: tuple[Azure, AccountConfig],
) -> None:
    made, config = azure
    made.will(says(429, error("TooManyRequests"), Retry_After="120"))
    async with ResourceManager(config, token) as arm:
        for _ in range(2):
            with pytest.raises(Throttled) as caught:
                await arm.pages(config.groups_path)
            assert 100 < caught.value.after_s <= 120
    assert len(made.asked) == 1


@pytest.mark.parametrize(("status", "kind"), [(401, Refused), (403, Refused), (404, NotThere)])
async def test_what_another_try_cannot_mend_is_told_at_once(
    azure: tuple[Azure, AccountConfig], status: int, kind: type[LookFailed]
) -> None:
    made, config = azure
    made.will(says(status, error("AuthorizationFailed", "The client may not\nread")))
    with pytest.raises(kind, match=r"AuthorizationFailed: The client may not$"):
        await all_of(config)
    assert len(made.asked) == 1


async def test_a_token_that_is_not_to_be_had_is_told(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure

    async def none() -> str:
        raise LookFailed("the workload identity gives no token")

    async with ResourceManager(config, none) as arm:
        with pytest.raises(LookFailed, match="gives no token"):
            await arm.pages(config.groups_path)
    assert made.asked == []


async def test_a_right_that_is_missing_is_a_fault_with_its_remedy_until_it_is_there(
    azure: tuple[Azure, AccountConfig],
) -> None:
    made, config = azure
    made.will(says(403, error("AuthorizationFailed")))
    news = asyncio.Event()
    account = ContainerGroups(config, token, lambda: datetime.now(UTC), news.set)
    await account.start()
    try:

        async def fault() -> str | None:
            return next(account.faults(), None)

        assert "role Reader" in await until(fault, "a fault")
        with pytest.raises(LookFailed, match="AuthorizationFailed"):
            await account.look(())
        usages = [
            {"name": {"value": name}, "currentValue": 1, "limit": 9} for name in ("ContainerGroups", "StandardCores")
        ]
        made.will(lambda request: says(200, {"value": usages if "usages" in request.path else []})(request))

        async def read() -> bool | None:
            return None if [*account.faults()] else True

        await until(read, "no fault any more")
        seen = await account.look(())
        assert seen.groups == {}
        assert seen.group_quota is not None
        assert (seen.group_quota.used, seen.group_quota.limit) == (1, 9)
        assert news.is_set()
    finally:
        await account.stop()


async def test_quotas_that_nobody_gives_leave_groups_readable(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    made.will(
        lambda request: (
            says(403, error("AuthorizationFailed"))(request)
            if "usages" in request.path
            else says(200, {"value": []})(request)
        )
    )
    account = ContainerGroups(config, token, lambda: datetime.now(UTC))
    await account.start()
    try:

        async def fault() -> str | None:
            return next(account.faults(), None)

        assert "those of virtual_node count" in await until(fault, "a fault")
        assert (await account.look(())).group_quota is None
    finally:
        await account.stop()


async def test_a_probe_tells_what_is_wrong_and_what_was_found(azure: tuple[Azure, AccountConfig]) -> None:
    made, config = azure
    made.will(
        lambda request: (
            says(403, error("AuthorizationFailed"))(request)
            if "usages" in request.path
            else says(200, {"value": [{"name": "other", "tags": {}}]})(request)
        )
    )
    wrong, fine = await probe(config, token)
    assert fine == ["container groups in group: 1, of this dispatcher: 0"]
    assert len(wrong) == 1
    assert wrong[0].endswith("grant the role Reader on the subscription, or leave azure.region out")
