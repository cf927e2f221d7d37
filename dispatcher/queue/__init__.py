"""Azure Service Bus: receive, defer, settle; and what a message means.

messages, task_table   message <-> work item; what is poison (pure)
envelope, cloud_events the forms that a message may have
strict_json, words     the JSON that is taken, and how faults are told
config                 how to reach one queue, and for how long to wait
links                  one SDK object, one owner, bounded waits, rebuilt when broken
convert, translate     what the SDK hands over and raises, in the words of the ports; once, at this edge
access                 what a client connects with: a file that is followed, an identity
probing, seen          a look at a queue by somebody who may not manage it, and what it proves
pump                   the receiver: deliveries in, dispositions out
settlement, peeking    acts and looks by sequence number
service_bus            the composition: ServiceBusQueue, one queue behind the WorkQueue port
reports                the queue of reports, the same behind the Reports port
dead_letters, taking   what lies in the dead-letter queue: looked at, and taken out under lock
replays, copying       what a message that is sent anew carries of what it was
resending              sending such copies
producer               sending, for the command line and for tests
"""

from __future__ import annotations

from dispatcher.queue.config import Health, ServiceBusConfig
from dispatcher.queue.messages import dead_letter, to_body, to_item
from dispatcher.queue.producer import Producer
from dispatcher.queue.service_bus import ServiceBusQueue
from dispatcher.queue.task_table import QueueRules, TaskTable

__all__ = [
    "Health",
    "Producer",
    "QueueRules",
    "ServiceBusConfig",
    "ServiceBusQueue",
    "TaskTable",
    "dead_letter",
    "to_body",
    "to_item",
]
