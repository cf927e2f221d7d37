"""What must have become of a burst, judged by what others than the dispatcher counted. Pure.

The broker counts messages, the stand-in for ACI bills, the items' programs write down that they ran; what the
dispatcher tells is compared with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was counted."""

    sent: Collection[str]
    ran_well: Collection[str]
    """Items of which a run ended well."""
    starts: Mapping[str, int]
    """How often the program of each item was started."""
    removed: int
    buried: int
    left: int
    """Messages by the broker's count: gone for good, dead-lettered, still there."""
    told_done: Sequence[str]
    told_dead: Sequence[str]
    dead_causes: Collection[str]
    own_retries: int
    platform_retries: int
    fired: int
    billed_usd: Decimal
    charged_usd: Decimal
    alarms: Sequence[str]
    left_in_cluster: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a fault may do: see :class:`tests.aci_faults.cases.Case`."""

    items_pay: bool = False
    leaks: bool = False
    must_fire: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many items were lost, and how many ended twice or ran again; a line for each thing that must not be."""

    lost: int
    ended_twice: int
    ran_again: int
    own_spent: int
    dead: int
    lines: tuple[str, ...]


def judge(seen: Evidence, allowed: Allowed) -> Verdict:
    """Holds all counts against each other."""
    sent, done, dead = set(seen.sent), Counter(seen.told_done), Counter(seen.told_dead)
    lines: list[str] = []

    def found(items: Collection[str], what: str) -> int:
        if items:
            lines.append(f"{len(items)} {what}: {', '.join(sorted(items)[:_NAMED_MAX])}")
        return len(items)

    lost = found(sent - done.keys() - dead.keys(), "neither done nor dead-lettered")
    lost += found(done.keys() - set(seen.ran_well), "told done without a run that ended well")
    twice = found({item for item, times in done.items() if times > 1}, "told done more than once")
    twice += found({item for item, times in dead.items() if times > 1}, "dead-lettered more than once")
    twice += found(done.keys() & dead.keys(), "done and dead-lettered")
    own_spent = seen.own_retries + (0 if allowed.items_pay else len(dead))
    if own_spent:
        lines.append(f"{own_spent} failures of the platform were paid for by items")
    if allowed.items_pay and (set(seen.dead_causes) != {"template"} or len(dead) != seen.fired):
        lines.append(f"{len(dead)} dead-lettered by {sorted(seen.dead_causes)}, {seen.fired} were hit")
    for what, count, expected in (
        ("messages removed", seen.removed, len(done)),
        ("messages dead-lettered", seen.buried, len(dead)),
        ("messages left", seen.left, 0),
    ):
        if count != expected:
            lines.append(f"{count} {what}, not {expected}")
    if seen.billed_usd > seen.charged_usd and not allowed.leaks:
        lines.append(f"${seen.billed_usd} billed and only ${seen.charged_usd} charged")
    if allowed.must_fire and not seen.fired:
        lines.append("the fault never fired")
    if seen.alarms:
        lines.append(f"alarms: {'; '.join(seen.alarms)}")
    if seen.left_in_cluster:
        lines.append(f"left in the cluster: {dict(seen.left_in_cluster)}")
    ran_again = sum(times - 1 for times in seen.starts.values())
    return Verdict(lost, twice, ran_again, own_spent, len(dead), tuple(lines))
