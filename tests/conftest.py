"""Puts this folder on the import path, so that every suite finds the builders; says how long Hypothesis may look; has
the testbed's binaries built before the clock of any test that needs them runs.

``HYPOTHESIS_PROFILE=thorough`` searches at random and for longer; without it every run tries the same examples.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "fast",
    max_examples=40,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=_SLOW_IS_FINE,
    database=None,
)
settings.register_profile(
    "thorough", max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_collection_finish(session: pytest.Session) -> None:
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if needed & {"control_plane", "virtual_node"}:
        from testbed.binary import CONTROL_PLANE, VIRTUAL_NODE  # imported late: most runs need none of it
        from testbed.fixtures import build_first

        build_first(session.config, CONTROL_PLANE, *([VIRTUAL_NODE] if "virtual_node" in needed else []))
    if "helm" in needed:
        from testbed.binary import HELM
        from testbed.fixtures import build_first

        build_first(session.config, HELM)
