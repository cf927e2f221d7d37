"""All rules of a profile over one workload.

Decides nothing but the order: rules in theirs, findings as they stand in the document. Knows no rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.judge.findings import RULES, Finding
from dispatcher.judge.profiles import Profile
from dispatcher.judge.workloads import workload_of


def findings_of(
    document: Mapping[str, Any], profile: Profile, namespace: str = "default"
) -> tuple[Finding, ...] | None:
    """What the profile has to say about a document; None for one that makes no pods and governs none."""
    workload = workload_of(document, profile.limits, namespace)
    if workload is None:
        return None
    found = []
    for name, each in RULES.items():
        level = profile.rules.get(name)
        if level is None:
            continue
        found += [
            Finding(
                level,
                name,
                workload.title,
                one.path,
                one.message,
                one.remedy or each.remedy,
                one.effect or each.effect,
                each.source,
            )
            for one in each.check(workload)
        ]
    return tuple(found)
