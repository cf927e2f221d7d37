"""``dispatcher dead-letters replay``: work that was given up is sent back to its queue."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dispatcher.cli.dead_letters import (
    IdOption,
    NewerOption,
    OlderOption,
    QueueOption,
    ReasonOption,
    SequenceOption,
    TaskOption,
    TenantOption,
    dead_letter_queues,
    dead_letters,
    queue_names,
    selected,
)
from dispatcher.cli.long_act import Interrupted, carried_out, progress_of, tell_end
from dispatcher.cli.shared import (
    PIPE_WIDTH,
    ConfigDir,
    DataDirOption,
    Exit,
    JsonOption,
    broker_access,
    counted,
    fail,
    local_overrides,
    say,
    told,
)
from dispatcher.errors import LookFailed
from dispatcher.render import reasons_view
from dispatcher.running import NotReachable
from dispatcher.settings import load

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.dead_letters import Letter
    from dispatcher.dead_letters.acting import Result

ACTED_ON_MAX = 100_000
"""How many dead letters one run takes: what is known of each is held in memory."""
_WORDS = {
    "gone": "no longer there",
    "locked": "locked by another receiver: try again in a minute",
    "too_large": "too large for the queue with what a replay adds",
    "not_removed": "done, but the dead letter is still there: the next time the queue swallows the copy",
}


@dead_letters.command("replay")
@told
def replay_dead_letters(
    queue: QueueOption = None,
    task: TaskOption = None,
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    message_id: IdOption = None,
    sequence: SequenceOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every dead letter, where no other option restricts.")
    ] = False,
    execute: Annotated[
        bool, typer.Option("--yes", "--execute", help="Do it; without, only tell what would be.")
    ] = False,
    rate: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many a second.")] = 25,
    replays_max: Annotated[
        int, typer.Option("--max-replays", min=1, metavar="N", help="Leave what was replayed so often already.")
    ] = 3,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also what this configuration would dead-letter again at once.")
    ] = False,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters back to their queue as new messages, and remove them from the dead-letter queue.

    Without --yes nothing happens: it tells how many would be replayed, by reason. Each copy has a message id of its
    own (the queue would take the old one for a duplicate) and carries the old one, when it was sent, the reason and
    the history of its replays as properties; the item keeps the id that its sender gave it. The copy is sent before
    the dead letter is removed, so that an interruption loses nothing; to go on, run the same command again.
    """
    from dispatcher.dead_letters import Found, find
    from dispatcher.dead_letters.acting import replay
    from dispatcher.queue.links import Pace
    from dispatcher.queue.resending import CopySender
    from dispatcher.service.wiring import SystemClock, message_reader

    selection = selected(task, tenant, reason, older_than, newer_than, message_id, sequence)
    must_restrict(selection.restricts or queue is not None, everything, execute)
    settings = load(config, local=False, overrides=local_overrides(data_dir=data_dir))
    names = queue_names(queue, settings, config)
    now = SystemClock().now()
    reader = message_reader(settings, lambda: now)
    interrupted = Interrupted()

    async def look() -> Found:
        async with dead_letter_queues(settings, names, config) as queues:
            return await find(queues, selection, now, limit=ACTED_ON_MAX, reader=reader)

    try:
        found = interrupted.run(look())
    except LookFailed as error:
        raise NotReachable(f"the dead letters cannot be read: {error}") from error
    too_often = [letter for letter in found.letters if letter.replays >= replays_max]
    refused = [] if anyway else [each for each in found.letters if each.refused and each.replays < replays_max]
    skipped = {(each.queue, each.sequence_number) for each in (*too_often, *refused)}
    letters = [each for each in found.letters if (each.queue, each.sequence_number) not in skipped]
    if found.cut is not None:
        say(f"warning: {found.cut.partition(';')[0]}: the rest is for another run of this command")
    if too_often:
        most = max(letter.replays for letter in too_often)
        say(
            f"{counted(len(too_often), 'dead letter')} replayed {replays_max} times or more (up to {most}) "
            "are left alone; --max-replays raises the bound"
        )
    if refused:
        say(
            f"{counted(len(refused), 'dead letter')} would be dead-lettered again by the configuration in {config} "
            f"({by_reason(each.refused or '-' for each in refused)}) and are left alone; --anyway replays them too"
        )
    if not execute:
        tell_plan("replay", letters, now, as_json=as_json)
        return

    results: list[Result] = []
    pace = Pace(rate)

    async def act() -> None:
        with progress_of("replaying", len(letters)) as advance:

            def tell(result: Result) -> None:
                results.append(result)
                advance()
                if as_json:
                    print(json.dumps(result.to_json(now)), flush=True)

            async with dead_letter_queues(settings, names, config) as queues, AsyncExitStack() as stack:
                access = broker_access(settings, config)
                stack.push_async_callback(access.close)
                for dead_queue, _ in queues:
                    mine = [letter for letter in letters if letter.queue == dead_queue.name]
                    if not mine or interrupted():
                        continue
                    sender = await stack.enter_async_context(CopySender(access.queue(dead_queue.name)))
                    await replay(
                        dead_queue,
                        sender,
                        mine,
                        per_second=rate,
                        turn=pace.turn,
                        now=SystemClock().now,
                        tell=tell,
                        stopped=interrupted,
                    )

    finish("replayed", act(), interrupted, results, len(letters))


def must_restrict(restricts: bool, everything: bool, execute: bool) -> None:
    """Acting on all there is must be said."""
    if execute and not restricts and not everything:
        fail("no option restricts what is taken, so this means every dead letter: say --all as well", Exit.USAGE)


def tell_plan(verb: str, letters: Sequence[Letter], now: datetime, *, as_json: bool) -> None:
    """What would happen: a table by reason, or one line of JSON for each."""
    if as_json:
        for letter in letters:
            print(json.dumps({**letter.to_json(now), "became": f"would_{verb}"}))
    elif letters:
        view = reasons_view([letter.to_json(now) for letter in letters])
        Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(view)
    say(f"would {verb} {counted(len(letters), 'dead letter')}" + ("; --yes does it" if letters else ""))


def finish(
    did: str, work: Coroutine[Any, Any, None], interrupted: Interrupted, results: list[Result], total: int
) -> None:
    """Acts, says what came of it, and ends the command with the exit code that tells the same."""
    fault = carried_out(work, interrupted)
    tell_end(did, "dead letter", _WORDS, [each.became for each in results], total, fault, interrupted)


def by_reason(reasons: Iterable[str]) -> str:
    """Reasons with their counts, as a part of a sentence."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).most_common())
