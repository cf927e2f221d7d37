"""``dispatcher dead-letters replay``: work that was given up is sent back to its queue."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dispatcher.cli.dead_letters import (
    Desk,
    IdOption,
    NewerOption,
    OlderOption,
    QueueOption,
    ReasonOption,
    SequenceOption,
    TaskOption,
    TenantOption,
    dead_letters,
    looked,
    selected,
)
from dispatcher.cli.long_act import Interrupted, carried_out, progress_of, tell_end
from dispatcher.cli.shared import (
    PIPE_WIDTH,
    ConfigDir,
    DataDirOption,
    ExecuteOption,
    Exit,
    JsonOption,
    broker_access,
    fail,
    say,
    told,
)
from dispatcher.core.words import counted
from dispatcher.render import reasons_view

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.dead_letters import Found, Letter
    from dispatcher.dead_letters.acting import Result

ACTED_ON_MAX = 100_000
"""How many dead letters one run takes: what is known of each is held in memory."""
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter, where no other option restricts.")]
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
    everything: AllOption = False,
    execute: ExecuteOption = False,
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
    from dispatcher.dead_letters.acting import replay
    from dispatcher.queue.links import Pace
    from dispatcher.queue.resending import CopySender
    from dispatcher.service.wiring import SystemClock

    selection = selected(task, tenant, reason, older_than, newer_than, message_id, sequence)
    must_restrict(selection.restricts or queue is not None, everything, execute)
    desk = Desk.of(queue, config, data_dir)
    interrupted = Interrupted()
    found = looked(desk.find(selection, ACTED_ON_MAX), interrupted.run)
    too_often = [letter for letter in found.letters if letter.replays >= replays_max]
    refused = [] if anyway else [each for each in found.letters if each.refused and each.replays < replays_max]
    skipped = {(each.queue, each.sequence_number) for each in (*too_often, *refused)}
    letters = [each for each in found.letters if (each.queue, each.sequence_number) not in skipped]
    tell_cut(found)
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
        tell_plan("replay", letters, desk.now, as_json=as_json)
        return

    results: list[Result] = []
    pace = Pace(rate)

    async def act() -> None:
        with progress_of("replaying", len(letters)) as advance:
            tell = teller(results, advance, desk.now if as_json else None)
            async with desk.queues() as queues, AsyncExitStack() as stack:
                access = broker_access(desk.settings, config)
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


def teller(
    results: list[Result], advance: Callable[[int], None], printed_at: datetime | None
) -> Callable[[Result], None]:
    """Takes note of each letter that was dealt with; prints it as JSON, with its age at that time, if there is one."""

    def tell(result: Result) -> None:
        results.append(result)
        advance(1)
        if printed_at is not None:
            print(json.dumps(result.to_json(printed_at)), flush=True)

    return tell


def must_restrict(restricts: bool, everything: bool, execute: bool) -> None:
    """Acting on all there is must be said."""
    if execute and not restricts and not everything:
        fail("no option restricts what is taken, so this means every dead letter: say --all as well", Exit.USAGE)


def tell_cut(found: Found) -> None:
    """There are more than one run takes."""
    if found.cut is not None:
        say(f"warning: {found.cut.partition(';')[0]}: the rest is for another run of this command")


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
