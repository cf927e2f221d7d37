"""The circuit of the virtual node: after failures of its own it is left alone for a while, then probed.

Decides how many pods may go there now. A value that each report turns into the next; knows nothing of the failures'
wording (the retry table says which causes count) and nothing of what is sent instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dispatcher.core.policy import CircuitPolicy


@dataclass(frozen=True, slots=True)
class Circuit:
    """Closed (work flows) until too many platform failures come in a row; then open until ``probe_at``."""

    failures: int = 0
    probe_at: datetime | None = None
    """None: closed. Otherwise when the next single probe may be sent."""
    cool_down: timedelta = timedelta(0)

    @property
    def is_open(self) -> bool:
        """Whether work is kept away."""
        return self.probe_at is not None

    def pods_allowed(self, now: datetime) -> int | None:
        """None: no limit of the circuit's; 0: none; 1: one probe."""
        if self.probe_at is None:
            return None
        return 1 if now >= self.probe_at else 0

    def probed(self, now: datetime) -> Circuit:
        """A probe was sent; if nothing is ever heard of it, the next goes out one cool-down later."""
        return replace(self, probe_at=now + self.cool_down) if self.is_open else self

    def after_success(self) -> Circuit:
        """A pod ran there: the circuit closes."""
        return Circuit()

    def after_failure(self, policy: CircuitPolicy, now: datetime) -> Circuit:
        """A pod failed there for a reason that is the platform's."""
        failures = self.failures + 1
        if self.is_open or failures < policy.failures:
            return replace(self, failures=failures)
        return Circuit(failures, now + policy.cool_down_min, policy.cool_down_min)

    def after_failed_probe(self, policy: CircuitPolicy, now: datetime) -> Circuit:
        """The probe failed: twice as long until the next. Another probe may have closed the circuit meanwhile."""
        if not self.is_open:
            return self.after_failure(policy, now)
        cool_down = min(self.cool_down * 2, policy.cool_down_max)
        return Circuit(self.failures + 1, now + cool_down, cool_down)
