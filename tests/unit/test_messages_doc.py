"""Every example in docs/messages.md is the work that it says, on the delivered configuration."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage

from dispatcher.ports import Message
from dispatcher.queue import messages
from dispatcher.service.wiring import message_reader
from dispatcher.settings import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/messages.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def made_by(example: str) -> ServiceBusMessage:
    names: dict[str, Any] = {"ServiceBusMessage": ServiceBusMessage, "json": json, "datetime": datetime, "UTC": UTC}
    exec(compile(example, "docs/messages.md", "exec"), names)
    message = names["message"]
    assert isinstance(message, ServiceBusMessage)
    return message


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_the_work_that_it_says(example: str) -> None:
    sent = made_by(example)
    properties = {str(name): value for name, value in (sent.application_properties or {}).items()}
    arrived = Message(
        1,
        str(sent.message_id),
        b"".join(sent.body),
        datetime.now(UTC),
        content_type=sent.content_type,
        properties=properties,
    )
    read = message_reader(load(ROOT / "config", local=False, environ={}), lambda: datetime.now(UTC))
    item = read("work", arrived)
    work = (item.message_id, item.task, item.tenant, item.priority, item.params_json)
    assert work == ("report-kenya-2026", "report", "acme", 1, '{"country":"Kenya"}')
    assert (item.traceparent is not None) == ("traceparent" in example)


def test_there_is_an_example_of_every_form() -> None:
    assert len(EXAMPLES) == 6


def test_every_reason_is_told() -> None:
    told = set(re.findall(r"^\| `([a-z_]+)` \|", TEXT, re.MULTILINE))
    assert told == set(re.findall(r"``([a-z_]+)``", messages.to_item.__doc__ or ""))
