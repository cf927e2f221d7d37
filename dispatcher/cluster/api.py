"""One request to the API server: paced, bounded in time, tried again as the server asks; and the lines of a watch.

Decides which answers are worth another try: 429 always, since nothing has happened; a server that is unwell or silent
only where the caller says that the request may safely be repeated. Replies are plain JSON as the server wrote them.
Transport, TLS and credentials are the Kubernetes client's. Knows nothing of what is asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import structlog
from asyncio_throttle.throttler import Throttler
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from dispatcher.cluster.clock import ServerClock, boottime
from dispatcher.cluster.config import KubernetesConfig

log = structlog.get_logger(__name__)

T = TypeVar("T")

JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_JSON = "application/json"
_RETRY_AFTER_MAX_S = 10.0
_TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ConfigException)
_OWN_BACKOFF = wait_random_exponential(multiplier=0.2, max=2.0)
_LINE_BYTES_MAX = 8 * 1024 * 1024


class NoAnswer(Exception):
    """The server did not say what became of the request: nothing came, or that something broke there."""


class WatchEnded(Exception):
    """A watch is over and says why."""

    def __init__(self, text: str, *, expired: bool = False) -> None:
        super().__init__(text)
        self.expired = expired
        """The version that it was to go on from is too old: list anew."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said."""

    status: int
    body: Mapping[str, Any]
    doubtful: bool = False
    """An earlier try of this request got no answer: it may have happened then."""
    plain: bytes = b""
    """The content, where it is no object: a log."""

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300

    @property
    def reason(self) -> str:
        """The Status object's own word, such as AlreadyExists; empty on success."""
        return "" if self.ok else str(self.body.get("reason", ""))

    @property
    def text(self) -> str:
        """What it says for people."""
        return str(self.body.get("message") or self.reason or f"HTTP {self.status}")

    @property
    def version(self) -> str:
        """The resourceVersion of the object in the reply."""
        return str(self.body["metadata"]["resourceVersion"])


class _TryAgain(Exception):
    def __init__(self, text: str, reply: Reply | None, after_s: float | None) -> None:
        super().__init__(text)
        self.reply = reply
        self.after_s = after_s


class Api:
    """The API server, as this process may use it."""

    def __init__(self, client: ApiClient, config: KubernetesConfig, clock: ServerClock) -> None:
        self._client = client
        self._config = config
        self._clock = clock
        self._pace: Any = Throttler(rate_limit=config.requests_per_second)
        self._at_once = asyncio.Semaphore(config.requests_at_once)
        self.last_answer_at: float | None = None
        """On the monotonic clock: when the server last said anything but that it is unwell."""
        self.last_failure: str | None = None
        """What the last request failed with; None: the last one was answered."""

    async def close(self) -> None:
        """Closes all connections."""
        client: Any = self._client
        await client.close()

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        repeatable: bool = True,
    ) -> Reply:
        """Sends a request and returns what the server said, whether it likes it or not. Raises NoAnswer.

        ``repeatable``: it does no harm if it happens twice, so a try without an answer is followed by another.
        """
        config = self._config
        doubtful = False
        async with self._turn(f"{method} {path}") as patience_s:
            retrying = AsyncRetrying(
                stop=stop_after_attempt(config.tries_max) | stop_before_delay(patience_s),
                wait=_as_the_server_asks,
                retry=retry_if_exception_type(_TryAgain),
                reraise=True,
            )
            try:
                async for attempt in retrying:
                    with attempt:
                        try:
                            reply = await self._once(method, path, query, body, content_type, accept)
                        except NoAnswer as error:
                            doubtful = True
                            if not repeatable:
                                raise
                            raise _TryAgain(str(error), None, None) from error
                        return Reply(reply.status, reply.body, doubtful, reply.plain)
            except _TryAgain as last:
                if last.reply is None:
                    self.last_failure = str(last)
                    raise NoAnswer(str(last)) from last
                return Reply(last.reply.status, last.reply.body, doubtful)
            except NoAnswer as error:
                self.last_failure = str(error)
                raise
        raise NoAnswer(f"{method} {path}: no try was made")

    @asynccontextmanager
    async def _turn(self, what: str) -> AsyncGenerator[float, None]:
        """Waits until fewer than the most requests are under way; how many seconds of the patience are left then.

        Raises NoAnswer where none are: nothing was sent. A create that is begun long after it was asked for would land
        when nobody expects it any more.
        """
        asked, patience_s = boottime(), self._config.patience.total_seconds()
        try:
            async with asyncio.timeout(patience_s):
                await self._at_once.acquire()
        except TimeoutError as error:
            self.last_failure = f"{what}: was not sent; {self._config.requests_at_once} others are waiting for answers"
            raise NoAnswer(self.last_failure) from error
        try:
            yield max(0.0, patience_s - (boottime() - asked))
        finally:
            self._at_once.release()

    async def _once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Any, content_type: str, accept: str
    ) -> Reply:
        await self._pace.acquire()
        seconds = self._config.request_timeout.total_seconds()
        # The server gives up by itself too, so that nothing lands long after we have stopped waiting for it.
        url = self._url(path, {**(query or {}), "timeout": f"{seconds:g}s"})
        sent = boottime()
        try:
            async with asyncio.timeout(seconds):
                headers = await self._headers(method, path, content_type, accept)
                rest: Any = self._client.rest_client
                answer = await rest.request(method, url, headers=headers, body=body, _request_timeout=_total(seconds))
                raw = await answer.read()
        except _TRANSPORT_ERRORS as error:
            raise NoAnswer(f"{method} {path}: {_words(error)}") from error
        received = boottime()
        self._clock.heard(answer.headers.get("Date"), sent, received)
        is_plain = answer.headers.get("Content-Type", "").startswith("text/plain")
        reply = Reply(answer.status, _json(raw), plain=raw if is_plain else b"")
        after_s = _retry_after(answer.headers.get("Retry-After"))
        if reply.status == 429:
            raise _TryAgain(f"{method} {path}: {reply.text}", reply, after_s)
        if reply.status >= 500:
            text = f"{method} {path}: {reply.status} {reply.text}"
            log.debug("api.unwell", text=text)
            raise NoAnswer(text)
        self.last_answer_at, self.last_failure = received, None
        return reply

    async def watch(
        self, path: str, query: Mapping[str, str], stalled_after: timedelta
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a watch, one after another. Ends when the server ends it; raises WatchEnded or NoAnswer.

        A watch that says nothing for ``stalled_after`` is given up: where it stands, nobody knows.
        """
        await self._pace.acquire()
        seconds = self._config.request_timeout.total_seconds()
        quiet_s = stalled_after.total_seconds()
        sent = boottime()
        try:
            async with asyncio.timeout(seconds):
                headers = await self._headers("GET", path, _JSON, _JSON)
                rest: Any = self._client.rest_client
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=None)
                answer = await rest.request("GET", self._url(path, query), headers=headers, _request_timeout=timeout)
        except _TRANSPORT_ERRORS as error:
            raise NoAnswer(f"watch {path}: {_words(error)}") from error
        response: aiohttp.ClientResponse = answer.response
        try:
            self._clock.heard(response.headers.get("Date"), sent, boottime())
            if response.status != 200:
                async with asyncio.timeout(seconds):
                    reply = Reply(response.status, _json(await response.read()))
                raise _ended(path, reply.status, reply.text, _retry_after(response.headers.get("Retry-After")))
            async with aclosing(_lines(response, quiet_s)) as lines:
                async for line in lines:
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        status = event["object"]
                        raise _ended(path, int(status.get("code", 0)), str(status.get("message", "")), None)
                    yield event
        except TimeoutError as error:
            raise WatchEnded(f"watch {path}: said nothing for {quiet_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WatchEnded(f"watch {path}: {_words(error)}") from error
        finally:
            response.close()

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        return f"{self._client.configuration.host}{path}?{urlencode(query)}"

    async def _headers(self, method: str, path: str, content_type: str, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "burst-dispatcher"}
        client: Any = self._client
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        return headers


async def _lines(response: aiohttp.ClientResponse, quiet_s: float) -> AsyncGenerator[bytes, None]:
    """Whole lines, however long; TimeoutError where none comes for that long."""
    rest = b""
    while True:
        async with asyncio.timeout(quiet_s):
            chunk = await response.content.readany()
        if not chunk:
            if rest.strip():
                raise aiohttp.ClientPayloadError("the connection ended within a line")
            return
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"a line of more than {_LINE_BYTES_MAX} bytes")
        for line in whole:
            if line.strip():
                yield line


def _ended(path: str, status: int, text: str, after_s: float | None) -> WatchEnded | NoAnswer:
    if status == 410:
        return WatchEnded(f"watch {path}: {text}", expired=True)
    wait = f" (asks to wait {after_s:g} s)" if after_s else ""
    return NoAnswer(f"watch {path}: {status} {text}{wait}")


def _as_the_server_asks(state: RetryCallState) -> float:
    """How many seconds to wait: what the server asked for, else a little more each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, _TryAgain) and error.after_s is not None:
        return error.after_s
    return _OWN_BACKOFF(state)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, within reason."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None  # the API server writes seconds; a date comes from something in between
    return min(max(seconds, 0.0), _RETRY_AFTER_MAX_S)


def _total(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds)


def _json(raw: bytes) -> Mapping[str, Any]:
    """The object in a reply; what is none, as a proxy may send, counts as the message of one."""
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"message": raw[:500].decode(errors="replace").strip()}


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def pages(
    api: Api, path: str, query: Mapping[str, str], page_size: int, read: Callable[[Mapping[str, Any]], T]
) -> tuple[list[T], str]:
    """What ``read`` makes of all items of a consistent list, and the version it was read at: resourceVersion is unset,
    every page counts.

    Each page is read before the next is asked for, so that no more than one is held as the server wrote it. A list that
    breaks off or has expired is begun anew, once. Raises NoAnswer where that does not help either, and what ``read``
    raises.
    """
    for last_try in (False, True):
        try:
            return await _pages(api, path, query, page_size, read)
        except _Expired as error:
            if last_try:
                raise NoAnswer(f"list {path}: {error}") from error
    raise NoAnswer(f"list {path}: no try was made")


class _Expired(Exception):
    pass


async def _pages(
    api: Api, path: str, query: Mapping[str, str], page_size: int, read: Callable[[Mapping[str, Any]], T]
) -> tuple[list[T], str]:
    items: list[T] = []
    token = ""
    while True:
        page = {**query, "limit": str(page_size)}
        if token:
            page["continue"] = token
        reply = await api.send("GET", path, query=page)
        if reply.status == 410:
            raise _Expired(reply.text)
        if not reply.ok:
            raise NoAnswer(f"list {path}: {reply.status} {reply.text}")
        items += map(read, reply.body.get("items") or ())
        metadata = reply.body["metadata"]
        token = metadata.get("continue", "")
        if not token:
            return items, str(metadata["resourceVersion"])


def instant(text: str) -> datetime:
    """A timestamp as the API server writes it."""
    return datetime.fromisoformat(text)
