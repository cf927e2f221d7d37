"""How tests on the testbed wait: for what they look for, not for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_EVERY_SECONDS = 0.05


async def until(look: Callable[[], Awaitable[T | None]], what: str, seconds: float = 90.0) -> T:
    """The first answer that is not None. Raises AssertionError, naming ``what``, when the time is over."""
    ends = time.monotonic() + seconds
    while (found := await look()) is None:
        if time.monotonic() > ends:
            raise AssertionError(f"never seen: {what}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return found
