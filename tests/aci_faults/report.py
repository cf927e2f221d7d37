"""How results are told: a table for terminals, the same in Markdown for the documentation.

Decides columns and the sentence about the conditions.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from .trial import (
    DELETE_SECONDS,
    PROVISIONING_TIMEOUT_SECONDS,
    RELEASE_SECONDS,
    SETTINGS,
    START_DEADLINE_SECONDS,
    TASK,
    Result,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
NAME, COMMAND = "ACI faults", "make faults-aci WRITE=1"
COLUMNS = (
    "fault", "fired", "items lost", "ended twice", "dead-lettered", "own allowance spent", "platform retries",
    "ran again", "circuit", "billed", "charged", "took",
)  # fmt: skip


def cells(result: Result) -> tuple[str, ...]:
    """One row."""
    verdict = result.verdict
    circuit = f"opened {result.circuit_opened}x" if result.circuit_opened else "closed"
    return (
        result.case.name,
        str(result.fired or ""),
        str(verdict.lost),
        str(verdict.ended_twice),
        str(verdict.dead),
        str(verdict.own_spent),
        str(result.platform_retries),
        str(verdict.ran_again),
        circuit + (", still open" if result.circuit_is_open else ""),
        f"${result.billed_usd:.5f}",
        f"${result.charged_usd:.5f}",
        f"{result.seconds:.0f} s",
    )


def conditions(items: int, at_once: int) -> str:
    """What a reader needs to judge the figures by."""
    circuit, task, virtual = SETTINGS["circuit"], TASK, SETTINGS["virtual_node"]
    return (
        f"{items} items a case, on the virtual node alone, in Jobs of at most {task['batch_size_max']}; "
        f"`backoff_limit` {task['backoff_limit']}; start deadline {START_DEADLINE_SECONDS} s (default 1 m), "
        f"provisioning time-out {PROVISIONING_TIMEOUT_SECONDS:.0f} s (Azure: 30 m), groups gone {DELETE_SECONDS:.0f} s "
        f"after their delete and addresses back {RELEASE_SECONDS:.0f} s later, `release_hold` "
        f"{virtual['release_hold']}, tail {virtual['tail']}; the circuit opens after {circuit['failures']} failures in "
        f"a row for {circuit['cool_down_min']} at first and {circuit['cool_down_max']} at most. Without read access to "
        f"ACI: what is charged is an upper bound. Up to {at_once} cases beside each other, each with a dispatcher of "
        f"its own. Python {platform.python_version()}, {os.cpu_count()} cores."
    )
