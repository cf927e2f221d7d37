"""What the leader has in mind: the last accepted ledger, the attempts, the items, the locks.

Holds state and answers questions about it; acts on nothing. All of it can be found again by taking over, so that it may
be thrown away at any moment, and is, whenever there is doubt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.core.attempts import Attempt, Load, Sighting, load_of
from dispatcher.core.budgets import CREATE_SETTLES_IN
from dispatcher.core.circuit import Circuit
from dispatcher.core.experience import Experience
from dispatcher.core.inflight import InFlight
from dispatcher.core.ledger import Draft, Ledger
from dispatcher.core.observations import AccountSeen, NodeHeadroom
from dispatcher.core.outcomes import Outcome, ReplyLine
from dispatcher.core.plan import Hold
from dispatcher.core.policy import Policy
from dispatcher.core.reports import ItemReport
from dispatcher.core.work import ItemId


@dataclass(slots=True)
class Lock:
    """A message lock that we hold for an item."""

    token: str
    until: datetime
    since: datetime


@dataclass(slots=True)
class Owed:
    """An outcome that a sender has still to be told: of a position of an attempt's record, or of a poison message."""

    message_id: str
    reply_to: str
    since: datetime
    attempt: str = ""
    index: int = 0
    poison: Outcome | None = None
    under_way: bool = False
    """Handed over and not answered yet."""
    tried: bool = False
    """It was not taken, or nobody knows."""
    last_error: str = ""


@dataclass(slots=True)
class Reported:
    """A report that we hold under lock until what follows from it stands in a record."""

    report: ItemReport
    sequence_number: int
    """Of the message that brought it."""
    until: datetime
    """When its lock ends: then it is delivered again."""


@dataclass(slots=True)
class Tallies:
    """What this process has counted since it started; telemetry, nothing rests on it."""

    received: int = 0
    rejected: int = 0
    """Poison: dead-lettered at the door, never an item."""
    done: int = 0
    dead_lettered: int = 0
    """Items given up."""
    retried: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    """Items done, by placement."""
    replied: int = 0
    """Outcomes that their reply queues have taken."""
    replies_given_up: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    """Reports of pods that carry several items, by what they meant."""
    cycles: int = 0


@dataclass(slots=True)
class Memory:
    """The leader's memory, from one takeover to the next."""

    ledger: Ledger
    version: str
    draft: Draft
    took_over_at: datetime
    attempts: dict[str, Attempt] = field(default_factory=dict)
    sightings: dict[str, Sighting] = field(default_factory=dict)
    """What was seen of each Job that has an entry, closing ones included."""
    loads: dict[str, Load] = field(default_factory=dict)
    """Of what was seen, as it stood when something was last seen of each: counting all pods in each cycle would make
    it as slow as there are pods."""
    job_of_pod: dict[str, str] = field(default_factory=dict)
    listed_stopped: set[str] = field(default_factory=set)
    """Stopped Jobs with pods that nobody had seen, of which a consistent list was taken since."""
    records: dict[str, str] = field(default_factory=dict)
    """Uids of the records that stand in the store, by name."""
    inflight: InFlight = field(default_factory=InFlight)
    locks: dict[ItemId, Lock] = field(default_factory=dict)
    drafted: set[ItemId] = field(default_factory=set)
    """Items whose Job is not known to exist yet: their locks are kept."""
    experience: Experience | None = None
    """What this process has learned; it outlives this memory, since nothing rests on it."""
    circuit: Circuit = Circuit()
    probes: set[str] = field(default_factory=set)
    dirty: set[str] = field(default_factory=set)
    """Attempts and closing entries that something has happened to."""
    all_checked_at: datetime | None = None
    latecomers: set[str] = field(default_factory=set)
    """Jobs that no entry knows."""
    strays: dict[str, datetime] = field(default_factory=dict)
    """Records that nobody needs, and from when on each is where it stays.

    A create that got no answer may still land.
    """
    headroom: NodeHeadroom = NodeHeadroom()
    holds: tuple[Hold, ...] = ()
    served: dict[str, int] = field(default_factory=dict)
    """What each tenant was served so far, by its weight: for turns among those that wait."""
    told_holds: frozenset[tuple[str, str, int, str]] = frozenset()
    """Of the last plan, by task, tenant, priority and reason: one lane and its retries may be held for several."""
    ask_again_at: dict[ItemId, datetime] = field(default_factory=dict)
    """Ruled items whose settlement was refused or got no answer: not before when to ask again."""
    ask_alone: set[ItemId] = field(default_factory=set)
    """Items whose settlement failed in company: one number that is not there fails its whole request."""
    owed: dict[ItemId, Owed] = field(default_factory=dict)
    """Outcomes that senders have still to be told."""
    replies_under_way: dict[str, ItemId] = field(default_factory=dict)
    """Of outcomes that are handed over, by the id of their event."""
    reply_lines: dict[str, ReplyLine] = field(default_factory=dict)
    """How sending to each reply queue goes."""
    account_seen: AccountSeen | None = None
    """What ACI itself said last; None: it may not be read."""
    account_fault: str = ""
    """Why it could not be read the last time; empty: it could."""
    look_at_account_at: datetime | None = None
    audited: datetime | None = None
    """The ``as_of`` of the last look that groups without pods were sought in."""
    without_pod: dict[str, datetime] = field(default_factory=dict)
    """Groups whose pod nobody knows, by its uid, and since when that is so."""
    expiry_at: datetime | None = None
    """When the backlog is next searched for what has outlived its time to live."""
    reports: dict[str, Reported] = field(default_factory=dict)
    """Reports that nothing was made of yet, by lock token."""
    reports_emptied_until: datetime | None = None
    """Every report that came to its queue before this has been taken from it. None: nobody has looked."""
    reports_looked_at: datetime | None = None
    sweep_at: datetime | None = None
    sweep_from: dict[str, int] = field(default_factory=dict)
    """Queues that are being swept, and the number to go on from."""

    def sight(self, name: str) -> Sighting:
        """What was seen of that Job; nothing yet, for a new one."""
        return self.sightings.setdefault(name, Sighting())

    def load(self, name: str) -> Load:
        """What that Job still takes, as of the end of the last cycle."""
        if name not in self.loads:
            self.loads[name] = load_of(self.sight(name))
        return self.loads[name]

    def looked_after(self) -> None:
        """The cycle is over: what was dirty is clean, and counted anew. What an accepted write of the ledger lets go on
        stays, and is looked at again with it."""
        for name in self.dirty:
            self.loads.pop(name, None)
        self.dirty = self.dirty & self.draft.entries.keys() if self.draft.changed else set()

    def give_up_record(self, name: str, now: datetime) -> None:
        """Whatever stands, or comes to stand, under that name has no power and is cleared away."""
        self.strays[name] = now if name in self.records else now + CREATE_SETTLES_IN

    def new_draft(self, policy: Policy) -> None:
        """Starts collecting the next ledger write from the last accepted one."""
        self.draft = Draft(self.ledger, policy.budgets, release_hold(policy))


def release_hold(policy: Policy) -> timedelta:
    """How long an address is held after its group has gone."""
    return policy.virtual_node.release_hold if policy.virtual_node else timedelta(0)
