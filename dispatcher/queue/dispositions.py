"""What is to happen to a delivered message, and how the SDK is asked to do it.

Decides which call of the SDK does it. Refuses to know when it is its turn (the pump does) and what an error means.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from dispatcher.ports import Answer, DeadLetter
from dispatcher.queue.holding import Held

__all__ = ["Act", "Disposition", "ask"]

_REASON_MAX = 128
_DESCRIPTION_MAX = 4096


class Act(StrEnum):
    """What can be done with a message under lock."""

    DEFER = "defer"
    DEAD_LETTER = "dead_letter"
    ABANDON = "abandon"
    COMPLETE = "complete"


@dataclass(slots=True)
class Disposition:
    """One act on one held message, and where its answer goes. ``letter`` belongs to DEAD_LETTER.

    The answer None means that nothing was tried, since the receiver that the message came through is gone.
    """

    act: Act
    held: Held
    answer: asyncio.Future[Answer | None]
    letter: DeadLetter | None = None

    @property
    def lock_token(self) -> str:
        """The lock that it is done under."""
        return self.held.delivery.lock_token

    def resolve(self, answer: Answer | None) -> None:
        """Gives the answer, if somebody still waits for it."""
        if not self.answer.done():
            self.answer.set_result(answer)


async def ask(
    receiver: ServiceBusReceiver, act: Act, received: ServiceBusReceivedMessage, letter: DeadLetter | None
) -> None:
    """Asks the SDK. Raises what the SDK raises."""
    match act:
        case Act.DEFER:
            await receiver.defer_message(received)
        case Act.DEAD_LETTER:
            letter = letter or DeadLetter(reason="", description="")
            await receiver.dead_letter_message(
                received, reason=letter.reason[:_REASON_MAX], error_description=letter.description[:_DESCRIPTION_MAX]
            )
        case Act.ABANDON:
            await receiver.abandon_message(received)
        case Act.COMPLETE:
            await receiver.complete_message(received)
        case unknown:
            assert_never(unknown)
