"""What must have become of the items, judged by the broker and not by the adapter. Pure.

The broker counts what entered, what was removed for good and what was buried, and what it still has; the dead-letter
queue is read message by message; the cluster counts how often each item ran. What the dispatcher tells is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was counted by others than the adapter, and what the dispatcher told."""

    sent: Collection[str]
    """Ids of the messages whose sending was confirmed."""
    must_die: Collection[str]
    """Ids of the items whose work fails, so that they belong into the dead-letter queue."""
    ran: Mapping[str, int]
    """How often the work of each item was done, or tried in vain."""
    entered: int
    removed: int
    buried: int
    left: int
    """Messages that the broker still has, dead letters aside."""
    in_dead_letter_queue: Sequence[str]
    told_done: Sequence[str]
    told_dead: Sequence[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many items were lost, and how many ended or ran more than once; a line for each kind."""

    lost: int
    duplicated: int
    lines: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.lines


def judge(evidence: Evidence) -> Verdict:
    """Holds all counts against each other."""
    sent, dead = set(evidence.sent), Counter(evidence.in_dead_letter_queue)
    done = Counter(evidence.told_done)
    must_die = set(evidence.must_die) & sent
    lines: list[str] = []

    def found(ids: Collection[str], what: str) -> int:
        if ids:
            lines.append(f"{len(ids)} {what}: {', '.join(sorted(ids)[:_NAMED_MAX])}")
        return len(ids)

    never_ran = found(sent - set(evidence.ran), "never ran")
    lost = never_ran + max(0, evidence.left - never_ran)
    lost += found(must_die - dead.keys(), "failed and are not in the dead-letter queue")
    lost += found(dead.keys() - must_die, "are in the dead-letter queue and had not failed")
    duplicated = found({item for item, times in evidence.ran.items() if times > 1}, "ran more than once")
    duplicated += found({item for item, times in dead.items() if times > 1}, "are in the dead-letter queue twice")
    duplicated += found({item for item, times in done.items() if times > 1}, "were told done more than once")
    duplicated += found(done.keys() & dead.keys(), "were told done and are in the dead-letter queue")
    differing = {
        "messages entered": (evidence.entered, len(sent)),
        "messages were removed": (evidence.removed, len(sent) - len(must_die)),
        "messages were buried": (evidence.buried, len(must_die)),
        "messages are left": (evidence.left, 0),
        "items were told done": (len(done), len(sent) - len(must_die)),
        "items were told dead-lettered": (len(set(evidence.told_dead)), len(must_die)),
    }
    for what, (count, expected) in differing.items():
        if count != expected:
            lines.append(f"{count} {what}, not {expected}")
    return Verdict(lost, duplicated, tuple(lines))
