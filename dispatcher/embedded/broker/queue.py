"""What Service Bus does with a message, as a state machine without I/O.

    send ──▶ active ──assign──▶ locked ──complete──▶ gone
              ▲  ▲               │  │
    schedule ─┘  └─abandon,      │  ├─defer──▶ deferred ──take──▶ locked (still deferred) or gone
    (when due)     release,      │  │
                   lock expired ─┘  └─dead-letter, too many deliveries──▶ the dead-letter queue

Every change that must outlive the process is made in two steps. `begin_…` decides, marks the message busy
and answers a `Change`; when the change is on disk `commit` carries it out, and when it could not be written
`cancel` puts everything back. A busy message can be touched by nothing else, so what memory shows never runs
ahead of the journal. Locks are not durable: they are given, renewed and released at once.

Time comes in as milliseconds since 1970 and lock tokens as 16 random bytes; the queue asks for neither.
What a message says is not known here, except how long it may live and when it is due.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from .consumers import ConsumerLine
from .duplicates import DuplicateWindow
from .messages import Content, with_dead_letter_reason
from .model import Change, Consumer, Kind, Message, QueueCounts, State
from .shelf import Shelf

RETRY_MS = 1000  # how long a change that the broker makes by itself waits after its commit failed


class Queue:
    """The messages of one queue or dead-letter queue and the rules they follow."""

    def __init__(
        self,
        *,
        lock_duration_ms: int,
        max_delivery_count: int,
        new_token: Callable[[], bytes],
        dead_letters: Queue | None = None,
        ttl_ms: int | None = None,
        bury_expired: bool = False,
        duplicates: DuplicateWindow | None = None,
        size_max: int | None = None,
    ) -> None:
        self.lock_duration_ms = lock_duration_ms
        self.max_delivery_count = max_delivery_count
        self.dead_letters = dead_letters  # None: this is a dead-letter queue, and nothing leaves it by itself
        self.ttl_ms = ttl_ms
        self.bury_expired = bury_expired
        self.duplicates = duplicates  # None: a message id may come as often as it likes
        self.size_max = size_max  # bytes, dead letters included; None: as much as the journal takes
        self.consumers = ConsumerLine()
        self.last_sequence = 0
        self.operations = 0
        self.done = [0] * len(Kind)  # how many changes of each kind were carried out
        self._new_token = new_token
        self.shelf = Shelf()
        self._locked: dict[bytes, Message] = {}
        self._expiries: list[tuple[int, int, bytes]] = []  # heap of (until, sequence, token), stale ones too

    # --- looking ---------------------------------------------------------------------------------------

    def counts(self) -> QueueCounts:
        """Costs nothing worth mentioning, however many messages there are."""
        return QueueCounts(
            active=self.shelf.active,
            locked=len(self._locked),
            deferred=self.shelf.deferred,
            scheduled=self.shelf.scheduled,
            dead_lettered=len(self.dead_letters) if self.dead_letters is not None else 0,
            operations=self.operations,
            entered=self.done[Kind.PUT],
            removed=self.done[Kind.DROP],
            buried=self.done[Kind.BURY],
        )

    def __len__(self) -> int:
        return len(self.shelf.messages)

    def has_room(self, contents: Iterable[Content]) -> bool:
        """Whether the messages would leave the queue and its dead letters within their limit."""
        if self.size_max is None:
            return True
        dead = self.dead_letters.shelf.size if self.dead_letters is not None else 0
        return self.shelf.size + dead + sum(content.size for content in contents) <= self.size_max

    def _weigh(self, content: Content, sign: int) -> None:
        if self.size_max is not None:
            self.shelf.size += sign * content.size

    def locked(self, token: bytes, now_ms: int) -> Message | None:
        """The message this token still locks."""
        message = self._locked.get(token)
        if message is None or message.busy or message.locked_until_ms <= now_ms:
            return None
        return message

    def oldest_locked(self, count_max: int) -> list[Message]:
        """Messages that are out, the oldest first."""
        held = sorted((m for m in self._locked.values() if not m.busy), key=lambda message: message.sequence)
        return held[:count_max]

    def wanted(self) -> int:
        """How many messages could be handed out now, if nothing stood in the way."""
        return min(self.shelf.active, self.consumers.credit())

    def next_deadline_ms(self) -> int | None:
        """When `expire` should next be called."""
        expiry = [self._expiries[0][0]] if self._expiries else []
        return min(expiry + self.shelf.next_ms(), default=None)

    def begin_bury_exhausted(self) -> list[Change]:
        """After a restart: what has been delivered too often without the broker living to see it."""
        if self.dead_letters is None:
            return []
        exhausted = [m for m in self.shelf.messages.values() if m.delivery_count >= self.max_delivery_count]
        changes = []
        for message in exhausted:
            self.shelf.unplace(message)
            message.delivery_count -= 1
            changes.append(self.begin_return(message, by_client=False))
        return changes

    # --- arriving --------------------------------------------------------------------------------------

    def restore(self, message: Message) -> None:
        """Takes back a message from the journal."""
        self._weigh(message.content, 1)
        self._add(message)
        self.last_sequence = max(self.last_sequence, message.sequence)

    def begin_put(self, content: Content, now_ms: int, message_id: bytes | None = None) -> Change:
        """A message arrives; it is scheduled if it is due later than now."""
        self._weigh(content, 1)
        self.last_sequence = sequence = self.last_sequence + 1
        due_ms = content.due_ms
        if due_ms is not None and due_ms > now_ms:
            message = Message(sequence, content, now_ms, State.SCHEDULED, due_ms)
        else:
            message = Message(sequence, content, now_ms)
        message.busy = True
        return Change(Kind.PUT, self, message, 0, content, sequence, message_id=message_id)

    def _add(self, message: Message) -> None:
        self.shelf.add(message)
        self._make_reachable(message)

    def _end_of_life_ms(self, message: Message) -> int | None:
        """The shorter of the two lives counts; in a dead-letter queue nothing expires."""
        own, common = message.content.ttl_ms, self.ttl_ms
        if (own is None and common is None) or self.dead_letters is None:
            return None
        return message.enqueued_ms + min(ttl for ttl in (own, common) if ttl is not None)

    def _is_over(self, message: Message, now_ms: int) -> bool:
        end_ms = self._end_of_life_ms(message)
        return end_ms is not None and end_ms <= now_ms

    def _make_reachable(self, message: Message, not_before_ms: int = 0) -> None:
        """An unlocked message waits as its state says; it will not be expired before that time."""
        end_ms = self._end_of_life_ms(message) if message.state is State.ACTIVE else None
        self.shelf.place(message, None if end_ms is None else max(end_ms, not_before_ms))

    # --- leaving to a consumer -------------------------------------------------------------------------

    def assign(self, now_ms: int, count_max: int) -> list[tuple[Consumer, Message]]:
        """Matches the oldest messages with the consumers that asked first.

        For a settled consumer the message is not locked but busy: follow up with `begin_drop`.
        """
        assigned: list[tuple[Consumer, Message]] = []
        while (consumer := self.consumers.first()) and len(assigned) < count_max:
            message = self.shelf.take_oldest(now_ms)
            if message is None:
                break
            if consumer.settled:
                message.busy = True
            else:
                self._lock(message, now_ms)
            assigned.append((consumer, message))
            self.consumers.serve_first()
        return assigned

    def _lock(self, message: Message, now_ms: int) -> None:
        token = self._new_token()
        message.token = token
        message.locked_until_ms = now_ms + self.lock_duration_ms
        self._locked[token] = message
        heapq.heappush(self._expiries, (message.locked_until_ms, message.sequence, token))

    def _unlock(self, message: Message) -> None:
        if message.token is not None:
            del self._locked[message.token]
            message.token = None

    def take_deferred(self, sequences: Sequence[int], now_ms: int, settled: bool) -> list[Message] | None:
        """Deferred messages by number: all of them or, if one cannot be had, none.

        A number cannot be had if it is unknown, not deferred, locked, or asked for twice. Settled messages
        are busy afterwards, as with `assign`.
        """
        messages = [message for number in sequences if (message := self.shelf.messages.get(number))]
        takeable = all(m.state is State.DEFERRED and m.token is None and not m.busy for m in messages)
        if len(messages) != len(sequences) or len(set(sequences)) != len(sequences) or not takeable:
            return None
        for message in messages:
            self.shelf.unplace(message)
            if settled:
                message.busy = True
            else:
                self._lock(message, now_ms)
        return messages

    # --- ending a lock ---------------------------------------------------------------------------------

    def renew(self, tokens: Iterable[bytes], now_ms: int) -> int | None:
        """Prolongs the locks and answers until when, or None if one is lost; then none is prolonged."""
        messages = [self.locked(token, now_ms) for token in tokens]
        until_ms = now_ms + self.lock_duration_ms
        if any(message is None for message in messages):
            return None
        for message in messages:
            if message is not None and message.token is not None:
                message.locked_until_ms = until_ms
                heapq.heappush(self._expiries, (until_ms, message.sequence, message.token))
        return until_ms

    def release(self, message: Message) -> None:
        """The lock ends as if the message had never been delivered."""
        self._unlock(message)
        self._make_reachable(message)

    def begin_drop(self, message: Message) -> Change:
        """The message is done with: completed, taken in receive-and-delete, or its schedule cancelled."""
        return self._begin(Kind.DROP, message, message.delivery_count)

    def begin_defer(self, message: Message) -> Change:
        """The message waits until it is asked for by number; the delivery count stays."""
        return self._begin(Kind.DEFER, message, message.delivery_count)

    def begin_return(self, message: Message, *, by_client: bool = True) -> Change:
        """The lock ends and the delivery counts; one delivery too many and the message is buried."""
        count = message.delivery_count + 1
        if self.dead_letters is not None and count >= self.max_delivery_count:
            return self.begin_bury(
                message,
                "MaxDeliveryCountExceeded",
                f"Message could not be consumed after {self.max_delivery_count} delivery attempts.",
                delivery_count=count,
                by_client=by_client,
            )
        return self._begin(Kind.RETURN, message, count, by_client=by_client)

    def begin_bury(
        self,
        message: Message,
        reason: str | None,
        description: str | None,
        *,
        delivery_count: int | None = None,
        by_client: bool = True,
    ) -> Change:
        """The message moves to the dead-letter queue; in the dead-letter queue it is only returned.

        Raises CodecError if the body is not one the broker can add a reason to; nothing has changed then.
        """
        count = message.delivery_count if delivery_count is None else delivery_count
        if self.dead_letters is None:
            return self._begin(Kind.RETURN, message, message.delivery_count + 1, by_client=by_client)
        content = with_dead_letter_reason(message.content, reason, description)
        return self._begin(Kind.BURY, message, count, content, by_client=by_client)

    def begin_cancel_schedule(self, sequences: Sequence[int]) -> list[Change] | None:
        """Drops scheduled messages, or answers None if one of them is not scheduled (any more)."""
        messages = [self.shelf.messages.get(number) for number in sequences]
        if len(set(sequences)) != len(sequences):
            return None
        scheduled = [m for m in messages if m and m.state is State.SCHEDULED and not m.busy]
        if len(scheduled) != len(sequences):
            return None
        for message in scheduled:
            self.shelf.unplace(message)
        return [self.begin_drop(message) for message in scheduled]

    def _begin(
        self, kind: Kind, message: Message, count: int, content: Content | None = None, *, by_client: bool = True
    ) -> Change:
        message.busy = True
        return Change(kind, self, message, count, content or message.content, message.sequence, by_client)

    # --- time passing ----------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> list[Change]:
        """Ends locks and lives that are over, begins what is due; answers what has to be written for it.

        Only a message that is active and not locked expires: a deferred one waits until it is asked for.
        """
        changes = [self._begin_expiry(message) for message in self.shelf.take_ended(now_ms)]
        while self._expiries and self._expiries[0][0] <= now_ms:
            _until, _sequence, token = heapq.heappop(self._expiries)
            message = self._locked.get(token)
            if message is not None and not message.busy and message.locked_until_ms <= now_ms:
                changes.append(self.begin_return(message, by_client=False))
        for scheduled in self.shelf.take_due(now_ms):
            self.last_sequence += 1
            scheduled.busy = True
            changes.append(
                Change(Kind.ACTIVATE, self, scheduled, 0, scheduled.content, self.last_sequence, by_client=False)
            )
        return changes

    def expire_touched(self, sequences: Iterable[int], now_ms: int) -> list[Change]:
        """Of the deferred messages somebody asks for, those whose life is over expire now."""
        changes: list[Change] = []
        for sequence in sequences:
            message = self.shelf.messages.get(sequence)
            if message is None or message.busy or message.token is not None or message.state is not State.DEFERRED:
                continue
            if self._is_over(message, now_ms):
                self.shelf.unplace(message)
                changes.append(self._begin_expiry(message))
        return changes

    def _begin_expiry(self, message: Message) -> Change:
        if self.bury_expired:
            reason, text = "TTLExpiredException", "The message expired and was dead lettered."
            return self.begin_bury(message, reason, text, by_client=False)
        return self._begin(Kind.DROP, message, message.delivery_count, by_client=False)

    # --- after the journal has spoken ------------------------------------------------------------------

    def commit(self, change: Change) -> None:
        """The change is durable: carry it out."""
        message = change.message
        message.busy = False
        self.operations += change.by_client
        self.done[change.kind] += 1
        if change.kind is Kind.PUT:
            self._add(message)
            return
        if change.kind is Kind.DROP:
            self._weigh(message.content, -1)
            self._remove(message)
            return
        self._unlock(message)
        message.delivery_count = change.delivery_count
        if change.kind is Kind.DEFER:
            message.state = State.DEFERRED
            self._make_reachable(message)
        elif change.kind is Kind.RETURN:
            self._make_reachable(message)
        elif change.kind is Kind.ACTIVATE:
            self._remove(message)
            message.sequence = change.sequence
            message.state = State.ACTIVE
            message.enqueued_ms = message.due_ms
            self._add(message)
        else:
            self._bury(message, change.content)

    def cancel(self, change: Change, now_ms: int) -> None:
        """The change could not be written: all is as before it began.

        What the broker had begun by itself is tried again after `RETRY_MS`.
        """
        message = change.message
        message.busy = False
        if change.kind is Kind.PUT:
            self._weigh(message.content, -1)
            return
        if message.token is not None:
            # The expiry may have passed unseen while the message was busy.
            until_ms = message.locked_until_ms if change.by_client else now_ms + RETRY_MS
            heapq.heappush(self._expiries, (until_ms, message.sequence, message.token))
        elif change.kind is Kind.ACTIVATE:
            message.due_ms = now_ms + RETRY_MS
            self._make_reachable(message)
        else:
            self._make_reachable(message, now_ms + RETRY_MS)

    def _bury(self, message: Message, content: Content) -> None:
        self._remove(message)
        if self.dead_letters is not None:
            self._weigh(message.content, -1)
            self.dead_letters._weigh(content, 1)
            message.content = content
            message.state = State.ACTIVE
            self.dead_letters._add(message)

    def _remove(self, message: Message) -> None:
        self._unlock(message)
        self.shelf.remove(message)
