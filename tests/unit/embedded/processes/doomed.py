"""A dispatcher that dies by SIGKILL at a chosen moment. Run as a program: FOLDER MOMENT PLACEMENT COMMAND."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from cluster_kit import LONG, a_config, a_job, a_place, a_virtual_node

from dispatcher.core.work import Placement
from dispatcher.embedded.processes import launching, starting

PODS = 4
NOTHING = timedelta(0)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path, moment: str, placement: Placement, command: str) -> None:
    launch = starting.launch
    if moment == "before_spawning":
        starting.launch = die  # type: ignore[assignment]
    elif moment in ("after_spawning", "before_the_wrapper_claims"):
        starting.launch = lambda order: die(launch(order))  # type: ignore[assignment]
    if moment == "before_the_wrapper_claims":
        launching._WRAPPER = "/bin/sleep 0.7\n" + launching._WRAPPER
    config = (
        a_config(folder, virtual_node=a_virtual_node(start_delay=LONG, pull_begins_after=NOTHING))
        if moment == "while_pulling"
        else None
    )
    async with a_place(folder, config) as place:
        await place.launch(a_job(command, placement=placement, completions=PODS))
        if moment == "while_pulling":
            await place.until(lambda seen: len([pod for pod in seen.pods if pod.node]) == PODS)
        else:
            await place.pods(PODS, "Running")
        die()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], Placement(sys.argv[3]), sys.argv[4]))
