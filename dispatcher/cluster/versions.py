"""Which Kubernetes versions will do, and which fields and behaviours need which.

Decides the oldest version that every promise can be kept on. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NEEDS: Mapping[str, tuple[int, int]] = {
    "spec.completionMode: Indexed": (1, 24),
    "status.uncountedTerminatedPods and tracking by finalizers": (1, 26),
    "spec.podFailurePolicy with Ignore on DisruptionTarget": (1, 26),
    "label batch.kubernetes.io/job-name": (1, 27),
    "spec.backoffLimitPerIndex and status.failedIndexes": (1, 29),
    "conditions Complete and Failed only when all pods have ended": (1, 31),
    "lists that are consistent though served from the watch cache": (1, 31),
}
"""The version in which each is there without being switched on. The last but one decides: on older clusters a Job can
say Failed while a pod of it still runs, and the same item could then run twice at once."""

OLDEST = max(NEEDS.values())
TESTED = ((1, 31), (1, 36))
"""The range that this was written for; the newest one is what the tests run on."""


def version_of(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """Major and minor version that the server behaves as; None where it says none.

    A server may emulate an older version, as it does in the course of an upgrade.
    """
    match = re.match(r"v?(\d+)\.(\d+)", str(body.get("gitVersion", "")))
    if match is None:
        return None
    built = (int(match[1]), int(match[2]))
    emulated = (str(body.get("emulationMajor", "")), str(body.get("emulationMinor", "")))
    if not all(part.isdigit() for part in emulated):
        return built
    return min(built, (int(emulated[0]), int(emulated[1])))


def fault_of(body: Mapping[str, Any]) -> str | None:
    """Why this server will not do, in one line; None where it will."""
    version = version_of(body)
    if version is None:
        return f"the server does not say which Kubernetes it is ({body.get('gitVersion')!r})"
    missing = [what for what, since in NEEDS.items() if version < since]
    if not missing:
        return None
    told, wanted = f"{version[0]}.{version[1]}", f"{OLDEST[0]}.{OLDEST[1]}"
    return f"the cluster runs Kubernetes {told}; {wanted} or newer is needed for: {'; '.join(missing)}; upgrade it"
