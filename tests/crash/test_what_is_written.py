"""What stands in the API server when the dispatcher starts: of the version before it, or at the bound of its size."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .gate import Moment
from .trial import run
from .world import Place, World

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

FORMAT = "burst-dispatcher.io/format"
_SIZE_MAX = 1024 * 1024
"""What a ConfigMap holds."""


async def test_attempts_that_the_version_before_has_written_are_carried_to_their_end(world: World) -> None:
    rewritten: list[str] = []

    async def of_the_version_before(world: World, place: Place) -> None:
        """These items have neither trace nor reply queue: but for its number, format 2 is format 1."""
        for kind, name, _ in world.history.standing(place.tasks):
            if kind == "configmaps" and name.startswith("burst-"):
                path = f"/api/v1/namespaces/{place.tasks}/configmaps/{name}"
                await world.plane.api.patch(path, {"metadata": {"annotations": {FORMAT: "1"}}})
                rewritten.append(name)

    verdict = await run(
        world,
        "after an update",
        kill_at=30,
        moment=Moment.AFTER,
        between=of_the_version_before,
        to_the_end=False,
    )
    assert verdict.findings.broken == []
    assert len(rewritten) >= 2
    assert verdict.events["takeover.finished"] == 2


def _entry(number: int, holds: list[list[Any]], written: str) -> dict[str, Any]:
    """An attempt that is over but for addresses that are still held."""
    return {
        "batch": f"x{number}",
        "attempt": 1,
        "task": "plain",
        "tenant": "default",
        "placement": "virtual_node",
        "items": 1,
        "written": written,
        "epoch": 1,
        "shape": [1, 1, 0, 60],
        "rate": 0,
        "tail": 1,
        "reserved": {},
        "spent": 0,
        "cpu": 1000,
        "state": "closing",
        "job": None,
        "mayCome": 0,
        "noted": 0,
        "ended": 0,
        "pods": {},
        "holds": holds,
        "moneySettled": True,
    }


async def test_a_ledger_that_is_nearly_full_holds_work_for_that_reason_until_attempts_have_closed(world: World) -> None:
    sizes: list[int] = []

    async def nearly_full(world: World, place: Place) -> None:
        def text(at: datetime) -> str:
            return at.isoformat(timespec="microseconds").replace("+00:00", "Z")

        now = datetime.now(UTC)
        written, holds = text(now - timedelta(minutes=10)), [[text(now + timedelta(seconds=15)), 1]] * 110
        entries = {f"burst-x{number}-1": _entry(number, holds, written) for number in range(205)}
        document = {
            "format": 1, "epoch": 1, "accounts": {}, "entries": entries, "creates": [], "deletes": [],
            "written": written, "frozen": "",
        }  # fmt: skip
        content = json.dumps(document)
        sizes.append(len(content))
        body = {"metadata": {"name": place.ledger}, "data": {"ledger.json": content}}
        await world.plane.api.post(f"/api/v1/namespaces/{place.own}/configmaps", body)

    verdict = await run(world, "a full ledger", beforehand=nearly_full)
    assert verdict.findings.broken == []
    assert _SIZE_MAX * 8 // 10 < sizes[0] < _SIZE_MAX
    assert "ledger_full" in verdict.held
