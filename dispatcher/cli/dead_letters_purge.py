"""``dispatcher dead-letters purge``: what nobody needs any more is saved to a file and removed."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from dispatcher.cli.dead_letters_replay import (
    ACTED_ON_MAX,
    AllOption,
    finish,
    must_restrict,
    tell_cut,
    tell_plan,
    teller,
)
from dispatcher.cli.long_act import Interrupted, progress_of
from dispatcher.cli.shared import ConfigDir, DataDirOption, ExecuteOption, Exit, JsonOption, fail, told

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.dead_letters import Letter
    from dispatcher.dead_letters.acting import Result
    from dispatcher.queue.dead_letters import TakenLetter


@dead_letters.command("purge")
@told
def purge_dead_letters(
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
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add what is removed to this file, one line of JSON each.")
    ] = None,
    no_save: Annotated[bool, typer.Option("--no-save", help="Remove without saving: what is purged is lost.")] = False,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters for good, each saved to a file first.

    Without --yes nothing happens: it tells how many would be purged, by reason. The file is only ever added to; a
    dead letter is removed once the disk has its line. To go on after an interruption, run the same command again.
    """
    from dispatcher.dead_letters.acting import purge
    from dispatcher.dead_letters.saving import SaveFile, whole

    selection = selected(task, tenant, reason, older_than, newer_than, message_id, sequence)
    must_restrict(selection.restricts or queue is not None, everything, execute)
    if save is not None and no_save:
        fail("--save and --no-save contradict each other; name one of them", Exit.USAGE)
    if execute and save is None and not no_save:
        fail("name a file with --save FILE for what is removed, or say --no-save", Exit.USAGE)
    desk = Desk.of(queue, config, data_dir)
    interrupted = Interrupted()
    found = looked(desk.find(selection, ACTED_ON_MAX), interrupted.run)
    letters = found.letters
    tell_cut(found)
    if not execute:
        tell_plan("purge", letters, desk.now, as_json=as_json)
        return

    results: list[Result] = []
    with ExitStack() as files:
        file = files.enter_context(SaveFile(save)) if save is not None else None

        def keep(taken: TakenLetter, letter: Letter) -> None:
            if file is not None:
                file.add([whole(letter, taken.dead, desk.now)])

        async def act() -> None:
            with progress_of("purging", len(letters)) as advance:
                tell = teller(results, advance, desk.now if as_json else None)
                async with desk.queues() as queues:
                    for dead_queue, _ in queues:
                        mine = [letter for letter in letters if letter.queue == dead_queue.name]
                        if mine and not interrupted():
                            await purge(
                                dead_queue, mine, save=keep, tell=tell, stopped=interrupted, turn=lambda: nullcontext()
                            )

        finish("purged", act(), interrupted, results, len(letters))
