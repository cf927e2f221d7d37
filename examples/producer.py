"""Sends a small burst of work with nothing but the Azure Service Bus SDK: a pattern for producers of your own."""

import asyncio
import json
import os
import uuid

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

WORK = [("report", {"country": name}) for name in ("Kenya", "Japan", "Brazil", "Norway", "Rwanda", "India")]
WORK += [("thumbnail", {"photo": name}) for name in ("coffee", "chelsea", "hubble", "rocket", "astronaut", "coins")]


async def main() -> None:
    """One message is one work item: it names its task, its tenant and the task's parameters."""
    client = ServiceBusClient.from_connection_string(os.environ["SERVICEBUS_CONNECTION_STRING"])
    async with client, client.get_queue_sender(os.environ.get("SERVICEBUS_QUEUE", "work")) as sender:
        for task, params in WORK:
            body = json.dumps({"task": task, "tenant": "acme", "params": params})
            await sender.send_messages(ServiceBusMessage(body, message_id=str(uuid.uuid4())))
            print(f"sent {task} {params}")


asyncio.run(main())
