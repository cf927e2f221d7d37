"""``dispatcher release``: deferred backlog becomes ordinary messages again, for a rollback or to uninstall."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.app import app
from dispatcher.cli.dead_letters import queue_names
from dispatcher.cli.long_act import Interrupted, carried_out, progress_of, tell_end
from dispatcher.cli.shared import (
    ConfigDir,
    DataDirOption,
    ExecuteOption,
    JsonOption,
    broker_access,
    local_overrides,
    say,
    told,
)
from dispatcher.core.words import counted
from dispatcher.errors import BadConfiguration, DispatcherError
from dispatcher.settings import Settings, load

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.releasing import Deferred, Released
    from dispatcher.service.offline import Offline

_WORDS = {
    "gone": "no longer there",
    "locked": "locked by another receiver: try again in a minute",
    "too_large": "too large for the queue with what a release adds",
    "not_removed": "sent, but the deferred message is still there: the next time the queue swallows the copy",
}


_LOOK_AGAIN_SECONDS = 1.0


@app.command()
@told
def release(
    queue: Annotated[str | None, typer.Option(help="Only this queue; default: all of the configuration.")] = None,
    execute: ExecuteOption = False,
    in_flight: Annotated[
        bool, typer.Option("--in-flight", help="Also items that an attempt has: what runs on may run twice.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a dispatcher leads, or nobody can tell: items may run twice.")
    ] = False,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Return deferred backlog to its queue as ordinary messages, so that any consumer can receive it.

    The dispatcher defers messages that wait or run; other programs do not see those. Stop it first: while one leads,
    this is refused. Without --yes nothing happens: it tells how many would be released. Each message is sent anew
    before the deferred one is removed, so that an interruption loses nothing; to go on, run the same command again.
    The item keeps its sender's id as the property original_message_id.
    """
    settings = load(config, local=False, overrides=local_overrides(data_dir=data_dir))
    names = queue_names(queue, settings, config)
    interrupted = Interrupted()
    results: list[Released] = []
    plan = _Plan()

    async def act() -> None:
        from dispatcher.queue.backlog import DeferredBacklog
        from dispatcher.queue.resending import CopySender
        from dispatcher.releasing import claims, look
        from dispatcher.releasing import release as release_each

        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(_opened(settings, config, force=force))
            if not await _leads_nobody(world) and not force:
                raise DispatcherError("a dispatcher leads: stop it first, or say --force and let items run twice")
            claimed = await claims(world.store) if world.store is not None else {}
            backlogs = []
            for name in names:
                where = world.access.queue(name)
                backlog = await stack.enter_async_context(DeferredBacklog(where))
                found = await look(backlog, claimed)
                plan.in_flight += found.in_flight
                chosen = sorted(found.free + (found.in_flight if in_flight else []), key=lambda d: d.sequence_number)
                plan.chosen += chosen
                backlogs.append((where, backlog, chosen))
            if not execute:
                return
            with progress_of("releasing", len(plan.chosen)) as advance:

                def tell(result: Released) -> None:
                    results.append(result)
                    advance(1)
                    if as_json:
                        print(json.dumps(result.to_json()), flush=True)

                for where, backlog, chosen in backlogs:
                    sender = await stack.enter_async_context(CopySender(where))
                    lease = None if force else world.lease
                    await release_each(backlog, sender, chosen, lease=lease, tell=tell, stopped=interrupted)

    fault = carried_out(act(), interrupted)
    if plan.in_flight and not in_flight:
        attempts = sorted({each.claimed_by or "-" for each in plan.in_flight})
        say(
            f"{counted(len(plan.in_flight), 'item')} in flight with {', '.join(attempts[:3])}"
            f"{f' and {len(attempts) - 3} more' if len(attempts) > 3 else ''} left alone: let the dispatcher finish "
            "them, or say --in-flight"
        )
    if execute or fault is not None:
        became = [each.became for each in results]
        tell_end("released", "message", _WORDS, became, len(plan.chosen), fault, interrupted)
        return
    for each in plan.chosen if as_json else ():
        print(json.dumps({**each.to_json(), "became": "would_release"}))
    say(f"would release {counted(len(plan.chosen), 'message')}" + ("; --yes does it" if plan.chosen else ""))


class _Plan:
    """What was found, and what of it is to be released."""

    def __init__(self) -> None:
        self.chosen: list[Deferred] = []
        self.in_flight: list[Deferred] = []


async def _leads_nobody(world: Offline) -> bool:
    """Whether the lease is ours now, if there is one; a leader that died is waited for until its lease has run out."""
    if world.lease is None or await world.lease.acquire():
        return True
    seconds = world.lease_takes.total_seconds()
    if seconds:
        say(f"somebody holds the lease: waiting up to {seconds:.0f} s to see whether it is renewed")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        if await world.lease.acquire():
            return True
    return False


@asynccontextmanager
async def _opened(settings: Settings, config: Path, *, force: bool) -> AsyncIterator[Offline]:
    """The namespace that is configured, with the records of its cluster; else the local data directory."""
    from dispatcher.service.offline import Offline, open_beside_service, open_cluster, open_data_dir

    bus = settings.service_bus
    if bus.connection_string is not None or bus.namespace is not None:
        access = broker_access(settings, config)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(access.close)
            try:
                offline = await stack.enter_async_context(open_cluster(settings, config, access))
            except BadConfiguration as error:
                if not force:
                    raise DispatcherError(
                        f"{'; '.join(error.mistakes)}; without its records nobody can tell who leads and what is in "
                        "flight: or stop the dispatcher, see that no Job of it runs, and say --force"
                    ) from error
                offline = Offline(access, None, None)
            yield offline
        return
    async with AsyncExitStack() as stack:
        try:
            offline = await stack.enter_async_context(open_data_dir(settings))
        except BadConfiguration:  # a service runs on the folder
            if not force:
                raise
            offline = await stack.enter_async_context(open_beside_service(settings, broker_access(settings, config)))
        yield offline
