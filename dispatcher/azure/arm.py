"""One GET to Azure Resource Manager: paced, bounded in time, tried again as Azure asks; and all pages of a list.

Decides which answers are worth another try (429 and a service that is unwell or silent), and that a wait which Azure
asks for is kept by all requests. Knows nothing of what is asked for. Every request only reads, so that each may be
repeated.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from asyncio_throttle.throttler import Throttler
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from dispatcher.azure.config import API_VERSION, AccountConfig, Token
from dispatcher.errors import LookFailed

__all__ = ["NotThere", "Refused", "ResourceManager", "Throttled"]

_OWN_BACKOFF = wait_random_exponential(multiplier=0.5, max=5.0)
_PAGES_MAX = 1000
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)


class Throttled(LookFailed):
    """Azure asks to be left alone for longer than one request may take; ``after_s``: for so many seconds."""

    def __init__(self, text: str, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s


class Refused(LookFailed):
    """Azure understood and will not answer this identity. The text says what is missing."""


class NotThere(LookFailed):
    """There is no such thing."""


class _TryAgain(Exception):
    def __init__(self, text: str, after_s: float | None = None) -> None:
        super().__init__(text)
        self.after_s = after_s


class ResourceManager:
    """Azure Resource Manager, as this process may read it. Use it as a block: it holds connections."""

    def __init__(self, config: AccountConfig, token: Token) -> None:
        self._config = config
        self._token = token
        self._pace: Any = Throttler(rate_limit=config.requests_per_second)
        self._at_once = asyncio.Semaphore(config.requests_at_once)
        self._session: aiohttp.ClientSession | None = None
        self._not_before = 0.0
        """On the monotonic clock: Azure asked for quiet until then."""

    async def __aenter__(self) -> Self:
        seconds = self._config.request_timeout.total_seconds()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def pages(self, path: str) -> list[Mapping[str, Any]]:
        """All entries of a list, every page of it. Raises LookFailed if one is missing."""
        found: list[Mapping[str, Any]] = []
        url = self._url(path)
        for _ in range(_PAGES_MAX):
            body = await self._get(url)
            value = body.get("value")
            if not isinstance(value, list):
                raise LookFailed(f"GET {path}: the answer is no list")
            found += value
            following = body.get("nextLink")
            if not following:
                return found
            if urlsplit(str(following)).netloc != urlsplit(self._config.endpoint).netloc:
                raise LookFailed(f"GET {path}: the next page is elsewhere, where no token of ours is sent")
            url = str(following)
        raise LookFailed(f"GET {path}: more than {_PAGES_MAX} pages")

    async def get(self, path: str) -> Mapping[str, Any]:
        """One resource. Raises LookFailed; NotThere and Refused where Azure says so."""
        return await self._get(self._url(path))

    def _url(self, path: str) -> str:
        return f"{self._config.endpoint.rstrip('/')}{path}?api-version={API_VERSION}"

    async def _get(self, url: str) -> Mapping[str, Any]:
        config = self._config
        retrying = AsyncRetrying(
            stop=stop_after_attempt(config.tries_max) | stop_before_delay(config.patience.total_seconds()),
            wait=_as_azure_asks,
            retry=retry_if_exception_type(_TryAgain),
            reraise=True,
        )
        async with self._at_once:
            try:
                async for attempt in retrying:
                    with attempt:
                        return await self._once(url)
            except _TryAgain as last:
                if last.after_s is not None:
                    raise Throttled(str(last), last.after_s) from last
                raise LookFailed(str(last)) from last
        raise LookFailed(f"GET {url}: no try was made")

    async def _once(self, url: str) -> Mapping[str, Any]:
        if self._session is None:
            raise LookFailed("the way to Azure is not open")
        await self._keep_quiet(url)
        await self._pace.acquire()
        what = f"GET {urlsplit(url).path}"
        try:
            async with asyncio.timeout(self._config.request_timeout.total_seconds()):
                token = await self._token()
                headers = {"Authorization": f"Bearer {token}", "User-Agent": "burst-dispatcher"}
                async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                    content = await answer.content.read(_ANSWER_BYTES_MAX + 1)
                    while len(content) <= _ANSWER_BYTES_MAX and not answer.content.at_eof():
                        content += await answer.content.read(_ANSWER_BYTES_MAX + 1 - len(content))
        except _TRANSPORT_ERRORS as error:
            raise _TryAgain(f"{what}: {type(error).__name__} {error}".rstrip()) from error
        if len(content) > _ANSWER_BYTES_MAX:
            raise LookFailed(f"{what}: an answer of more than {_ANSWER_BYTES_MAX} bytes")
        return self._read(what, answer.status, answer.headers.get("Retry-After"), content)

    async def _keep_quiet(self, url: str) -> None:
        wait = self._not_before - time.monotonic()
        if wait > self._config.request_timeout.total_seconds():
            raise Throttled(f"GET {urlsplit(url).path}: Azure has asked to wait {wait:.0f} s more", wait)
        if wait > 0:
            await asyncio.sleep(wait)

    def _read(self, what: str, status: int, retry_after: str | None, content: bytes) -> Mapping[str, Any]:
        body = _object(content)
        if status == 200:
            if body is None:
                raise _TryAgain(f"{what}: the answer is no object")
            return body
        told = f"{what}: {status} {_words(body)}".rstrip()
        if status == 429:
            after_s = _seconds(retry_after)
            self._not_before = max(self._not_before, time.monotonic() + after_s)
            raise _TryAgain(told, after_s)
        if status >= 500 or status == 408:
            raise _TryAgain(told)
        if status in (401, 403):
            raise Refused(told)
        if status == 404:
            raise NotThere(told)
        raise LookFailed(told)


def _as_azure_asks(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, _TryAgain) and error.after_s is not None:
        return error.after_s
    return _OWN_BACKOFF(state)


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After header; Azure writes seconds. Where it writes none, a little."""
    try:
        return min(max(float(retry_after or "5"), 1.0), 3600.0)
    except ValueError:
        return 5.0


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _words(body: Mapping[str, Any] | None) -> str:
    """What an error says for people, in one line."""
    error = (body or {}).get("error")
    if not isinstance(error, dict):
        return ""
    return f"{error.get('code', '')}: {str(error.get('message', '')).partition(chr(10))[0][:500]}"
