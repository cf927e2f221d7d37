"""Law 8. After any fault the backlog drains, and the dead-letter queue holds only what deserved it.

A message deserves it if it is poison, if it was tried as often as its allowance for the cause allows, if its time to
live ended before it ran, or if a budget is spent whose operators want such work rejected.
"""

from __future__ import annotations

import json

from dispatcher.core.budgets import WhenExhausted
from dispatcher.core.failures import FailureCause
from dispatcher.core.retries import RETRY_RULES
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.queue import Fate

_NEVER_RAN = (FailureCause.EXPIRED, FailureCause.BUDGET_EXHAUSTED)


class Drains(Law):
    """Looks at the end; the runner itself says whether the end was reached."""

    name = "law 8: drains"

    def finish(self) -> None:
        """Nothing is left, and every dead letter is deserved."""
        if not self.world.drained:
            raise self.broken(f"not drained by {self.world.clock.now():%d %H:%M}: {self.world.left()}")
        for number, fates in self.world.broker.fates.items():
            kind = self.world.kinds[number]
            if fates == [Fate.DEAD]:
                self._deserved(number, kind)
            elif kind == "poison":
                raise self.broken(f"poison {number} ended as {fates}")

    def _deserved(self, number: int, kind: str) -> None:
        reason = self.world.broker.letters[number].reason
        if kind == "poison":
            if reason != "bad_message":
                raise self.broken(f"poison {number} was dead-lettered for {reason}")
            return
        if reason in _NEVER_RAN:
            self._never_ran(number, reason)
            return
        rule, policy = RETRY_RULES[FailureCause(reason)], self.world.scenario.policy
        task = policy.tasks[json.loads(self.world.scenario.messages[number - 1].body)["task"]]
        limit = min(task.backoff_limit, policy.platform_retries_max)  # the last cause names one, either may be used up
        if rule.retries_max is not None:
            limit = min(limit, rule.retries_max)
        tries = self.world.cluster.tries[number]
        if tries <= limit:
            raise self.broken(f"message {number} ({kind}) was dead-lettered for {reason} after {tries} tries")

    def _never_ran(self, number: int, reason: str) -> None:
        planned = self.world.scenario.messages[number - 1]
        rejecting = any(b.when_exhausted is WhenExhausted.DEAD_LETTER for b in self.world.scenario.policy.budgets)
        if reason == FailureCause.EXPIRED and planned.time_to_live is None:
            raise self.broken(f"message {number} has no time to live and was dead-lettered as expired")
        if reason == FailureCause.BUDGET_EXHAUSTED and not rejecting:
            raise self.broken(f"message {number} was rejected for a budget, and no budget rejects")
        if self.world.cluster.tries[number]:
            raise self.broken(f"message {number} was dead-lettered as {reason} though a Job had it")
