"""Law 9. Every settled item whose sender asked has at least one outcome, always under the same id.

It agrees with how the item settled, and it is not told before: neither before its ruling nor before the broker has let
the item go. Nobody is told who did not ask. A copy goes with its first, and so does its outcome. An outcome may be
given up only after its reply queue has taken none for as long as operators want to wait.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dispatcher.core.outcomes import Outcome, OutcomeKind
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.queue import Fate
from dispatcher.simulator.world import World

CLOCKS_APART = timedelta(seconds=10)
"""A host's clock may be stepped while it waits."""
_ENDS = {Fate.REMOVED: OutcomeKind.DONE, Fate.DEAD: OutcomeKind.DEAD_LETTERED}


class ToldToSenders(Law):
    """Watches everything that reply queues take."""

    name = "law 9: told to senders"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ids: dict[int, str] = {}
        self._numbers: dict[str, int] = {}
        self._words: dict[int, Outcome] = {}
        self._given_up: set[int] = set()
        self._gives_up_at_once: set[str] = set()
        world.replies.on_taken.append(self._taken)
        world.hears.append(self._hear)

    def _asked(self, number: int) -> str | None:
        body: Mapping[str, Any] = json.loads(self.world.scenario.messages[number - 1].body)
        asked: str | None = body.get("reply_to")
        return asked

    def _taken(self, outcome: Outcome) -> None:
        number = outcome.sequence_number
        if outcome.reply_to != self._asked(number):
            raise self.broken(f"message {number} asked {self._asked(number)} to be told, {outcome.reply_to} was")
        fates = self.world.broker.fates.get(number, [])
        if [_ENDS[fate] for fate in fates] != [outcome.kind]:
            raise self.broken(f"message {number} is told as {outcome.kind} and has ended as {fates}")
        if self._ids.setdefault(number, outcome.event_id) != outcome.event_id:
            raise self.broken(f"message {number} was told under two ids")
        if self._numbers.setdefault(outcome.event_id, number) != number:
            raise self.broken(f"messages {number} and {self._numbers[outcome.event_id]} were told under one id")
        if self.world.kinds[number] != "poison" and self._words.setdefault(number, outcome) != outcome:
            before = self._words[number]
            raise self.broken(f"message {number} was told in two ways: {before} and {outcome}")
        if outcome.kind is OutcomeKind.DEAD_LETTERED and outcome.reason != self.world.broker.letters[number].reason:
            raise self.broken(f"message {number} is told as {outcome.reason}, its dead letter says otherwise")

    def _hear(self, who: str, event: str, facts: Mapping[str, Any]) -> None:
        if event != "outcome.given_up":
            return
        number = facts["sequence_number"]
        waited = self.world.clock.now() - self.world.broker.ended_at[number]
        if who not in self._gives_up_at_once and waited + CLOCKS_APART < self.world.scenario.policy.reply_hold_max:
            raise self.broken(f"the outcome of message {number} was given up after {waited}")
        self._gives_up_at_once.add(who)
        self._given_up.add(number)

    def finish(self) -> None:
        """Nobody who asked was left without an answer."""
        told = {self._work_of(number) for number in (*self._ids, *self._given_up)}
        for number in self.world.broker.fates:
            if self._asked(number) and self.world.kinds[number] != "poison" and self._work_of(number) not in told:
                raise self.broken(f"message {number} has ended and its sender was never told")

    def _work_of(self, number: int) -> tuple[str, bytes, Fate]:
        planned = self.world.scenario.messages[number - 1]
        return planned.message_id, planned.body, self.world.broker.fates[number][0]
