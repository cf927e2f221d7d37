"""The one owner of the sender: whoever sends hands over messages and waits for the answer.

A sender of the SDK that two tasks use at once sends copies. So one task sends, and what has come together meanwhile
travels together. Decides which batches there are, what is sent once more, and who is told what.

What got no answer is sent once more under the same ids: most often a connection had died while nothing was sent. A
message that was taken the first time is then on the queue twice, unless the queue detects duplicates; for the
dispatcher it is a copy, which waits behind the first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dispatcher.client.errors import ClientError, InvalidWork, SendFailed
from dispatcher.client.work import Outgoing
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.producer import NotSent, Producer, TooLarge

__all__ = ["Sending"]

AT_ONCE_MAX = 500
"""So many messages are sent before the first of them are answered."""


@dataclass(slots=True, eq=False)
class _Asked:
    """What one caller wants to be sent; it is told when all of it was."""

    messages: Sequence[Outgoing]
    answer: asyncio.Future[None]
    told: Callable[[int], None] | None
    sent: int = 0
    """So many of its first messages were confirmed."""
    failures: int = 0
    """In a row, of what is next."""

    def next(self, count_max: int) -> Sequence[Outgoing]:
        return self.messages[self.sent : self.sent + count_max]


class Sending:
    """Sends for everybody. ``close`` sends what has been handed over, and no more."""

    def __init__(self, config: ServiceBusConfig) -> None:
        self._producer = Producer(config)
        self._asked: deque[_Asked] = deque()
        self._something = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def send(self, messages: Sequence[Outgoing], told: Callable[[int], None] | None = None) -> None:
        """Sends all of them, in order; ``told`` hears how many after each batch.

        Raises SendFailed, and InvalidWork for a message that is larger than the queue takes. Cancelled: what was not
        begun is not sent, what was begun may be.
        """
        if self._closing:
            raise ClientError("the client is closed")
        if not messages:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sending work")
            self._task.add_done_callback(self._ended)
        asked = _Asked(messages, asyncio.get_running_loop().create_future(), told)
        self._asked.append(asked)
        self._something.set()
        await asked.answer

    async def close(self) -> None:
        """Ends when everything that was handed over has been sent, or has failed."""
        self._closing = True
        self._something.set()
        if self._task is not None:
            await self._task
        await self._producer.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """However the owner ends, nobody is left waiting for it."""
        self._closing = True
        for asked in self._asked:
            _fail(asked, ClientError("the client is closed"))

    async def _run(self) -> None:
        while self._asked or not self._closing:
            if not self._asked:
                await self._something.wait()
                self._something.clear()
            while self._asked and self._asked[0].answer.done():  # sent, or its caller has gone
                self._asked.popleft()
            if self._asked:
                await self._send_some()

    async def _send_some(self) -> None:
        batch: list[tuple[_Asked, Outgoing]] = []
        for asked in self._asked:
            if not asked.answer.done():
                batch += [(asked, message) for message in asked.next(AT_ONCE_MAX - len(batch))]
            if len(batch) >= AT_ONCE_MAX:
                break
        if not batch:
            return
        try:
            confirmed = await self._producer.send([message.message() for _, message in batch])
            failure: Exception | None = None
        except (NotSent, TooLarge) as error:
            confirmed, failure = error.confirmed, error
        except Exception as error:  # noqa: BLE001 - a fault of ours must leave nobody waiting
            confirmed, failure = 0, error
        self._note(batch[:confirmed])
        if failure is not None:
            self._failed(batch[confirmed:], failure)

    def _note(self, confirmed: Sequence[tuple[_Asked, Outgoing]]) -> None:
        counts: dict[_Asked, int] = {}
        for asked, _ in confirmed:
            counts[asked] = counts.get(asked, 0) + 1
        for asked, count in counts.items():
            asked.sent += count
            asked.failures = 0
            if asked.answer.done():
                continue
            if asked.told is not None:
                try:
                    asked.told(count)
                except Exception as error:  # noqa: BLE001 - it is the caller's, and comes back to the caller
                    _fail(asked, error)
                    continue
            if asked.sent == len(asked.messages):
                asked.answer.set_result(None)

    def _failed(self, unsent: Sequence[tuple[_Asked, Outgoing]], failure: Exception) -> None:
        if isinstance(failure, TooLarge):  # one message's own fault: the others go on without it
            asked, message = unsent[0]
            text = f"message {message.message_id!r} has {len(message.body)} bytes, more than the queue takes"
            _fail(asked, InvalidWork("too_large", text, asked.sent) if asked.sent == 0 else _partly(asked, text))
            return
        refused = isinstance(failure, NotSent) and failure.refused
        why = failure.why if isinstance(failure, NotSent) else f"{type(failure).__name__}: {failure}"
        for asked in dict.fromkeys(each for each, _ in unsent):
            asked.failures += 1
            if refused or asked.failures > 1:
                ids = [message.message_id for message in asked.messages]
                _fail(asked, SendFailed(why, ids[: asked.sent], ids[asked.sent :], refused=refused))


def _partly(asked: _Asked, why: str) -> SendFailed:
    ids = [message.message_id for message in asked.messages]
    return SendFailed(why, ids[: asked.sent], ids[asked.sent :], refused=True)


def _fail(asked: _Asked, error: Exception) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)
