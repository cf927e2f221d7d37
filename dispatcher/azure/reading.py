"""Container groups and quotas as Azure shows them, read into what decisions need.

Decides which groups are of our Jobs' pods, when one began to bill and when it had stopped, and what absence means.
Pure. Knows nothing of requests.

A group bills from the start of the first image pull until all of it has stopped: the first ``Pulling`` event of its
containers, and the last finish time of containers of which none runs or will. Where Azure has kept no such event, the
time at which the pod was made stands for it: never later. A time without a fraction of a second may be up to a second
early; for an end that second counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from dispatcher.core.observations import GroupSeen, Quota
from dispatcher.core.units import UTC, Resources
from dispatcher.errors import LookFailed

__all__ = ["group_listed", "group_read", "quotas"]

Raw = Mapping[str, Any]

_OUR_POD = re.compile(r"burst-[a-z0-9]+-\d+-\d+-[a-z0-9]+")
"""A pod that the Job controller has named after one of our Jobs: Job, index, a random part."""
_ENDED = frozenset({"Succeeded", "Failed", "Stopped"})
_FRACTION = re.compile(r"\.\d+")
_TAGGED_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d[:-]\d\d[:-]\d\d)")
_SECOND = timedelta(seconds=1)


def group_listed(raw: Raw, namespaces: Collection[str]) -> GroupSeen | None:
    """A group from a list, which has no times; None where it is not of a pod of ours.

    The virtual node's connector tags each group with its pod's name, namespace and uid.
    """
    tags = raw.get("tags") or {}
    uid, pod, namespace = (str(tags.get(name, "")) for name in ("UID", "PodName", "Namespace"))
    if not uid or namespace not in namespaces or not _OUR_POD.fullmatch(pod):
        return None
    return GroupSeen(uid, str(raw["name"]), None, None, namespace=namespace, pod=pod, requests=_requests(raw))


def group_read(raw: Raw, listed: GroupSeen, read_at: datetime) -> GroupSeen:
    """The same group with its own times, from an answer that has them."""
    started, stopped = _started(raw), _stopped(raw)
    if stopped is not None and started is None:
        started = _made(raw)
    if stopped is not None and started is None:
        stopped = None  # nobody can tell what it has billed: that it is gone must be waited for
    return GroupSeen(
        listed.pod_uid, listed.name, started, stopped, read_at,
        namespace=listed.namespace, pod=listed.pod, requests=listed.requests,
    )  # fmt: skip


def _views(raw: Raw) -> list[Raw]:
    properties = raw.get("properties") or {}
    containers = [*(properties.get("initContainers") or ()), *(properties.get("containers") or ())]
    return [(each.get("properties") or {}).get("instanceView") or {} for each in containers]


def _started(raw: Raw) -> datetime | None:
    pulls = [
        at
        for view in _views(raw)
        for event in view.get("events") or ()
        if event.get("name") == "Pulling" and (at := _instant(event.get("firstTimestamp"))) is not None
    ]
    return min(pulls, default=None)


def _stopped(raw: Raw) -> datetime | None:
    group = ((raw.get("properties") or {}).get("instanceView") or {}).get("state")
    states = [view.get("currentState") or {} for view in _views(raw)]
    if group not in _ENDED or not states or any(state.get("state") != "Terminated" for state in states):
        return None
    ends = [_end(state.get("finishTime")) for state in states]
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


def _end(text: Any) -> datetime | None:
    at = _instant(text)
    if at is None or _FRACTION.search(str(text)):
        return at
    return at + _SECOND


def _made(raw: Raw) -> datetime | None:
    """When its pod was made, by the connector's tag: ``2026-03-01 12:00:00 +0000 UTC`` in one way or another."""
    found = _TAGGED_TIME.search(str((raw.get("tags") or {}).get("CreationTimestamp", "")))
    return _instant(f"{found[1]}T{found[2].replace('-', ':')}Z") if found else None


def _instant(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at if at.year > 1 else None  # what has no value is shown as the first instant of all


def _requests(raw: Raw) -> Resources:
    cpu = memory = Decimal(0)
    for each in (raw.get("properties") or {}).get("containers") or ():
        requests = ((each.get("properties") or {}).get("resources") or {}).get("requests") or {}
        cpu += _figure(requests.get("cpu"))
        memory += _figure(requests.get("memoryInGB"))
    return Resources(_up(cpu * 1000), _up(memory * 10**9))


def _figure(value: Any) -> Decimal:
    try:
        return Decimal(str(value or 0))
    except InvalidOperation:
        return Decimal(0)


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_CEILING))


def quotas(raw: Iterable[Raw]) -> tuple[Quota, Quota]:
    """The quotas of groups and of cores from the region's usages. Raises LookFailed where one is missing."""
    by_name = {str((each.get("name") or {}).get("value")): each for each in raw}
    return _quota(by_name, ("ContainerGroups",)), _quota(by_name, ("StandardCores", "Cores"))


def _quota(by_name: Mapping[str, Raw], names: Sequence[str]) -> Quota:
    for name in names:
        found = by_name.get(name)
        if found is not None:
            try:
                return Quota(int(found["currentValue"]), int(found["limit"]))
            except (KeyError, TypeError, ValueError):
                break
    raise LookFailed(f"the region's usages do not tell {names[0]}; known are {', '.join(sorted(by_name)) or 'none'}")
