"""What can go wrong, in the two languages the broker speaks.

`AmqpError` is an answer to a client: a condition the protocol or Service Bus names, and a sentence.
`BrokerError` is for whoever runs the broker in this process: it could not start, or could not go on.
Nothing here knows how an error is put on the wire.
"""

from __future__ import annotations

DECODE_ERROR = "amqp:decode-error"
INTERNAL_ERROR = "amqp:internal-error"
INVALID_FIELD = "amqp:invalid-field"
NOT_ALLOWED = "amqp:not-allowed"
NOT_FOUND = "amqp:not-found"
NOT_IMPLEMENTED = "amqp:not-implemented"
RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded"
UNAUTHORIZED_ACCESS = "amqp:unauthorized-access"
CONNECTION_FORCED = "amqp:connection:forced"
FRAMING_ERROR = "amqp:connection:framing-error"
UNATTACHED_HANDLE = "amqp:session:unattached-handle"
LINK_DETACH_FORCED = "amqp:link:detach-forced"
MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded"
MESSAGE_LOCK_LOST = "com.microsoft:message-lock-lost"
MESSAGE_NOT_FOUND = "com.microsoft:message-not-found"
ENTITY_DISABLED = "com.microsoft:entity-disabled"
SERVER_BUSY = "com.microsoft:server-busy"
ARGUMENT_ERROR = "com.microsoft:argument-error"
DEAD_LETTER = "com.microsoft:dead-letter"


class BrokerError(Exception):
    """The broker cannot start or cannot go on; the message is one line that says why and what to do."""


class CodecError(Exception):
    """Bytes that are not the AMQP value they claim to be, or a value AMQP cannot carry."""


class AmqpError(Exception):
    """A refusal that is sent to a client.

    `condition` is the symbol the client turns into an exception type, `description` the sentence it shows.
    """

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition = condition
        self.description = description
