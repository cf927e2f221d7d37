"""What a container is told to do when no code runs: variables of its environment.

Decides the names, and refuses values that could not be obeyed. Pure. All begin with ``STANDIN_``; ``_INDEX`` behind a
name makes it hold for that completion index alone (``STANDIN_EXIT_CODE_3``).

| variable              | meaning                                                            | without it |
|-----------------------|--------------------------------------------------------------------|------------|
| `STANDIN_RUN_SECONDS` | how long it runs; `never`: until it is stopped                     | 0          |
| `STANDIN_EXIT_CODE`   | how it exits                                                       | 0          |
| `STANDIN_FAIL_TIMES`  | only so many of its runs exit so, the next one with 0 (restarts)   | all        |
| `STANDIN_LOG`         | what it writes                                                     | empty      |
| `STANDIN_IMAGE_MB`    | the size of its image                                              | options    |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from testbed.aci import wording

NEVER = "never"
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class Told:
    """What one container does. Seconds of None: until it is stopped."""

    run_seconds: float | None
    exit_code: int
    fail_times: int | None
    log: str
    image_mb: float | None


def read(environment: Mapping[str, str]) -> Told:
    """From a container's environment. Raises Refusal, as a create would, where a value is none."""
    run = _value(environment, "RUN_SECONDS") or "0"
    fail_times = _value(environment, "FAIL_TIMES")
    image_mb = _value(environment, "IMAGE_MB")
    return Told(
        None if run == NEVER else _number("RUN_SECONDS", run, float, 10**7),
        _number("EXIT_CODE", _value(environment, "EXIT_CODE") or "0", int, 255),
        None if fail_times is None else _number("FAIL_TIMES", fail_times, int, 10**6),
        _value(environment, "LOG") or "",
        None if image_mb is None else _number("IMAGE_MB", image_mb, float, 15000),
    )


def _value(environment: Mapping[str, str], name: str) -> str | None:
    index = environment.get("JOB_COMPLETION_INDEX", "")
    found = environment.get(f"STANDIN_{name}_{index}") if index else None
    return found if found is not None else environment.get(f"STANDIN_{name}")


def _number(name: str, text: str, kind: type[N], most: N) -> N:
    try:
        value = kind(text)
    except ValueError:
        value = kind(-1)
    if not 0 <= value <= most:
        raise wording.invalid("InvalidStandInVariable", f"STANDIN_{name}: '{text}' is no number from 0 to {most}.")
    return value
