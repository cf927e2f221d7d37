"""Sends a small burst of work with nothing but the Azure Service Bus SDK: a pattern for producers of your own."""

import asyncio
import json
import os
import uuid

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

COUNTRIES = ["Kenya", "Japan", "Brazil", "Norway", "Rwanda", "India"]
PHOTOS = ["coffee", "chelsea", "hubble", "rocket", "astronaut", "coins"]


async def main() -> None:
    """Send one message for every work item, ten messages at a time, through one sender."""
    bodies = [{"task": "report", "tenant": "acme", "params": {"country": country}} for country in COUNTRIES]
    bodies += [{"task": "thumbnail", "tenant": "globex", "params": {"photo": photo}} for photo in PHOTOS]
    messages = [ServiceBusMessage(json.dumps(body), message_id=str(uuid.uuid4())) for body in bodies]
    queue = os.environ.get("SERVICEBUS_QUEUE", "work")
    client = ServiceBusClient.from_connection_string(os.environ["SERVICEBUS_CONNECTION_STRING"])
    async with client, client.get_queue_sender(queue) as sender:
        for start in range(0, len(messages), 10):
            await sender.send_messages(messages[start : start + 10])
    for message, body in zip(messages, bodies, strict=True):
        print(f"sent {message.message_id} to {queue}: {body['task']} {body['params']}")


if __name__ == "__main__":
    asyncio.run(main())
