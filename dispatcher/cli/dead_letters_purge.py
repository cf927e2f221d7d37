"""``dispatcher dead-letters purge``: what nobody needs any more is saved to a file and removed."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from dispatcher.cli.dead_letters_replay import ACTED_ON_MAX, finish, must_restrict, tell_plan
from dispatcher.cli.long_act import Interrupted, progress_of
from dispatcher.cli.shared import ConfigDir, DataDirOption, Exit, JsonOption, fail, local_overrides, say, told
from dispatcher.errors import LookFailed
from dispatcher.running import NotReachable
from dispatcher.settings import load

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
    everything: Annotated[
        bool, typer.Option("--all", help="Every dead letter, where no other option restricts.")
    ] = False,
    execute: Annotated[
        bool, typer.Option("--yes", "--execute", help="Do it; without, only tell what would be.")
    ] = False,
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
    from dispatcher.dead_letters import Found, find
    from dispatcher.dead_letters.acting import purge
    from dispatcher.dead_letters.saving import SaveFile, whole
    from dispatcher.service.wiring import SystemClock, message_reader

    selection = selected(task, tenant, reason, older_than, newer_than, message_id, sequence)
    must_restrict(selection.restricts or queue is not None, everything, execute)
    if save is not None and no_save:
        fail("--save and --no-save contradict each other; name one of them", Exit.USAGE)
    if execute and save is None and not no_save:
        fail("name a file with --save FILE for what is removed, or say --no-save", Exit.USAGE)
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
    letters = found.letters
    if found.cut is not None:
        say(f"warning: {found.cut.partition(';')[0]}: the rest is for another run of this command")
    if not execute:
        tell_plan("purge", letters, now, as_json=as_json)
        return

    results: list[Result] = []
    with ExitStack() as files:
        file = files.enter_context(SaveFile(save)) if save is not None else None

        def keep(taken: TakenLetter, letter: Letter) -> None:
            if file is not None:
                file.add([whole(letter, taken.dead, now)])

        async def act() -> None:
            with progress_of("purging", len(letters)) as advance:

                def tell(result: Result) -> None:
                    results.append(result)
                    advance()
                    if as_json:
                        print(json.dumps(result.to_json(now)), flush=True)

                async with dead_letter_queues(settings, names, config) as queues:
                    for dead_queue, _ in queues:
                        mine = [letter for letter in letters if letter.queue == dead_queue.name]
                        if mine and not interrupted():
                            await purge(
                                dead_queue, mine, save=keep, tell=tell, stopped=interrupted, turn=lambda: nullcontext()
                            )

        finish("purged", act(), interrupted, results, len(letters))
