"""What is fired at the burst in each case, and what may come of it.

Decides the faults' numbers. Knows nothing of how a burst is run. Where the connector's SDK tries a request again by
itself (408, 429, 5xx: three times), so many are fired at so few creates that these fail all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.aci.faults import Kind


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. ``how`` is what the stand-in is told of it."""

    name: str
    kind: Kind | None
    how: Mapping[str, Any] = field(default_factory=dict)
    item: Mapping[str, Any] = field(default_factory=dict)
    """Params of every item; it runs for a second unless they say otherwise."""
    is_paid_by_items: bool = False
    """Whether the fault is the template's, so that the items it hits belong into the dead-letter queue."""
    leaks: bool = False
    """Whether groups run on that nobody can see without read access to ACI, so that the bill may pass the charge."""
    first_of_each_job: bool = False
    """Whether it hits pods of index 0 alone: all tries that the SDK makes for them, and nobody else's."""
    connector_dies_for_seconds: float = 0.0
    """For how long the connector is dead. Such a case has the virtual node to itself."""


_FEW = {"times": 6}
_SOME = {"times": 8}
_TRIED_AGAIN = {"times": 24}
"""By the SDK: with four tries a create, six creates fail."""
_LONGER = {"seconds": 5}

CASES: tuple[Case, ...] = (
    Case("no fault", None),
    Case("quota of groups reached", Kind.QUOTA_GROUPS, _SOME),
    Case("quota of cores reached", Kind.QUOTA_CORES, _SOME),
    Case("quota of 0", Kind.QUOTA_OF_NONE, _SOME),
    Case("no capacity, told at once", Kind.NO_CAPACITY, _SOME),
    Case("no capacity, told after the acceptance", Kind.CAPACITY_LOST, _FEW),
    Case("subnet full", Kind.SUBNET_FULL, _SOME),
    Case("image or credential wrong", Kind.INACCESSIBLE_IMAGE, _SOME),
    Case("registry answers badly", Kind.REGISTRY_ERROR, _SOME),
    Case("subnet not linked yet", Kind.LINK_NOT_READY, _SOME),
    Case("another operation under way", Kind.TRANSITIONING, _SOME),
    Case("503, nothing created", Kind.SERVER_TIMEOUT, _TRIED_AGAIN, first_of_each_job=True),
    Case("503 once, accepted all the same", Kind.ACCEPTED_BUT_503, _SOME, _LONGER),
    Case("503, accepted all the same", Kind.ACCEPTED_BUT_503, _TRIED_AGAIN, _LONGER, first_of_each_job=True),
    Case("no right to create", Kind.FORBIDDEN, _SOME),
    Case("no right to the subnet", Kind.MAY_NOT_JOIN, _SOME),
    Case("definition too large", Kind.TOO_LARGE, _FEW, is_paid_by_items=True),
    Case("throttled for 2 s", Kind.THROTTLED, {"times": 12, "seconds": 2}),
    Case("throttled for 90 s", Kind.THROTTLED, {"times": 8, "seconds": 90}),
    Case("internal error at the create", Kind.INTERNAL, _TRIED_AGAIN, first_of_each_job=True),
    Case("accepted, never provisioned", Kind.NEVER_PREPARED, _FEW),
    Case("not provisioned in time, started after that", Kind.NEVER_PREPARED, {"times": 6, "seconds": 3}),
    Case("joining the network takes for ever", Kind.VNET_TROUBLE, {"times": 6, "seconds": 600}),
    Case("image never pulled", Kind.IMAGE_NEVER_PULLED, _FEW),
    Case("start 6 s slower", Kind.SLOW_START, {"times": 12, "seconds": 6}),
    Case("failed program started again", Kind.RESTARTED_AFTER_FAILURE, {}, {"fail_once": True}),
    Case("maintenance (7147)", Kind.MAINTENANCE, {"times": 8, "seconds": 2, "code": 7147}, _LONGER),
    Case("maintenance (7148)", Kind.MAINTENANCE, {"times": 8, "seconds": 2, "code": 7148}, _LONGER),
    Case("group deleted behind everybody's back", Kind.VANISHES, {"times": 6, "seconds": 2}, _LONGER),
    Case("group survives its delete", Kind.SURVIVES_DELETE, {"times": 4}, leaks=True),
    Case("internal error at the delete", Kind.DELETE_INTERNAL, {"times": 9}),
    Case("internal error at a read", Kind.READ_INTERNAL, _TRIED_AGAIN),
    Case("reads throttled", Kind.READ_THROTTLED, {"times": 12, "seconds": 2}),
    Case("connector dead for 15 s", None, item=_LONGER, connector_dies_for_seconds=15),
)
"""Every fault that the stand-in knows at least once."""
