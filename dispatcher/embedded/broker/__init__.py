"""An embedded, durable broker that speaks the AMQP 1.0 dialect of Azure Service Bus on loopback.

The room from the wire inwards:

    types, codec                AMQP values and bytes; decoding, encoding: one direction each; layouts: their numbers
    frames, performatives       the frames of a connection
    connection, session, links  the protocol state of one client; window, outcomes, confirming
                                are what it may send and what it says of deliveries
    cbs, management             the two request/response nodes
    door, rest, http_messages   sending by HTTP on the same port; requests become messages
    tokens, jwt_tokens          what a token is worth; those of identities
    messages                    which parts of a message the broker reads and writes
    model, queue                what Service Bus does with a message: pure, no I/O, time is an argument;
                                shelf, browsing, consumers, duplicates are parts of it
    entity                      one queue, its journal and its consumers, put together; admission is its door
    journal, store              what is on disk before a client hears "accepted"
    faults, stage               what can be made to go wrong on purpose; control: the same over HTTP
    server                      the composition: `Broker`

    async with Broker(BrokerConfig(queues=(QueueConfig("jobs"),))) as broker:
        client = ServiceBusClient.from_connection_string(broker.connection_string)
"""

from .config import AccessPolicy, BrokerConfig, IdentityPolicy, QueueConfig, Right, TlsFiles, TokenIssuer
from .errors import BrokerError
from .faults import Fault, FaultError, Faults
from .model import QueueCounts
from .server import Broker, BrokerHealth

__all__ = [
    "AccessPolicy",
    "Broker",
    "BrokerConfig",
    "BrokerError",
    "BrokerHealth",
    "Fault",
    "FaultError",
    "Faults",
    "IdentityPolicy",
    "QueueConfig",
    "QueueCounts",
    "Right",
    "TlsFiles",
    "TokenIssuer",
]
