"""Sends the burst of the demo: N work items of two tasks, most good, a few flaky, and exactly five that cannot work.

For the demo and its judge. The same seed makes the same burst. Five messages must end in the dead-letter queue:
two whose params look right and cannot work, and three that are poison (no JSON, an unknown task, params that
break the schema). Everything else must succeed, the flaky ones after a retry. What was sent, and what is to be
expected of each message, is written to burst.json. Needs the Azure Service Bus SDK and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count, islice
from pathlib import Path
from typing import Any

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusError

ITEMS_MIN = 12  # five that cannot work, four that are flaky, and three plain ones
ITEMS_MAX = 10_000  # there are not many more different contact sheets
FLAKY_MIN, FLAKY_SHARE = 4, 0.05
SEND_BATCH = 100
TENANTS, TENANT_WEIGHTS = ("acme", "globex", "initech"), (6, 3, 1)
FIRST_YEARS, LAST_YEARS = range(1964, 1986), range(1995, 2014)
INDICATORS = ("life_expectancy", "fertility", "population")
CROPS = ("center", "top", "bottom", "left", "right")
WIDTHS = range(160, 401, 20)
EFFECTS = ("none", "grayscale", "sepia", "sharpen")
FORMATS = ("jpeg", "webp")
PHOTOS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins"),
    *("grass", "gravel", "hubble", "retina", "rocket", "tissue"),
)
COUNTRIES = (
    *("Afghanistan", "Albania", "Algeria", "Angola", "Argentina", "Armenia", "Australia", "Austria", "Bahrain"),
    *("Bangladesh", "Barbados", "Belarus", "Belgium", "Belize", "Benin", "Bhutan", "Bolivia", "Botswana", "Brazil"),
    *("Bulgaria", "Burundi", "Cambodia", "Cameroon", "Canada", "Chad", "Chile", "China", "Colombia", "Comoros"),
    *("Costa Rica", "Croatia", "Cuba", "Cyprus", "Denmark", "Djibouti", "Ecuador", "Egypt", "El Salvador", "Eritrea"),
    *("Estonia", "Ethiopia", "Fiji", "Finland", "France", "Gabon", "Gambia", "Georgia", "Germany", "Ghana"),
    *("Greece", "Guatemala", "Guinea", "Guyana", "Haiti", "Honduras", "Hungary", "Iceland", "India", "Indonesia"),
    *("Iran", "Iraq", "Ireland", "Israel", "Italy", "Jamaica", "Japan", "Jordan", "Kazakhstan", "Kenya", "Kuwait"),
    *("Latvia", "Lebanon", "Lesotho", "Liberia", "Libya", "Lithuania", "Luxembourg", "Madagascar", "Malawi"),
    *("Malaysia", "Maldives", "Mali", "Malta", "Mauritius", "Mexico", "Moldova", "Mongolia", "Morocco", "Mozambique"),
    *("Myanmar", "Namibia", "Nepal", "Netherlands", "New Zealand", "Nicaragua", "Niger", "Nigeria", "Norway", "Oman"),
    *("Pakistan", "Panama", "Paraguay", "Peru", "Philippines", "Poland", "Portugal", "Qatar", "Romania", "Russia"),
    *("Rwanda", "Samoa", "Senegal", "Serbia", "Singapore", "Slovenia", "Somalia", "South Africa", "Spain"),
    *("Sri Lanka", "Sudan", "Sweden", "Switzerland", "Syria", "Tanzania", "Thailand", "Togo", "Tunisia", "Turkey"),
    *("Uganda", "Ukraine", "United Kingdom", "United States", "Uruguay", "Uzbekistan", "Vietnam", "Zambia"),
)


class Kind(StrEnum):
    """What is to be expected of a message."""

    PLAIN = "plain"
    FLAKY = "flaky"
    FAILS = "fails"
    POISON = "poison"


@dataclass(frozen=True)
class Planned:
    """One message of the burst."""

    id: str
    kind: Kind
    task: str
    tenant: str
    body: str
    replies: bool = False
    """Whether it asks to hear how it ended."""


def plan_burst(items: int, seed: int) -> list[Planned]:
    """Exactly `items` messages in the order of sending; the same seed gives the same burst."""
    if not ITEMS_MIN <= items <= ITEMS_MAX:
        raise ValueError(
            f"--items {items}: from {ITEMS_MIN}, to hold every kind of message, to {ITEMS_MAX}, all of them different"
        )
    dice = random.Random(seed)
    fails = [body_of("report", "acme", {"country": "Atlantis"}), body_of("thumbnail", "globex", {"photo": "yeti"})]
    poison = [
        '{"task": "report", "tenant": "acme", "params": {"country": ',
        body_of("transcode", "acme", {"photo": "coffee"}),
        body_of("thumbnail", "globex", {"photo": "coffee", "width": "huge"}),
    ]
    flaky = max(FLAKY_MIN, round(items * FLAKY_SHARE))
    work = list(islice(distinct_work(dice), items - len(fails) - len(poison)))
    bodies = [(Kind.FLAKY, with_flaky(body)) for body in work[:flaky]]
    bodies += [(Kind.PLAIN, body) for body in work[flaky:]]
    bodies += [(Kind.FAILS, body) for body in fails] + [(Kind.POISON, body) for body in poison]
    dice.shuffle(bodies)
    return [a_planned(f"demo-{seed}-{number:04d}", kind, body) for number, (kind, body) in enumerate(bodies, 1)]


def distinct_work(dice: random.Random) -> Iterator[str]:
    """Good work of both tasks in turn, never the same params twice."""
    seen: set[str] = set()
    for number in count():
        draw = random_report if number % 2 else random_thumbnail
        while (key := json.dumps(params := draw(dice))) in seen:
            pass
        seen.add(key)
        tenant = dice.choices(TENANTS, TENANT_WEIGHTS)[0]
        yield body_of("report" if number % 2 else "thumbnail", tenant, params)


def random_report(dice: random.Random) -> dict[str, Any]:
    """Params of a report that works."""
    return {
        "country": dice.choice(COUNTRIES),
        "years": [dice.choice(FIRST_YEARS), dice.choice(LAST_YEARS)],
        "indicator": dice.choice(INDICATORS),
    }


def random_thumbnail(dice: random.Random) -> dict[str, Any]:
    """Params of a contact sheet that works."""
    return {
        "photo": dice.choice(PHOTOS),
        "crop": dice.choice(CROPS),
        "width": dice.choice(WIDTHS),
        "effect": dice.choice(EFFECTS),
        "format": dice.choice(FORMATS),
    }


def body_of(task: str, tenant: str, params: dict[str, Any]) -> str:
    """The body of a message."""
    return json.dumps({"task": task, "tenant": tenant, "params": params})


def with_flaky(body: str) -> str:
    """The same work, asked to fail on its first attempt."""
    message = json.loads(body)
    message["params"]["flaky"] = True
    return json.dumps(message)


def a_planned(message_id: str, kind: Kind, body: str) -> Planned:
    """A message with the task and the tenant that its body names, where it can be read."""
    try:
        message = json.loads(body)
    except ValueError:
        message = {"task": "unreadable", "tenant": "unreadable"}
    return Planned(message_id, kind, message["task"], message["tenant"], body)


def asking_for_replies(planned: Planned, reply_to: str) -> Planned:
    """The same message, whose body names the queue for its outcome; one that nobody can read asks for nothing."""
    try:
        message = json.loads(planned.body)
    except ValueError:
        return planned
    return replace(planned, body=json.dumps({**message, "reply_to": reply_to}), replies=True)


def burst_record(plan: list[Planned], queue: str, seed: int, enqueued_at: float) -> dict[str, Any]:
    """What burst.json holds: what was sent, and what must become of it."""
    dead_lettered = sum(planned.kind in (Kind.FAILS, Kind.POISON) for planned in plan)
    return {
        "enqueued": len(plan),
        "expect": {"succeed": len(plan) - dead_lettered, "dead_lettered": dead_lettered},
        "kinds": {kind.value: sum(planned.kind is kind for planned in plan) for kind in Kind},
        "queue": queue,
        "seed": seed,
        "enqueued_at": enqueued_at,
        "messages": {
            planned.id: {
                "task": planned.task,
                "tenant": planned.tenant,
                "kind": planned.kind.value,
                "replies": planned.replies,
            }
            for planned in plan
        },
    }


async def send(plan: list[Planned], connection_string: str, queue: str) -> None:
    """Send the burst in batches through one sender."""
    messages = [
        ServiceBusMessage(planned.body, message_id=planned.id, content_type="application/json") for planned in plan
    ]
    client = ServiceBusClient.from_connection_string(connection_string)
    async with client, client.get_queue_sender(queue) as sender:
        for start in range(0, len(messages), SEND_BATCH):
            await sender.send_messages(messages[start : start + SEND_BATCH])


def main() -> int:
    """Send the burst, write burst.json, and print its summary as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--connection-string", required=True, help="of the Service Bus namespace or the embedded broker"
    )
    parser.add_argument("--queue", default="work")
    parser.add_argument("--reply-to", help="the queue on which to hear how each item ended; default: nobody asks")
    parser.add_argument("--items", type=int, default=240, help=f"how many messages, {ITEMS_MIN} to {ITEMS_MAX}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("burst.json"), help="where to write what was sent")
    options = parser.parse_args()
    try:
        plan = plan_burst(options.items, options.seed)
        if options.reply_to:
            plan = [asking_for_replies(planned, options.reply_to) for planned in plan]
        started_at = time.time()
        asyncio.run(send(plan, options.connection_string, options.queue))
    except (ValueError, ServiceBusError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = burst_record(plan, options.queue, options.seed, started_at)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in record.items() if key != "messages"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
