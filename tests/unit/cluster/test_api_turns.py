"""A request waits for its turn no longer than its patience: what is sent late lands when nobody expects it any more."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from dispatcher.cluster import ServerClock
from dispatcher.cluster.api import Api, NoAnswer
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.errors import BadConfiguration

PATIENCE = timedelta(seconds=0.3)


class Answer:
    """What the server says once it says anything."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - a stand-in's

    async def read(self) -> bytes:
        return json.dumps({"metadata": {"resourceVersion": "1"}}).encode()


class SilentServer:
    """A client whose server keeps every request until it is told to answer."""

    class configuration:
        host = "https://cluster"

    def __init__(self) -> None:
        self.rest_client = self
        self.asked = 0
        self.reached = asyncio.Event()
        self.answers = asyncio.Event()

    async def update_params_for_auth(self, *args: Any) -> None:
        return None

    async def request(self, *args: Any, **more: Any) -> Answer:
        self.asked += 1
        self.reached.set()
        await self.answers.wait()
        return Answer()


def an_api(server: Any, **more: Any) -> Api:
    return Api(server, KubernetesConfig("own", ("tasks",), **more), ServerClock())


async def test_what_finds_no_turn_in_time_is_not_sent_at_all() -> None:
    server = SilentServer()
    api = an_api(server, requests_at_once=1, patience=PATIENCE)
    first = asyncio.create_task(api.send("POST", "/first"))
    await server.reached.wait()
    with pytest.raises(NoAnswer, match="POST /second: was not sent"):
        await api.send("POST", "/second")
    server.answers.set()
    assert (await first).ok
    assert server.asked == 1
    assert (await api.send("POST", "/third")).ok


async def test_a_turn_is_given_back_whatever_becomes_of_the_request() -> None:
    server = SilentServer()
    api = an_api(server, requests_at_once=1, patience=PATIENCE, request_timeout=timedelta(milliseconds=50), tries_max=1)
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await api.send("GET", "/silent")
    assert server.asked == 3


def test_requests_that_could_land_after_the_launch_grace_are_refused_as_a_setting() -> None:
    with pytest.raises(BadConfiguration, match="60 s together"):
        KubernetesConfig("own", ("tasks",), patience=timedelta(seconds=50), request_timeout=timedelta(seconds=11))
