"""Quantities in words: amounts, lengths of time, instants, and numbers with their nouns, as people read them.

Decides how each is written, once for every sentence. Knows nothing of what is said.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from dispatcher.core.units import UTC, Money, Resources

_MICRO_DOLLAR = Decimal("0.000001")


def dollars(money: Money) -> str:
    """An amount for people: to the millionth of a dollar, rounded up, without zeros that say nothing."""
    text = f"{money.usd.quantize(_MICRO_DOLLAR, rounding=ROUND_CEILING):f}"
    whole, _, part = text.partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"


def span(length: timedelta) -> str:
    """A length of time in its two largest units: ``14h 39m``."""
    seconds = max(0, -(-length // timedelta(seconds=1)))
    for unit, smaller, size, part in (("d", "h", 86_400, 3_600), ("h", "m", 3_600, 60), ("m", "s", 60, 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size}{unit} {rest}{smaller}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(at: datetime, now: datetime) -> str:
    """An instant as people read it; the date only where it is another day."""
    instant, today = at.astimezone(UTC), now.astimezone(UTC).date()
    return f"{instant:%H:%M:%S} UTC" if instant.date() == today else f"{instant:%Y-%m-%d %H:%M} UTC"


def due(at: datetime, now: datetime) -> str:
    """An instant that lies ahead, with how long it is until then."""
    return f"{moment(at, now)}, in {span(at - now)}" if at > now else f"{moment(at, now)}, which is now"


def counted(number: int, what: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number} {what if number == 1 else many or what + 's'}"


def size(requests: Resources) -> str:
    """What a pod asks for."""
    cores = f"{Decimal(requests.cpu_millis) / 1000:f}".rstrip("0").rstrip(".") or "0"
    return f"{cores} vCPU and {Decimal(requests.memory_bytes) / 10**9:.1f} GB"
