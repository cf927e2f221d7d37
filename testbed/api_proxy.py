"""A proxy in front of an API server that does on purpose what networks, load balancers and tired servers do.

    async with ApiProxy(plane.url, plane.ca_file) as proxy:
        proxy.inject(Fault.LOST_ANSWER, method="POST", path="/jobs$", times=1)
        ...  # clients are told proxy.url; their credentials are passed on as they are
        assert proxy.fired[Fault.LOST_ANSWER] == 1

Decides which requests are spoilt, and how: each fault hits requests by method, path and chance (seeded), a number of
times or for ever. Knows nothing of what the requests mean. Listens on loopback without TLS.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp import web

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}
_BODY_BYTES_MAX = 16 * 1024 * 1024
_UPSTREAM_SECONDS_MAX = 60.0


class Fault(StrEnum):
    """What can go wrong. The first group hits requests, the second watches."""

    LOST_ANSWER = "lost_answer"
    """The server does it, and the connection breaks before the answer."""
    TIMED_OUT = "timed_out"
    """The server does it, and a time-out (504) is answered."""
    NOT_SENT = "not_sent"
    """The connection breaks before the server hears of it."""
    TOO_MANY = "too_many"
    """429 with Retry-After; nothing happens."""
    UNAVAILABLE = "unavailable"
    """503; nothing happens."""
    BROKEN = "broken"
    """500; nothing happens."""
    CONFLICT = "conflict"
    """409 Conflict; nothing happens."""
    SLOW = "slow"
    """The answer takes ``seconds`` longer."""

    WATCH_EXPIRED = "watch_expired"
    """The version that a watch is to go on from is too old: an ERROR event with 410."""
    WATCH_DROPPED = "watch_dropped"
    """The connection of a watch breaks after its next event."""
    WATCH_STALLED = "watch_stalled"
    """A watch stays open and says nothing any more."""
    WATCH_DELAYED = "watch_delayed"
    """Each event of a watch comes ``seconds`` late."""
    WATCH_REORDERED = "watch_reordered"
    """Two events of a watch that come close together change places."""


_Saw = Callable[[int | None], None]

OF_WATCHES = frozenset(fault for fault in Fault if fault.startswith("watch_"))
_STATUSES = {
    Fault.TOO_MANY: (429, "TooManyRequests", "the server has received too many requests, please try again later"),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable", "the server is currently unable to handle the request"),
    Fault.BROKEN: (500, "InternalError", "an error on the server has prevented the request from succeeding"),
    Fault.TIMED_OUT: (504, "Timeout", "the server was unable to return a response in the time allotted"),
    Fault.CONFLICT: (409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
}


@dataclass(slots=True)
class _Injected:
    fault: Fault
    method: re.Pattern[str]
    path: re.Pattern[str]
    chance: float
    times: int | None
    after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came through, or did not."""

    method: str
    path: str
    query: str
    fault: Fault | None
    status: int | None
    """What the client was told; None: nothing."""

    @property
    def is_watch(self) -> bool:
        """Whether it asked for a watch."""
        return "watch=1" in self.query


class Keeper(Protocol):
    """Whoever wants to be asked about each request, watches apart. Requests are numbered by the proxy."""

    def may_pass(self, request: int, method: str, path: str) -> bool:
        """Whether the server hears of it; else the connection breaks."""
        ...

    def may_answer(self, request: int) -> bool:
        """Whether the client hears what the server said; else the connection breaks."""
        ...


@dataclass(slots=True)
class ApiProxy:
    """The proxy, while the block lasts."""

    upstream: str
    ca_file: Path
    seed: object = 0
    keeper: Keeper | None = None
    ahead: timedelta = timedelta(0)
    """The clock that its answers tell (``Date``) is ahead of the server's by so much."""
    version: str | None = None
    """The version that ``/version`` answers, such as ``v1.30.4``; None: the server's own."""
    seen: list[Seen] = field(default_factory=list)
    """Every request, in the order in which they ended."""
    fired: Counter[Fault] = field(default_factory=Counter)
    """How often each fault has hit."""
    url: str = ""
    _requests: int = 0
    _handling: set[asyncio.Task[Any]] = field(default_factory=set)
    _faults: list[_Injected] = field(default_factory=list)
    _random: Random = field(init=False)
    _session: aiohttp.ClientSession | None = None
    _runner: web.ServerRunner | None = None

    def __post_init__(self) -> None:
        self._random = Random(str(self.seed))  # noqa: S311 - dice from a seed

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.ca_file)), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = str(site.name)
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Watches of clients that were killed would never end by themselves.
        for task in self._handling:
            task.cancel()
        if self._handling:
            await asyncio.wait(self._handling)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def inject(
        self,
        fault: Fault,
        *,
        method: str = ".*",
        path: str = "",
        chance: float = 1.0,
        times: int | None = None,
        after: int = 0,
        seconds: float = 1.0,
    ) -> None:
        """From now on the fault hits requests whose method and path match (regular expressions), by chance.

        ``times``: so often at most; ``after``: so many are let through first; ``seconds``: Retry-After, or the delay.
        """
        self._faults.append(
            _Injected(fault, re.compile(f"^({method})$"), re.compile(path), chance, times, after, seconds)
        )

    def clear(self) -> None:
        """No more faults; what was spoilt stays so."""
        self._faults.clear()

    # --- one request --------------------------------------------------------------------------------------------------

    def _hit(self, method: str, path: str, *, watch: bool) -> _Injected | None:
        for each in self._faults:
            if (each.fault in OF_WATCHES) is not watch or each.times == 0:
                continue
            if not each.method.match(method) or not each.path.search(path):
                continue
            if each.after > 0:
                each.after -= 1
                continue
            if self._random.random() >= each.chance:
                continue
            if each.times is not None:
                each.times -= 1
            self.fired[each.fault] += 1
            return each
        return None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
        return await self._answer(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        watch = request.query.get("watch") in ("1", "true")
        keeper = None if watch else self.keeper
        self._requests += 1
        number = self._requests
        if keeper is not None and not keeper.may_pass(number, request.method, request.path):
            self.seen.append(Seen(request.method, request.path, request.query_string, None, None))
            return _broken(request)
        response = await self._spoilt_or_not(request, watch=watch)
        if keeper is not None and not keeper.may_answer(number):
            return _broken(request)
        return response

    async def _spoilt_or_not(self, request: web.BaseRequest, *, watch: bool) -> web.StreamResponse:
        hit = self._hit(request.method, request.path, watch=watch)
        fault = hit.fault if hit else None

        def saw(status: int | None) -> None:
            self.seen.append(Seen(request.method, request.path, request.query_string, fault, status))

        if hit is None or hit.fault not in _STATUSES or hit.fault is Fault.TIMED_OUT:
            if fault is Fault.NOT_SENT:
                saw(None)
                return _broken(request)
            try:
                return await self._pass_on(request, hit, saw, watch=watch)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                saw(None)
                return _broken(request)
        await request.read()
        status, reason, message = _STATUSES[hit.fault]
        saw(status)
        return _status(status, reason, message, hit.seconds)

    async def _pass_on(
        self, request: web.BaseRequest, hit: _Injected | None, saw: _Saw, *, watch: bool
    ) -> web.StreamResponse:
        if self._session is None:
            raise RuntimeError("the proxy has not been started")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read()
        timeout = aiohttp.ClientTimeout(total=None if watch else _UPSTREAM_SECONDS_MAX)
        target = f"{self.upstream}{request.raw_path}"
        async with self._session.request(
            request.method, target, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            if watch and answer.status == 200:
                return await self._stream(request, answer, hit, saw)
            content = await answer.read()
        fault = hit.fault if hit else None
        if fault is Fault.LOST_ANSWER:
            saw(None)
            return _broken(request)
        if hit is not None and fault is Fault.TIMED_OUT:
            saw(504)
            return _status(*_STATUSES[Fault.TIMED_OUT], hit.seconds)
        if hit is not None and fault is Fault.SLOW:
            await asyncio.sleep(hit.seconds)
        saw(answer.status)
        if self.version is not None and request.path == "/version":
            content = json.dumps({**json.loads(content), "gitVersion": self.version}).encode()
        return web.Response(status=answer.status, body=content, headers=self._passed(answer))

    def _passed(self, answer: aiohttp.ClientResponse) -> dict[str, str]:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        if self.ahead and "Date" in headers:
            headers["Date"] = format_datetime(parsedate_to_datetime(headers["Date"]) + self.ahead, usegmt=True)
        return headers

    # --- watches ------------------------------------------------------------------------------------------------------

    async def _stream(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, hit: _Injected | None, saw: _Saw
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=self._passed(answer))
        await response.prepare(request)
        saw(200)
        fault = hit.fault if hit else None
        if fault is Fault.WATCH_EXPIRED:
            await response.write(_expired())
            await response.write_eof()
            return response
        with suppress(ConnectionError, aiohttp.ClientError):
            if fault is Fault.WATCH_STALLED:
                while await answer.content.readany():
                    pass  # swallowed, for as long as somebody listens
                return response
            lines = _lines(answer)
            if hit is not None and fault is Fault.WATCH_REORDERED:
                lines = _reordered(lines, hit.seconds)
            async for line in lines:
                if hit is not None and fault is Fault.WATCH_DELAYED:
                    await asyncio.sleep(hit.seconds)
                await response.write(line)
                if fault is Fault.WATCH_DROPPED:
                    return _broken(request, response)
        return response


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    while chunk := await answer.content.readany():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"


async def _reordered(lines: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Each event changes places with the next one, if that comes within so many seconds."""
    waiting: asyncio.Task[bytes] | None = None

    async def following() -> bytes:
        return await anext(lines)

    try:
        while True:
            try:
                first = await (waiting or following())
            except StopAsyncIteration:
                return
            waiting = asyncio.create_task(following())
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if done and waiting.exception() is None:
                yield waiting.result()
                waiting = None
            yield first
            if waiting is not None and waiting.done():
                return
    finally:
        if waiting is not None:
            waiting.cancel()


def _broken(request: web.BaseRequest, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """The connection breaks without a word."""
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response(status=502)


def _status(status: int, reason: str, message: str, retry_after: float) -> web.Response:
    body = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    }  # fmt: skip
    headers = {"Retry-After": f"{max(1, round(retry_after))}"} if status in (429, 503) else {}
    return web.json_response(body, status=status, headers=headers)


def _expired() -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
    status["message"] = "too old resource version"
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
