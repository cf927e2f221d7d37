"""Puts this folder on the import path, so that every suite finds the builders; says how long Hypothesis may look; has
the control plane's binary built before the clock of any test that needs it runs.

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
    if any("control_plane" in getattr(item, "fixturenames", ()) for item in session.items):
        from testbed.fixtures import build_first  # imported late: most runs need none of it

        build_first(session.config)
