"""Why a pod failed, as a value.

Decides the vocabulary of causes. How a provider words them is known at the edges alone.
"""

from __future__ import annotations

from enum import StrEnum


class FailureCause(StrEnum):
    """Why a try of an item ended without success. Also a metric label, so the values stay few."""

    APPLICATION = "application"
    """The program ran and failed."""
    ITEM_TIMEOUT = "item_timeout"
    """The program ran longer than the task's item_timeout."""
    IMAGE = "image"
    TEMPLATE = "template"
    """What the task asks for can never run as written: a command that does not exist, a refused pod."""
    ACI_QUOTA = "aci_quota"
    ACI_CAPACITY = "aci_capacity"
    SUBNET_FULL = "subnet_full"
    THROTTLED = "throttled"
    START_DEADLINE = "start_deadline"
    EVICTED = "evicted"
    NODE_LOST = "node_lost"
    CANCELLED = "cancelled"
    UNREPORTED = "unreported"
    """Its pod ended well and has not said how this item ended: of pods that carry several items alone."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """It never ran: its budget is spent, and operators want such work rejected."""
    EXPIRED = "expired"
    """It never ran: its message's time to live ended while it was held."""
    UNKNOWN = "unknown"
