"""Outcomes on their way to reply queues, behind the Outcomes port.

Decides that nobody waits for a reply queue: each has a task of its own, which owns its sender, sends whatever has been
handed over in as few batches as it takes, and keeps the answers until they are asked for. Refuses to know when an
outcome is sent again, or given up: that is decided where the record is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from dispatcher.core.outcomes import Outcome
from dispatcher.ports import Answer, OutcomeAnswer
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.outcome_events import to_message
from dispatcher.queue.producer import NotSent, Producer, TooLarge

__all__ = ["ServiceBusOutcomes"]

_AT_ONCE_MAX = 500
"""So many are sent before the first of them are answered."""
_log = structlog.get_logger("dispatcher.queue")


def _no_bell() -> None:
    pass


class ServiceBusOutcomes:
    """All reply queues of one namespace. Use it as the Outcomes port, and ``stop`` it.

    ``config_of`` says how to reach a queue; ``on_news`` is the bell: called on the event loop when there are answers.
    """

    def __init__(self, config_of: Callable[[str], ServiceBusConfig], on_news: Callable[[], None] = _no_bell) -> None:
        self._config_of = config_of
        self._on_news = on_news
        self._lines: dict[str, _Line] = {}
        self._answers: list[OutcomeAnswer] = []

    async def send(self, outcomes: Sequence[Outcome]) -> None:
        """Takes outcomes over, each to be sent once to the queue that it names."""
        for outcome in outcomes:
            line = self._lines.get(outcome.reply_to)
            if line is None:
                line = _Line(outcome.reply_to, self._config_of(outcome.reply_to), self._answered)
                self._lines[outcome.reply_to] = line
            line.put(outcome)

    async def answers(self) -> Sequence[OutcomeAnswer]:
        """What became of them since last asked, at once."""
        answers, self._answers = self._answers, []
        return answers

    async def stop(self) -> None:
        """Sends no more and closes everything, within bounds. What was not answered is sent anew by the next leader."""
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(line.stop() for line in lines))

    def _answered(self, answers: Sequence[OutcomeAnswer]) -> None:
        self._answers += answers
        self._on_news()


class _Line:
    """One reply queue: what waits to be sent, and the task that sends it."""

    def __init__(
        self, queue: str, config: ServiceBusConfig, answered: Callable[[Sequence[OutcomeAnswer]], None]
    ) -> None:
        self._queue = queue
        self._producer = Producer(config)
        self._answered = answered
        self._waiting: deque[Outcome] = deque()
        self._something = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"outcomes to {queue}")

    def put(self, outcome: Outcome) -> None:
        self._waiting.append(outcome)
        self._something.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._producer.close()

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE_MAX))]
                self._answered(await self._sent(batch))

    async def _sent(self, batch: Sequence[Outcome]) -> list[OutcomeAnswer]:
        try:
            await self._producer.send([to_message(outcome) for outcome in batch])
        except NotSent as error:
            confirmed, answer, why = error.confirmed, Answer.REFUSED if error.refused else Answer.UNKNOWN, error.why
        except TooLarge as error:
            confirmed, answer, why = error.confirmed, Answer.REFUSED, str(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave outcomes without an answer
            _log.exception("outcomes.failed", queue=self._queue)
            confirmed, answer, why = 0, Answer.UNKNOWN, f"{type(error).__name__}: {error}"
        else:
            return [OutcomeAnswer(outcome.event_id, Answer.DONE) for outcome in batch]
        _log.warning("outcomes.not_sent", queue=self._queue, confirmed=confirmed, count=len(batch), error=why)
        answers = [OutcomeAnswer(outcome.event_id, Answer.DONE) for outcome in batch[:confirmed]]
        answers += [OutcomeAnswer(outcome.event_id, answer, why) for outcome in batch[confirmed:]]
        # What waits behind would meet the same: it is answered now, and handed over again when it is time.
        answers += [OutcomeAnswer(outcome.event_id, Answer.REFUSED, why) for outcome in self._waiting]
        self._waiting.clear()
        return answers
