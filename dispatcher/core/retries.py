"""Whether a failed item is tried again: failure cause x failures so far -> retry, not before when; or give up.

Decides by a table. An item has two allowances, counted apart: its own (the task's backoff_limit), which its program
uses up, and the platform's, which nobody's program is to blame for. Knows nothing of how a failure was recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dispatcher.core.failures import FailureCause
from dispatcher.core.policy import Policy
from dispatcher.core.units import NO_MONEY, Money
from dispatcher.core.work import Task


class Allowance(StrEnum):
    """Who pays for a failure."""

    ITEM = "item"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """What follows from a cause."""

    allowance: Allowance
    retries_max: int | None = None
    """So many times in a row for this cause at most, below what the allowance would give."""
    opens_circuit: bool = False
    """It says something about the virtual node rather than about this item."""


RETRY_RULES: dict[FailureCause, RetryRule] = {
    FailureCause.APPLICATION: RetryRule(Allowance.ITEM),
    FailureCause.ITEM_TIMEOUT: RetryRule(Allowance.ITEM),
    FailureCause.UNKNOWN: RetryRule(Allowance.ITEM),
    # A registry can have a bad minute; an image that is not there twice more is not there.
    FailureCause.IMAGE: RetryRule(Allowance.PLATFORM, retries_max=2),
    # As written it can never run: every further try costs money and changes nothing.
    FailureCause.TEMPLATE: RetryRule(Allowance.ITEM, retries_max=0),
    FailureCause.ACI_QUOTA: RetryRule(Allowance.PLATFORM, opens_circuit=True),
    FailureCause.ACI_CAPACITY: RetryRule(Allowance.PLATFORM, opens_circuit=True),
    FailureCause.SUBNET_FULL: RetryRule(Allowance.PLATFORM, opens_circuit=True),
    FailureCause.THROTTLED: RetryRule(Allowance.PLATFORM, opens_circuit=True),
    FailureCause.START_DEADLINE: RetryRule(Allowance.PLATFORM, opens_circuit=True),
    FailureCause.EVICTED: RetryRule(Allowance.PLATFORM),
    FailureCause.NODE_LOST: RetryRule(Allowance.PLATFORM),
    FailureCause.CANCELLED: RetryRule(Allowance.PLATFORM),
    FailureCause.UNREPORTED: RetryRule(Allowance.PLATFORM),
    FailureCause.BUDGET_EXHAUSTED: RetryRule(Allowance.ITEM, retries_max=0),
    FailureCause.EXPIRED: RetryRule(Allowance.ITEM, retries_max=0),
}


@dataclass(frozen=True, slots=True)
class Tries:
    """What an item has been through so far. It travels in the record, so that no restart forgets it."""

    own: int = 0
    """Failures that count against the item's own allowance."""
    platform: int = 0
    """Failures that count against the platform's."""
    cause: FailureCause | None = None
    """Of the last failure."""
    message: str = ""
    log_tail: str = ""
    """The end of the last failed pod's log, at most 1 KiB."""
    repeated: int = 0
    """How many failures in a row had that cause."""
    cost: Money = NO_MONEY
    """What its pods have cost so far, as far as seen; kept for items alone whose sender asked for the outcome."""

    @property
    def failures(self) -> int:
        """All of them."""
        return self.own + self.platform


@dataclass(frozen=True, slots=True)
class Retry:
    """It is tried again, at the earliest at ``not_before``."""

    tries: Tries
    allowance: Allowance
    not_before: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is not tried again."""

    tries: Tries


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a try of an item ended."""

    cause: FailureCause
    message: str = ""
    log_tail: str = ""


def delay_before(failures: int, policy: Policy) -> timedelta:
    """The wait after so many failures: doubling from the smallest to the longest."""
    doublings = min(max(0, failures - 1), 20)
    return min(policy.retry_delay_min * (1 << doublings), policy.retry_delay_max)


def after_failures(
    tries: Tries, failures: Sequence[Failure], task: Task | None, policy: Policy, now: datetime
) -> Retry | GiveUp:
    """What follows for an item that failed like this in one attempt, after all that it has been through before.

    ``failures`` holds one or more, in order; the last decides, all count. Without a task (operators have taken it away)
    there is nothing left to try.
    """
    paid_by = [RETRY_RULES[failure.cause].allowance for failure in failures]
    own = tries.own + paid_by.count(Allowance.ITEM)
    platform = tries.platform + paid_by.count(Allowance.PLATFORM)
    last = failures[-1]
    repeated = _in_a_row(tries, failures)
    seen = Tries(own, platform, last.cause, last.message, last.log_tail, repeated, tries.cost)
    rule = RETRY_RULES[last.cause]
    if task is None or own > task.backoff_limit or platform > policy.platform_retries_max:
        return GiveUp(seen)
    if rule.retries_max is not None and repeated > rule.retries_max:
        return GiveUp(seen)
    used = own if rule.allowance is Allowance.ITEM else platform
    return Retry(seen, rule.allowance, now + delay_before(used, policy))


def _in_a_row(tries: Tries, failures: Sequence[Failure]) -> int:
    cause, count = tries.cause, tries.repeated
    for failure in failures:
        count = count + 1 if failure.cause is cause else 1
        cause = failure.cause
    return count


def own_allowance_left(tries: Tries, task: Task) -> int:
    """How many failures of its own the item may still have and be tried again; never negative."""
    return max(0, task.backoff_limit - tries.own)
