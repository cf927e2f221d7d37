"""Two minutes in which Azure refuses every create for want of quota: what that may cost the items, and what is sent.

Decides when the refusing begins and ends, and judges by the stand-in's own list of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from testbed.virtual import Aci
from tests.e2e.cluster_service import ClusterService
from tests.virtual.laws import Seen, Verdict

REFUSED = "ContainerGroupQuotaReached"
UNDER_WAY = timedelta(seconds=10)
"""How long pods may still be asked for that were made before the circuit opened."""


class Trouble:
    """The refusing, and what came of it."""

    def __init__(self, aci: Aci, service: ClusterService, seconds: float = 120.0) -> None:
        self._aci = aci
        self._service = service
        self._seconds = seconds

    async def refuse_for_two_minutes(self) -> None:
        """From now on, and no longer than that."""
        await self._aci.add_fault("quota_groups")
        await asyncio.sleep(self._seconds)
        await self._aci.clear_faults()

    async def judge(self, seen: Seen) -> list[Verdict]:
        """What has to be true of it."""
        service = self._service
        retried = service.events("item.retried")
        own = [event for event in retried if event["allowance"] == "item"]
        buried = service.events("item.dead_lettered")
        asked = [each for each in await self._aci.requests() if each["verb"] == "PUT"]
        opened = service.events("circuit.opened")
        return [
            Verdict("every item done; no write beyond a limit", not seen.broken, "; ".join(seen.broken) or "all laws"),
            Verdict(
                "no item's own allowance is spent",
                bool(retried) and not own and not buried,
                f"{len(retried)} failures, all the platform's; {len(buried)} dead letters",
            ),
            only_probes(asked, opened),
        ]


def only_probes(asked: Sequence[Mapping[str, Any]], opened: Sequence[Mapping[str, Any]]) -> Verdict:
    """``asked``: creates as the stand-in lists them; ``opened``: when the dispatcher told of an open circuit."""
    law = "after the circuit has opened Azure sees only probes"
    refused = [datetime.fromisoformat(each["at"]) for each in asked if each["code"] == REFUSED]
    if not opened:
        return Verdict(law, False, f"it never opened; {len(refused)} creates were refused")
    first = datetime.fromisoformat(opened[0]["at"])
    before = [at for at in refused if at <= first + UNDER_WAY]
    probes = [at for at in refused if at > first + UNDER_WAY]
    # Each opening but the first is a probe that failed: one create, one refusal.
    told = f"{len(before)} creates were refused by then, {len(probes)} later, in {len(opened) - 1} probes that failed"
    return Verdict(law, len(probes) <= len(opened) - 1, told)
