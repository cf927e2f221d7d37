"""The reply queues of the simulated world, and the Outcomes port of one process.

Takes outcomes in batches, as a broker does; for a while it may take none. Also the place where the law looks for what
senders were told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from random import Random

from dispatcher.core.outcomes import Outcome
from dispatcher.ports import Answer, OutcomeAnswer
from dispatcher.simulator.clock import WorldClock
from dispatcher.simulator.faults import NO_FAULTS, Fault, FaultPlan
from dispatcher.simulator.wire import BROKER_LATE_MAX, Surroundings, Wire

BATCH = 5
AWAY_SECONDS = (1.0, 1500.0)
REPLY_TO = "outcomes"
"""The queue that senders here ask for."""


@dataclass(slots=True)
class ReplyQueues:
    """All of them, as the broker has them."""

    clock: WorldClock
    world: Surroundings
    random: Random
    lags: bool
    """Answers come a cycle after the outcomes were handed over."""
    faults: FaultPlan = NO_FAULTS
    taken: list[Outcome] = field(default_factory=list)
    on_taken: list[Callable[[Outcome], None]] = field(default_factory=list)
    away_until: datetime | None = None

    def refuses(self) -> bool:
        """Whether the queue is full, disabled or not there; for how long, the dice say."""
        if self.faults is NO_FAULTS:
            self.away_until = None
        now = self.clock.now()
        rate = self.faults.rate(Fault.REPLY_REFUSED)
        if self.away_until is None and rate and self.random.random() < rate:
            self.away_until = now + timedelta(seconds=round(self.random.uniform(*AWAY_SECONDS), 3))
            self.world.struck(Fault.REPLY_REFUSED)
        if self.away_until is not None and now >= self.away_until:
            self.away_until = None
        return self.away_until is not None

    def take(self, outcomes: Sequence[Outcome]) -> Answer:
        """A batch: all of it or nothing."""
        self.taken += outcomes
        for outcome in outcomes:
            for told in self.on_taken:
                told(outcome)
        return Answer.DONE


@dataclass(slots=True)
class OutcomesPort:
    """The Outcomes port of one process."""

    replies: ReplyQueues
    wire: Wire
    _ready: list[OutcomeAnswer] = field(default_factory=list)
    _later: list[OutcomeAnswer] = field(default_factory=list)

    async def send(self, outcomes: Sequence[Outcome]) -> None:
        """In batches, by queue; each batch is an act."""
        for queue, of_queue in groupby(outcomes, key=lambda outcome: outcome.reply_to):
            waiting = list(of_queue)
            for start in range(0, len(waiting), BATCH):
                await self._send(queue, waiting[start : start + BATCH])

    async def _send(self, queue: str, batch: Sequence[Outcome]) -> None:
        answer, text = Answer.REFUSED, "simulated: the queue is full"
        if not self.replies.refuses():
            told = " ".join(f"{outcome.sequence_number}:{outcome.kind}" for outcome in batch)
            take = partial(self.replies.take, batch)
            answer = await self.wire.act(f"reply to {queue} {told}", take, _unknown, late_max=BROKER_LATE_MAX)
            text = "" if answer is Answer.DONE else "simulated: no answer"
        self._later += [OutcomeAnswer(outcome.event_id, answer, text) for outcome in batch]

    async def answers(self) -> Sequence[OutcomeAnswer]:
        """What has been answered: at once, or when it is asked the next time."""
        if self.replies.lags:
            answers, self._ready, self._later = self._ready, self._later, []
        else:
            answers, self._later = self._later, []
        return answers


def _unknown() -> Answer:
    return Answer.UNKNOWN
