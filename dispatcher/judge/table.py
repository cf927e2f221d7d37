"""The rules as a table in Markdown.

Decides its columns. Knows nothing of where it is printed.
"""

from __future__ import annotations

from dispatcher.judge.findings import RULES
from dispatcher.judge.profiles import SHIPPED, known_profiles


def rules_table() -> str:
    """One row a rule, in the order in which they are told; a column for each profile says how strictly it holds."""
    profiles = [known_profiles()[name] for name in SHIPPED]
    lines = [
        f"| rule | {' | '.join(SHIPPED)} | about | what becomes of it | remedy | source |",
        "|---" * (len(SHIPPED) + 5) + "|",
    ]
    for name, rule in RULES.items():
        levels = " | ".join(str(profile.rules.get(name, "")) for profile in profiles)
        lines.append(f"| `{name}` | {levels} | {rule.says} | {rule.effect} | {rule.remedy} | {rule.source} |")
    return "\n".join(lines)
