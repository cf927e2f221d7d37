"""Three of ACI's faults during bursts beside each other: refused at once, never started, and refused for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from testbed.virtual import VirtualNode

from .cases import CASES
from .trial import REGION, run

SAMPLE = ("subnet full", "accepted, never provisioned", "definition too large")
ITEMS = 12


@pytest.mark.timeout(400)
async def test_no_item_is_lost_ends_twice_or_pays_for_what_the_platform_did(
    virtual_node: VirtualNode, tmp_path: Path
) -> None:
    await virtual_node.aci.reset(**REGION)
    cases = [case for case in CASES if case.name in SAMPLE]
    results = await asyncio.gather(*(run(virtual_node, case, tmp_path / case.name, ITEMS) for case in cases))
    assert {result.case.name: result.verdict.lines for result in results} == dict.fromkeys(SAMPLE, ())
    by_name = {result.case.name: result for result in results}
    assert by_name["accepted, never provisioned"].platform_retries >= 6
    assert by_name["definition too large"].verdict.dead == 6
