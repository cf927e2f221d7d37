"""For programs that send work and want to know how it ended.

    async with BurstClient.from_connection_string(secret, reply_to="outcomes") as client:
        ids = [await client.send("report", {"country": name}) for name in ("Kenya", "Japan")]
        for outcome in (await client.wait(ids, timedelta(minutes=5))).values():
            print(outcome.message_id, outcome.kind, outcome.reason)

docs/client.md has the whole of it. Knows nothing of the dispatcher but what its messages and outcomes look like.

work         one item to be sent, and how it becomes a message
checks       whether the dispatcher would take it, before it is sent
sending      the one owner of the sender
inbox        the one owner of the reply queue's receiver, and who waits for what
burst        the composition: BurstClient
errors       what can go wrong, by type
"""

from __future__ import annotations

from dispatcher.client.burst import BurstClient
from dispatcher.client.checks import Check, by_schema, by_tasks
from dispatcher.client.errors import ClientError, InvalidWork, NotInTime, RepliesRefused, SendFailed
from dispatcher.client.work import Work
from dispatcher.core.outcomes import Outcome, OutcomeKind

__all__ = [
    "BurstClient",
    "Check",
    "ClientError",
    "InvalidWork",
    "NotInTime",
    "Outcome",
    "OutcomeKind",
    "RepliesRefused",
    "SendFailed",
    "Work",
    "by_schema",
    "by_tasks",
]
