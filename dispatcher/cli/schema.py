"""``dispatcher schema``: the contracts of this configuration as JSON Schemas."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from dispatcher.cli.app import app
from dispatcher.cli.shared import ConfigDir, Exit, fail, known_queue, told
from dispatcher.settings import load
from dispatcher.settings.schemas import config_schema, tasks_schema


class What(StrEnum):
    """What there is a schema of."""

    MESSAGE = "message"
    TASKS = "tasks"
    CONFIG = "config"
    OUTCOME = "outcome"


class Form(StrEnum):
    """The forms of a message that have a schema of their own."""

    JSON = "json"
    CLOUDEVENT = "cloudevent"


class Format(StrEnum):
    """How a schema is printed."""

    JSON = "json"
    YAML = "yaml"


@app.command()
@told
def schema(
    what: Annotated[
        What,
        typer.Argument(
            help="message: what a queue takes. outcome: what senders are told. "
            "config, tasks: the files dispatcher.yaml and tasks.yaml."
        ),
    ] = What.MESSAGE,
    task: Annotated[str | None, typer.Option(help="Of a message: only this task. Default: all of the queue.")] = None,
    queue: Annotated[
        str | None, typer.Option(help="Of a message: on this queue. Default: the first one of the configuration.")
    ] = None,
    form: Annotated[
        Form | None, typer.Option(help="Of a message: as JSON (default), or as a structured CloudEvent.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.JSON,
    config: ConfigDir = Path("config"),
) -> None:
    """Print a JSON Schema (draft 2020-12): of messages as a queue takes them, of outcomes, of the configuration.

    A message that satisfies the schema is accepted, as far as a schema can say; its description tells the rest.
    """
    if what is not What.MESSAGE and (task, queue, form) != (None, None, None):
        fail(f"--task, --queue and --form are about messages; leave them out with {what}", Exit.USAGE)
    if what is What.MESSAGE:
        found = of_message(task, queue, form or Form.JSON, config)
    elif what is What.OUTCOME:
        found = of_outcome()
    else:
        found = config_schema() if what is What.CONFIG else tasks_schema()
    if output is Format.YAML:
        print(yaml.safe_dump(json.loads(json.dumps(found)), sort_keys=False, allow_unicode=True, width=120), end="")
    else:
        print(json.dumps(found, indent=2, ensure_ascii=False))


def of_message(task: str | None, queue: str | None, form: Form, config: Path) -> dict[str, Any]:
    """The schema of what a queue of the configuration takes."""
    from dispatcher.queue.schemas import event_schema, message_schema
    from dispatcher.queue.task_table import TaskTable
    from dispatcher.service.wiring import queue_rules

    settings = load(config, local=False)
    name = known_queue(queue or settings.queues[0].name, settings, config)
    table, rules = TaskTable.of(entry.task() for entry in settings.tasks), queue_rules(settings)[name]
    known = table.names(rules)
    if task is not None and task not in known:
        fail(f"the queue {name} takes no task {task!r}; it takes {', '.join(known)}", Exit.USAGE)
    make = event_schema if form is Form.CLOUDEVENT else message_schema
    return make(name, table, rules, None if task is None else [task])


def of_outcome() -> dict[str, Any]:
    """The schema of what is told to whoever asked for the outcome."""
    from dispatcher.queue.outcome_events import OUTCOME_SCHEMA

    return dict(OUTCOME_SCHEMA)
