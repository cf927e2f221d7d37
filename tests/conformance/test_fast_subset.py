"""The SDK's own tests of queues that take a few seconds each; `make conformance` runs the others as well."""

from __future__ import annotations

import pytest

from .run import run


@pytest.mark.timeout(400)  # the first time the source distribution is fetched
def test_the_sdk_s_own_tests_pass_against_the_embedded_broker() -> None:
    outcome = run(fast=True, workers=8, within=300, quiet=True)
    assert outcome.surprises == []
    assert outcome.count("passed") >= 60
