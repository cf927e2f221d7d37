"""Quantities: money, resources, and how both are written down.

Decides how exact a quantity is and how it rounds. Knows nothing of what it is a quantity of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_CEILING, Decimal

UTC = timezone.utc  # noqa: UP017 - imported from here by every room, so that it has one name

PICOS_PER_USD = 10**12
"""One unit of money is 10^-12 US dollars: published ACI prices (8 to 9 decimals a second) times the billed
granularity (0.01 vCPU, 0.1 GB) are whole numbers of it, so that rate x seconds is exact in integers."""


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An exact amount of US dollars, in whole units of 10^-12."""

    picos: int

    @classmethod
    def from_usd(cls, usd: Decimal | str | int) -> Money:
        """Reads dollars; anything finer than one unit is rounded up, so that a price is never understated."""
        return cls(int((Decimal(usd) * PICOS_PER_USD).to_integral_value(rounding=ROUND_CEILING)))

    @property
    def usd(self) -> Decimal:
        """The same amount as a decimal number of dollars."""
        return Decimal(self.picos) / PICOS_PER_USD

    def __add__(self, other: Money) -> Money:
        return Money(self.picos + other.picos)

    def __sub__(self, other: Money) -> Money:
        return Money(self.picos - other.picos)

    def __mul__(self, count: int) -> Money:
        return Money(self.picos * count)

    def __bool__(self) -> bool:
        return self.picos != 0

    def __str__(self) -> str:
        """Dollars without an exponent and without trailing zeros: ``0.5256``."""
        text = f"{self.usd:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text


NO_MONEY = Money(0)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a pod requests: processor time in thousandths of a core, memory in bytes."""

    cpu_millis: int
    memory_bytes: int

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpu_millis + other.cpu_millis, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpu_millis - other.cpu_millis, self.memory_bytes - other.memory_bytes)

    def times(self, count: int) -> Resources:
        """The same request ``count`` times."""
        return Resources(self.cpu_millis * count, self.memory_bytes * count)

    def fits_in(self, room: Resources) -> bool:
        """Whether this request fits into that room."""
        return self.cpu_millis <= room.cpu_millis and self.memory_bytes <= room.memory_bytes


_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
_FACTOR = {
    None: Decimal(1), "m": Decimal("0.001"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip


def _quantity(text: str) -> Decimal:
    match = _QUANTITY.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity; write for example 500m, 2, 1.5G or 512Mi")
    return Decimal(match[1]) * _FACTOR[match[2]]


def cpu_millis(text: str) -> int:
    """Reads a Kubernetes CPU quantity (``500m``, ``2``) as thousandths of a core, rounded up.

    Raises ValueError with an example where the text is none.
    """
    return int((_quantity(text) * 1000).to_integral_value(rounding=ROUND_CEILING))


def memory_bytes(text: str) -> int:
    """Reads a Kubernetes memory quantity (``2Gi``, ``512M``) as bytes, rounded up.

    Raises ValueError with an example where the text is none.
    """
    return int(_quantity(text).to_integral_value(rounding=ROUND_CEILING))


def whole_seconds(span: timedelta) -> int:
    """The span in seconds, rounded up to whole ones; nothing for a span that is not positive."""
    if span <= timedelta(0):
        return 0
    seconds, rest = divmod(span, timedelta(seconds=1))
    return seconds + (1 if rest else 0)


def to_text(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC with microseconds; sorts as text like as time."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Reads what :func:`to_text` wrote."""
    return datetime.fromisoformat(text)
