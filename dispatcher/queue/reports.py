"""The queue that pods of several items send their reports to, behind the Reports port.

Decides nothing that the other queues do not: a report is received and settled as any message, with completing as one
more way to settle. Refuses to know what a report says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from dispatcher.ports import Answer
from dispatcher.queue.dispositions import Act
from dispatcher.queue.service_bus import ServiceBusQueue

__all__ = ["ServiceBusReports"]

_PAGE = 100


class ServiceBusReports(ServiceBusQueue):
    """The report queue. ``start`` it, use it as the Reports port, ``stop`` it."""

    async def complete(self, lock_tokens: Sequence[str]) -> Mapping[str, Answer]:
        """Removes delivered reports for good. CONFLICT: the lock was lost, so the report will be delivered again."""
        return await self._settled(Act.COMPLETE, dict.fromkeys(lock_tokens))

    async def oldest(self, besides: Collection[int]) -> datetime | None:
        """When the oldest report came that the queue still has. Raises LookFailed.

        The oldest of the first page that holds any: partitions of a queue are looked through one after another.
        """
        first = 1
        while page := await self.peek(first, _PAGE):
            times = [each.message.enqueued_at for each in page if each.message.sequence_number not in besides]
            if times:
                return min(times)
            first = max(each.message.sequence_number for each in page) + 1
        return None
