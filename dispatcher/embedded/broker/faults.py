"""What can be made to go wrong on purpose: which faults are armed, and how often each has bitten.

A standing fault is armed for one queue or for all, for so many times or until it is disarmed; the places where it
can bite ask `bites` and do the damage themselves. A strike happens at once and is carried out by whoever holds the
connections and queues, through `Stage`. Nothing here knows frames, links or messages, and while nothing is armed
asking costs a look at an empty dictionary. The clock of the throttle is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    """The faults, by the names the control API uses."""

    # standing
    THROTTLE = "throttle"
    DELAY_SETTLEMENT_REPLY = "delay-settlement-reply"
    LOSE_SETTLEMENT_REPLY = "lose-settlement-reply"
    LOSE_SETTLEMENT = "lose-settlement"
    COALESCE_DISPOSITIONS = "coalesce-dispositions"
    DROP_LOCKS_WITH_CONNECTION = "drop-locks-with-connection"
    DUPLICATE_DELIVERY = "duplicate-delivery"
    DENY_TOKENS = "deny-tokens"
    DISABLE_QUEUE = "disable-queue"
    FILL_QUOTA = "fill-quota"
    ADD_ROUND_TRIP = "add-round-trip"
    # at once
    RESET_CONNECTIONS = "reset-connections"
    FREEZE_CONNECTIONS = "freeze-connections"
    DETACH_LINKS = "detach-links"
    REVOKE_LOCKS = "revoke-locks"


STRIKES = frozenset({Fault.RESET_CONNECTIONS, Fault.FREEZE_CONNECTIONS, Fault.DETACH_LINKS, Fault.REVOKE_LOCKS})

_OF_THE_BROKER = frozenset({Fault.DROP_LOCKS_WITH_CONNECTION, Fault.ADD_ROUND_TRIP})

DEFAULTS: dict[Fault, float] = {
    Fault.THROTTLE: 1000.0,  # credits a second, as the Standard tier has them for a namespace
    Fault.DELAY_SETTLEMENT_REPLY: 1.0,  # seconds
    Fault.COALESCE_DISPOSITIONS: 0.005,  # seconds in which replies are gathered
    Fault.ADD_ROUND_TRIP: 0.05,  # seconds
}
"""What `value` means, and what it is unless said; the other faults have none."""


class FaultError(ValueError):
    """A fault that cannot be armed or struck as asked; the message says why."""


@dataclass(slots=True)
class Armed:
    """A standing fault: where, how strongly, and how many times more (None: until it is disarmed)."""

    queue: str | None
    value: float
    times: int | None


class Stage(Protocol):
    """Where strikes and the effects of arming happen. Each answers how many things were hit."""

    def reset_connections(self) -> int:
        """Ends every TCP connection without a word."""

    def freeze_connections(self) -> int:
        """Leaves every TCP connection open, and neither reads from it nor writes to it any more."""

    def detach_links(self, queue: str | None, condition: str) -> int:
        """Detaches every link to the queue, or to any."""

    def revoke_locks(self, queue: str, count: int) -> int:
        """Ends the oldest locks of the queue as if they had expired."""

    def wake(self) -> None:
        """Something may be possible again."""


class Faults:
    """The faults of one broker."""

    def __init__(self, stage: Stage, now: Callable[[], float]) -> None:
        self.armed: dict[Fault, Armed] = {}
        self.fired: Counter[Fault] = Counter()
        self._stage = stage
        self._now = now
        self._throttle: CreditBucket | None = None

    # --- arming ----------------------------------------------------------------------------------------

    def arm(
        self, fault: Fault, *, queue: str | None = None, value: float | None = None, times: int | None = None
    ) -> None:
        """Arms a standing fault, in place of what was armed under its name. Raises FaultError."""
        if fault in STRIKES:
            raise FaultError(f"{fault} happens at once: strike it")
        if queue is not None and fault in _OF_THE_BROKER:
            raise FaultError(f"queue: {fault} is not a matter of one queue")
        if times is not None and times < 1:
            raise FaultError("times: must be at least 1, or None")
        if value is not None and fault not in DEFAULTS:
            raise FaultError(f"value: {fault} has none")
        strength = DEFAULTS.get(fault, 0.0) if value is None else value
        if value is not None and not 0 < strength < 1e9:
            raise FaultError("value: must be more than 0")
        self.armed[fault] = Armed(queue.lower() if queue else None, strength, times)
        if fault is Fault.THROTTLE:
            self._throttle = CreditBucket(strength, self._now())
        elif fault is Fault.DISABLE_QUEUE:
            self.fired[fault] += self._stage.detach_links(queue, "com.microsoft:entity-disabled")

    def disarm(self, fault: Fault | None = None) -> None:
        """Disarms one fault, or all of them. What has fired stays counted."""
        for name in [fault] if fault is not None else list(self.armed):
            self.armed.pop(name, None)
        self._stage.wake()

    def strike(self, fault: Fault, *, queue: str | None = None, condition: str | None = None, count: int = 1) -> int:
        """Does it now, and answers how many connections, links or locks were hit. Raises FaultError."""
        match fault:
            case Fault.RESET_CONNECTIONS:
                hit = self._stage.reset_connections()
            case Fault.FREEZE_CONNECTIONS:
                hit = self._stage.freeze_connections()
            case Fault.DETACH_LINKS:
                hit = self._stage.detach_links(queue, condition or "amqp:link:detach-forced")
            case Fault.REVOKE_LOCKS:
                if queue is None:
                    raise FaultError("queue: revoke-locks needs one")
                hit = self._stage.revoke_locks(queue, count)
            case _:
                raise FaultError(f"{fault} is a standing fault: arm it")
        self.fired[fault] += hit
        return hit

    # --- biting ----------------------------------------------------------------------------------------

    def is_armed(self, fault: Fault, queue: str | None = None) -> Armed | None:
        """The fault if it is armed here; asking does not use it up.

        `queue` is the path of a queue, or of its dead letters, which a fault of the queue itself does not touch.
        """
        armed = self.armed.get(fault)
        if armed is None or (armed.queue is not None and armed.queue != queue):
            return None
        return armed

    def bites(self, fault: Fault, queue: str | None = None) -> Armed | None:
        """As `is_armed`, and counts: now the damage is done."""
        armed = self.is_armed(fault, queue)
        if armed is not None:
            self.fired[fault] += 1
            if armed.times is not None:
                armed.times -= 1
                if not armed.times:
                    del self.armed[fault]
        return armed

    def settlement_answer(self, queue: str) -> float | None:
        """For how many seconds the answer to a settlement is held up, 0 unless a fault bites; None: it is lost."""
        if self.bites(Fault.LOSE_SETTLEMENT_REPLY, queue):
            return None
        late = self.bites(Fault.DELAY_SETTLEMENT_REPLY, queue)
        return late.value if late is not None else 0.0

    def credits(self, wanted: int, queue: str) -> int:
        """How many operations out of so many may go ahead now; those that may not are counted."""
        if self._throttle is None or self.is_armed(Fault.THROTTLE, queue) is None:
            return wanted
        granted = self._throttle.take(wanted, self._now())
        if granted < wanted:
            self.fired[Fault.THROTTLE] += 1
        return granted

    def all_credits(self, wanted: int, queue: str) -> bool:
        """As `credits`, but for operations that go ahead together or not at all."""
        if self._throttle is None or self.is_armed(Fault.THROTTLE, queue) is None:
            return True
        if self._throttle.take_all(wanted, self._now()):
            return True
        self.fired[Fault.THROTTLE] += 1
        return False

    def until_credit(self) -> float:
        """Seconds until there is at least one credit again."""
        return self._throttle.until_next(self._now()) if self._throttle is not None else 0.0


class CreditBucket:
    """Credits that come back at a steady rate; at most those of one second can be saved up."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._credits = max(1.0, rate)
        self._filled_at = now

    def take(self, wanted: int, now: float) -> int:
        """As many of the credits as there are."""
        self._fill(now)
        granted = max(0, min(wanted, int(self._credits)))
        self._credits -= granted
        return granted

    def take_all(self, wanted: int, now: float) -> bool:
        """All of the credits or none; what is more than a second's worth is given when the bucket is full."""
        self._fill(now)
        if self._credits < min(wanted, max(1.0, self.rate)):
            return False
        self._credits -= wanted
        return True

    def until_next(self, now: float) -> float:
        """Seconds until there is one credit."""
        self._fill(now)
        return max(0.0, (1.0 - self._credits) / self.rate)

    def _fill(self, now: float) -> None:
        self._credits = min(max(1.0, self.rate), self._credits + (now - self._filled_at) * self.rate)
        self._filled_at = now
