"""The reports of pods that carry several items and that KWOK only plays: it runs no code, so the bench tells for them.

Every pod that is seen to have succeeded is told as done for each of its items, as the worker kit would, on the report
queue. Decides nothing of what a report looks like (``dispatcher/core/reports.py``). What it costs is not counted: in a
cluster the pods do it, on machines of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import Any

import aiohttp
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusSender
from cluster_measuring import a_session, watched
from cluster_world import World

from dispatcher.cluster import paths
from dispatcher.core.jobs import LABEL_JOB
from dispatcher.core.reports import PODS_VARIABLE, ItemReport, ReportedOutcome, positions_of, report_to_body

_INDEX = "batch.kubernetes.io/job-completion-index"
_ITEMS_KEPT = 64
"""Manifests that are remembered: each is read once for all pods of its Job."""


@asynccontextmanager
async def reporting(world: World, sender: ServiceBusSender) -> AsyncIterator[None]:
    """Reports for the pods of the dispatcher's Jobs, while the block lasts. What it could not tell ends the block."""
    async with a_session(world) as session:
        stands = asyncio.Event()
        telling = asyncio.create_task(_tell(world, session, sender, stands), name="reports")
        standing = asyncio.create_task(stands.wait())
        try:
            await asyncio.wait({telling, standing}, return_when=asyncio.FIRST_COMPLETED)
            if not telling.done():
                yield
        finally:
            standing.cancel()
            telling.cancel()
            [ended] = await asyncio.gather(telling, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended


async def _tell(world: World, session: aiohttp.ClientSession, sender: ServiceBusSender, stands: asyncio.Event) -> None:
    @lru_cache(maxsize=_ITEMS_KEPT)
    def manifest(job: str) -> asyncio.Task[Sequence[Mapping[str, Any]]]:
        return asyncio.create_task(_manifest(session, paths.config_maps(world.tasks, job)))

    told: set[str] = set()
    async with aclosing(watched(session, paths.pods(world.tasks))) as events:
        async for kind, pod in events:
            if kind == "STANDS":
                stands.set()
                continue
            uid = pod["metadata"]["uid"]
            if pod.get("status", {}).get("phase") != "Succeeded" or uid in told:
                continue
            told.add(uid)
            reports = done(pod, await manifest(pod["metadata"]["labels"][LABEL_JOB]))
            messages = [
                ServiceBusMessage(report_to_body(each), message_id=each.message_id, content_type="application/json")
                for each in reports
            ]
            if messages:
                await sender.send_messages(messages)


async def _manifest(session: aiohttp.ClientSession, path: str) -> Sequence[Mapping[str, Any]]:
    """The items of a Job, by position."""
    async with session.get(path) as response:
        response.raise_for_status()
        data = (await response.json())["data"]
    return [json.loads(data[f"{position}.json"]) for position in range(len(data))]


def done(pod: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> list[ItemReport]:
    """A report for each item of a pod; none where every pod of its Job has one item."""
    environment = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
    if PODS_VARIABLE not in environment:
        return []
    index, pods = int(pod["metadata"]["annotations"][_INDEX]), int(environment[PODS_VARIABLE])
    return [
        ItemReport(
            batch=environment["BURST_BATCH"],
            attempt=int(environment["BURST_ATTEMPT"]),
            pod=pod["metadata"]["uid"],
            position=position,
            queue=items[position]["queue"],
            sequence_number=items[position]["sequence_number"],
            digest=items[position]["digest"],
            outcome=ReportedOutcome.DONE,
        )
        for position in positions_of(index, pods, len(items))
    ]
