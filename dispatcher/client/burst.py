"""BurstClient: sends work, and hears how it ended. The composition of this room.

Decides nothing but which part does what. Safe to be used by any number of tasks of one event loop at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from azure.core.credentials_async import AsyncTokenCredential

from dispatcher.client.checks import Check
from dispatcher.client.errors import ClientError, InvalidWork, NotInTime
from dispatcher.client.inbox import Inbox
from dispatcher.client.sending import Sending
from dispatcher.client.work import Outgoing, Work
from dispatcher.core.outcomes import Outcome
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.links import Closing

__all__ = ["BurstClient"]

WORK_QUEUE = "work"


class BurstClient(Closing):
    """Sends work to one queue, and receives outcomes from one reply queue. Use as an async context manager.

    ``check`` judges every item before it is sent (see ``by_tasks`` and ``by_schema``). The reply queue must be one that
    operators allow for the work queue, and belongs to this client alone: what it receives is gone for others. Raises
    BadConfiguration for values that cannot work.
    """

    def __init__(self, config: ServiceBusConfig, *, reply_to: str | None = None, check: Check | None = None) -> None:
        self._reply_to = reply_to
        self._check = check
        self._sending = Sending(config)
        self._inbox: Inbox | None = None
        if reply_to is not None:
            self._inbox = Inbox(replace(config, queue=reply_to))

    @classmethod
    def from_connection_string(
        cls,
        connection_string: str | Callable[[], str],
        queue: str = WORK_QUEUE,
        *,
        reply_to: str | None = None,
        check: Check | None = None,
        **client_options: Any,
    ) -> Self:
        """A client that connects with a secret, or with what a function says it is now. ``client_options`` go to the
        SDK's client: ``transport_type``, ``connection_verify``, ``http_proxy`` ..."""
        secret = (lambda: connection_string) if isinstance(connection_string, str) else connection_string
        config = ServiceBusConfig(queue=queue, connection_string=secret, client_options=client_options)
        return cls(config, reply_to=reply_to, check=check)

    @classmethod
    def with_credential(
        cls,
        namespace: str,
        credential: AsyncTokenCredential,
        queue: str = WORK_QUEUE,
        *,
        reply_to: str | None = None,
        check: Check | None = None,
        **client_options: Any,
    ) -> Self:
        """A client that connects with an identity to a namespace, such as ``orders.servicebus.windows.net``. Closing
        the credential is left to whoever made it."""
        config = ServiceBusConfig(
            queue=queue, namespace=namespace, credential=lambda: credential, client_options=client_options
        )
        return cls(config, reply_to=reply_to, check=check)

    async def close(self) -> None:
        """Sends what has been handed over, then closes everything within bounds. Whoever still waits is told."""
        await self._sending.close()
        if self._inbox is not None:
            await self._inbox.close()

    # --- sending ----------------------------------------------------------------------------------------------------

    async def send(
        self,
        task: str,
        params: Mapping[str, Any] | None = None,
        *,
        tenant: str | None = None,
        priority: int | None = None,
        message_id: str | None = None,
        reply: bool | None = None,
        at: datetime | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Sends one item and returns its message id once the broker has it. The arguments are those of ``Work``.

        Calls that come together travel together. Raises InvalidWork before anything is sent, SendFailed after it was
        tried. Cancelled while it is on its way, it may have been sent.
        """
        work = Work(task, params or {}, tenant, priority, message_id, reply, at, traceparent)
        [sent] = await self.send_many([work])
        return sent

    async def send_many(self, items: Iterable[Work], *, sent: Callable[[int], None] | None = None) -> list[str]:
        """Sends many items, in order, and returns their message ids, in the same order.

        All are checked before the first is sent. ``sent`` is told how many after each batch. Raises as ``send``.
        """
        messages = self.checked(items)
        await self.send_checked(messages, sent=sent)
        return [message.message_id for message in messages]

    def checked(self, items: Iterable[Work]) -> list[Outgoing]:
        """The messages of these items. Raises InvalidWork for the first that the dispatcher would refuse."""
        messages = []
        for position, work in enumerate(items):
            message = Outgoing.of(work, self._reply_to, position)
            if self._check is not None:
                try:
                    self._check(message.message_id, message.body)
                except InvalidWork as error:
                    raise InvalidWork(error.reason, error.description, position) from error
            messages.append(message)
        return messages

    async def send_checked(self, messages: Sequence[Outgoing], *, sent: Callable[[int], None] | None = None) -> None:
        """Sends messages that ``checked`` gave. Raises SendFailed."""
        if self._inbox is not None:
            self._inbox.sent(message.message_id for message in messages if message.asks)
        await self._sending.send(messages, sent)

    # --- outcomes ---------------------------------------------------------------------------------------------------

    async def wait(self, message_ids: Iterable[str], timeout: timedelta) -> dict[str, Outcome]:
        """The outcomes of these items, by message id, once all have come.

        Raises NotInTime, which has those that came, and RepliesRefused. Waiting again for the same ids is fine.
        """
        found: dict[str, Outcome] = {}
        async with aclosing(self.as_they_come(message_ids, timeout)) as outcomes:
            async for outcome in outcomes:
                found[outcome.message_id] = outcome
        return found

    async def as_they_come(
        self,
        message_ids: Iterable[str],
        timeout: timedelta,
    ) -> AsyncGenerator[Outcome, None]:
        """The outcomes of these items, each as it comes; ends when all have. Raises NotInTime and RepliesRefused."""
        wanted = list(dict.fromkeys(message_ids))
        found: dict[str, Outcome] = {}
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout.total_seconds()
        async with aclosing(self._the_inbox().each(wanted)) as outcomes:
            while len(found) < len(wanted):
                try:
                    async with asyncio.timeout(max(until - loop.time(), 0.0)):
                        outcome = await anext(outcomes)
                except TimeoutError:
                    missing = [message_id for message_id in wanted if message_id not in found]
                    raise NotInTime(found, missing) from None
                found[outcome.message_id] = outcome
                yield outcome

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """Every outcome that nobody waits for by id, for as long as it is read; one reader at a time.

        An outcome is off the queue only when the next one is asked for: what a reader was busy with when it died, or
        left, is told again. Raises RepliesRefused.
        """
        async with aclosing(self._the_inbox().stream()) as outcomes:
            async for outcome in outcomes:
                yield outcome

    def _the_inbox(self) -> Inbox:
        if self._inbox is None:
            raise ClientError("this client has no reply queue; give it reply_to")
        return self._inbox
