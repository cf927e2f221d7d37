"""One SDK object, one owner at a time, bounded waits, rebuilt when broken.

Decides when a receiver or a client must be replaced. Refuses to know what they are used for. The SDK retries nothing
on its own here (``retry_total=0``): after a retry inside the SDK "not found" would no longer say whether the first try
had removed the message, so retries are made where it is known what an error proves.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from asyncio_throttle.throttler import Throttler
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.translate import breaks_link, is_busy, is_silence, told

__all__ = ["Clients", "Closing", "Link", "Pace", "bounded", "patiently", "utc_now"]

T = TypeVar("T")
MonotonicClock = Callable[[], float]

_GRACE_SECONDS = 1.0
_BUSY_SECONDS = 0.05
_log = structlog.get_logger("dispatcher.queue")


def utc_now() -> datetime:
    """The time that the ends of locks are compared with."""
    return datetime.now(UTC)


class Closing(ABC):
    """What is closed at the end of the block that it is used in."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Closes everything that was opened, within bounds."""


async def bounded(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Awaits SDK work for so long and a short grace, even if it ignores being cancelled. Raises TimeoutError.

    ``asyncio.timeout`` cancels once and then waits for the SDK to tidy up, which on a dead connection may take for
    ever. Work that does not end is left behind; its SDK object is thrown away by the caller.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_SECONDS)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if not task.done() or task.cancelled():
        raise TimeoutError(f"no answer within {seconds:g} s")
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def patiently(call: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Calls again, with growing jittered pauses, as long as the broker says that it is busy and time is left."""
    try:
        return await call()
    except Exception as error:
        if not is_busy(error):
            raise
    await asyncio.sleep(_BUSY_SECONDS)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(is_busy),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        stop=stop_after_delay(seconds),
        reraise=True,
    ):
        with attempt:
            return await call()
    raise AssertionError("tenacity ends by an answer or an error")  # pragma: no cover


class Pace:
    """Paces messages received or looked at, dispositions and requests to so many a second.

    As the Standard tier counts: a request for many messages costs as many as it concerns.
    """

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._throttler = Throttler(rate_limit=per_second) if per_second is not None else None

    def turn(self) -> AbstractAsyncContextManager[Any]:
        """Waits for one's turn on entering."""
        return self._throttler if self._throttler is not None else nullcontext()

    async def spend(self, messages: int) -> None:
        """Waits until so many more may follow; never for more than a second's worth, so that every wait is bounded."""
        if self._throttler is None or self._per_second is None:
            return
        for _ in range(min(messages, self._per_second)):
            async with self._throttler:
                pass


class Clients:
    """The SDK's client, made anew on demand. It holds credentials; every sender and receiver has its own connection."""

    def __init__(self, config: ServiceBusConfig) -> None:
        self._config = config
        self._client: ServiceBusClient | None = None
        self._made_with: str | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self.generation = 0
        self.rebuilt = 0
        self.doubted_at = -math.inf

    def get(self) -> ServiceBusClient:
        """The client, made with the secret that is in force now. Raises whatever the provider of the secrets raises."""
        self.follow()
        if self._client is None:
            self._client = self._made()
        return self._client

    def follow(self) -> bool:
        """Lets the client go if the connection string is another one by now, and answers whether it was.

        Receivers that were made by it are replaced at their next use: what was rotated out ends sooner or later, and a
        mistake in the new one should show while somebody is looking.
        """
        if self._config.connection_string is None:
            return False
        secret = self._config.connection_string()
        known, self._made_with = self._made_with, secret
        if known is None or secret == known:
            return False
        self.renew()
        return True

    def renew(self) -> None:
        """Lets the client go; the next use makes a new one from the secrets as they are then."""
        if self._client is not None:
            self.generation += 1
            self.rebuilt += 1
            self.leave(self._client.close())
            self._client = None

    def doubt(self, since: float) -> None:
        """A call got no answer: every connection that has said nothing since then, by the monotonic clock, is in doubt.

        They mostly die together, and each would take a time-out of its own to notice.
        """
        self.doubted_at = max(self.doubted_at, since)

    def leave(self, closing: Coroutine[Any, Any, None]) -> None:
        """Closes something in the background, within bounds, whatever comes of it."""
        task = asyncio.ensure_future(self._closed(closing))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Closes the client and waits, within bounds, for all that is being closed."""
        if self._client is not None:
            self.leave(self._client.close())
            self._client = None
        if self._leaving:
            await asyncio.wait(set(self._leaving), timeout=self._config.close_timeout_seconds + _GRACE_SECONDS)

    async def _closed(self, closing: Coroutine[Any, Any, None]) -> None:
        try:
            await bounded(closing, self._config.close_timeout_seconds)
        except Exception as error:  # noqa: BLE001 - what is being thrown away may fail as it likes
            _log.debug("link.abandoned", queue=self._config.queue, error=told(error))

    def _made(self) -> ServiceBusClient:
        config = self._config
        options: dict[str, Any] = {
            "retry_total": 0,
            "try_timeout": config.operation_timeout_seconds,
            **config.client_options,
        }
        if config.connection_string is not None:
            assert self._made_with is not None  # noqa: S101 - get has asked for it
            return ServiceBusClient.from_connection_string(self._made_with, **options)
        assert config.namespace is not None  # noqa: S101 - the configuration has been checked
        assert config.credential is not None  # noqa: S101
        return ServiceBusClient(config.namespace, config.credential(), **options)


class Link:
    """A receiver of the SDK with everything that makes it dependable.

    ``wears``: replaced after many uses or long idleness, as suits a receiver that is only asked by its management link.
    """

    def __init__(
        self,
        role: str,
        clients: Clients,
        config: ServiceBusConfig,
        clock: MonotonicClock,
        make: Callable[[ServiceBusClient], ServiceBusReceiver],
        *,
        wears: bool = True,
    ) -> None:
        self.role = role
        self.generation = 0
        """Counts receivers: a message belongs to the one that it came through."""
        self.rebuilt = 0
        self._clients = clients
        self._config = config
        self._clock = clock
        self._make = make
        self._wears = wears
        self._lock = asyncio.Lock()
        self._receiver: ServiceBusReceiver | None = None
        self._client_generation = 0
        self._used_at = 0.0
        self._uses = 0

    async def run(self, call: Callable[[ServiceBusReceiver], Coroutine[Any, Any, T]], seconds: float) -> T:
        """Calls the receiver, alone with it, within so many seconds; waiting for one's turn and opening included.

        Raises what the SDK raises, or TimeoutError. An error that leaves the receiver in doubt throws it away.
        """
        until = self._clock() + seconds
        async with asyncio.timeout(seconds):
            await self._lock.acquire()
        try:
            receiver = await self.opened(max(until - self._clock(), 0.0))
            return await self.called(call(receiver), max(until - self._clock(), 0.0))
        finally:
            self._lock.release()

    async def opened(self, seconds: float) -> ServiceBusReceiver:
        """The receiver, opened if need be. Only for the owner of the lock, or the only user."""
        if self._receiver is not None and self._is_worn():
            self.discard()
        if self._receiver is None:
            receiver = self._make(self._clients.get())
            self._client_generation = self._clients.generation
            try:
                await bounded(receiver.__aenter__(), seconds)
            except BaseException:
                self._clients.leave(receiver.close())
                raise
            self.generation += 1
            self.rebuilt += self.generation > 1
            self._uses = 0
            self._used_at = self._clock()
            self._receiver = receiver
        return self._receiver

    async def called(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Awaits a call on the receiver that ``opened`` gave, and throws the receiver away if it breaks."""
        self._uses += 1
        began_at = self._clock()
        try:
            result = await bounded(work, seconds)
        except BaseException as error:
            if is_silence(error):
                self._clients.doubt(began_at)
            if breaks_link(error):
                self.discard()
            raise
        self._used_at = self._clock()
        return result

    def discard(self) -> None:
        """Throws the receiver away; closing it, which gives back what it has buffered, goes on in the background."""
        if self._receiver is not None:
            self._clients.leave(self._receiver.close())
            self._receiver = None

    async def close(self) -> None:
        """Closes the receiver, within bounds."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            try:
                await bounded(receiver.close(), self._config.close_timeout_seconds)
            except Exception as error:  # noqa: BLE001 - a receiver that cannot be closed is gone all the same
                _log.debug("link.abandoned", queue=self._config.queue, link=self.role, error=told(error))

    def _is_worn(self) -> bool:
        if self._client_generation != self._clients.generation:
            return True
        return self._wears and (
            self._used_at < self._clients.doubted_at
            or self._clock() - self._used_at > self._config.link_idle_max_seconds
            or self._uses >= self._config.link_uses_max
        )
