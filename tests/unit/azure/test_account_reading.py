"""Groups and quotas as Azure shows them: whose they are, when they began to bill and had stopped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dispatcher.azure.reading import group_listed, group_read, quotas
from dispatcher.core.observations import GroupSeen, Quota
from dispatcher.core.units import Resources
from dispatcher.errors import LookFailed

TAGS = {
    "PodName": "burst-s7ids6ut34-1-0-x7k2p",
    "Namespace": "work",
    "UID": "uid-1",
    "NodeName": "virtual-node-aci-linux",
    "CreationTimestamp": "2026-03-01 12:00:00 +0000 UTC",
}
READ_AT = datetime(2026, 3, 1, 13, tzinfo=UTC)


def at(second: float) -> datetime:
    whole = int(second)
    return datetime(2026, 3, 1, 12, 0, whole, round((second - whole) * 1e6), tzinfo=UTC)


def a_container(
    current: dict[str, Any] | None = None, events: list[dict[str, Any]] | None = None, *, cpu: float = 0.5
) -> dict[str, Any]:
    view = {"currentState": current or {"state": "Running"}, "events": events or [], "restartCount": 0}
    resources = {"requests": {"cpu": cpu, "memoryInGB": 1.1}}
    return {"name": "worker", "properties": {"resources": resources, "instanceView": view}}


def a_group(*containers: dict[str, Any], state: str = "Running", tags: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "name": "work-burst-s7ids6ut34-1-0-x7k2p",
        "tags": TAGS if tags is None else tags,
        "properties": {"containers": list(containers) or [a_container()], "instanceView": {"state": state}},
    }


def pulling(time: str) -> dict[str, Any]:
    return {"name": "Pulling", "firstTimestamp": time, "lastTimestamp": "2026-03-01T12:00:09Z"}


def ended(time: str) -> dict[str, Any]:
    return {"state": "Terminated", "startTime": "2026-03-01T12:00:03Z", "finishTime": time, "exitCode": 0}


def read(raw: dict[str, Any]) -> GroupSeen:
    listed = group_listed(raw, {"work"})
    assert listed is not None
    return group_read(raw, listed, READ_AT)


def test_a_group_is_found_by_the_tags_of_its_pod() -> None:
    listed = group_listed(a_group(), {"work"})
    assert listed is not None
    assert (listed.pod_uid, listed.namespace, listed.job) == ("uid-1", "work", "burst-s7ids6ut34-1")
    assert listed.requests == Resources(500, 1_100_000_000)
    assert (listed.started_at, listed.stopped_at, listed.read_at) == (None, None, None)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {**TAGS, "Namespace": "others"},
        {**TAGS, "PodName": "web-6d4f-x7k2p"},
        {**TAGS, "PodName": "burst-or-not"},
        {**TAGS, "UID": ""},
    ],
    ids=["untagged", "another namespace", "another's pod", "a name like ours", "no uid"],
)
def test_groups_of_others_are_none_of_ours(tags: dict[str, str]) -> None:
    assert group_listed(a_group(tags=tags), {"work"}) is None


def test_a_group_bills_from_its_first_pull_until_its_last_container_has_finished() -> None:
    first = a_container(ended("2026-03-01T12:00:20.250000Z"), [pulling("2026-03-01T12:00:02.500000Z")])
    second = a_container(ended("2026-03-01T12:00:30.750000Z"), [pulling("2026-03-01T12:00:01.125000Z")])
    seen = read(a_group(first, second, state="Succeeded"))
    assert (seen.started_at, seen.stopped_at, seen.read_at) == (at(1.125), at(30.75), READ_AT)


def test_an_end_without_a_fraction_counts_to_the_end_of_its_second() -> None:
    raw = a_group(a_container(ended("2026-03-01T12:00:20Z"), [pulling("2026-03-01T12:00:02Z")]), state="Failed")
    assert (read(raw).started_at, read(raw).stopped_at) == (at(2), at(21))


@pytest.mark.parametrize(
    "raw",
    [
        a_group(a_container(ended("2026-03-01T12:00:20Z")), a_container(), state="Failed"),
        a_group(a_container(ended("2026-03-01T12:00:20Z")), state="Running"),
        a_group(a_container({"state": "Waiting", "detailStatus": "CrashLoopBackOff"}), state="Failed"),
        a_group(a_container({"state": "Terminated"}), state="Failed"),
        a_group(a_container(ended("0001-01-01T00:00:00Z")), state="Failed"),
    ],
    ids=["one runs on", "the group runs", "waits for its restart", "no time", "Azure's word for no time"],
)
def test_a_group_that_may_bill_on_has_not_stopped(raw: dict[str, Any]) -> None:
    assert read(raw).stopped_at is None


def test_where_azure_kept_no_pull_the_making_of_the_pod_stands_for_it() -> None:
    raw = a_group(a_container(ended("2026-03-01T12:00:20.5Z")), state="Succeeded")
    assert (read(raw).started_at, read(raw).stopped_at) == (at(0), at(20.5))


def test_without_any_beginning_nothing_is_claimed_of_its_bill() -> None:
    tags = {key: value for key, value in TAGS.items() if key != "CreationTimestamp"}
    raw = a_group(a_container(ended("2026-03-01T12:00:20.5Z")), state="Succeeded", tags=tags)
    assert (read(raw).started_at, read(raw).stopped_at) == (None, None)


def usage(name: str, current: Any, limit: Any) -> dict[str, Any]:
    return {"name": {"value": name}, "currentValue": current, "limit": limit, "unit": "Count"}


def test_quotas_are_those_of_groups_and_of_cores() -> None:
    raw = [usage("SpotCores", 0, 10), usage("StandardCores", 7, 100), usage("ContainerGroups", 12, 200)]
    assert quotas(raw) == (Quota(12, 200), Quota(7, 100))


@pytest.mark.parametrize("raw", [[], [usage("ContainerGroups", 1, 2)], [usage("ContainerGroups", None, 2)]])
def test_usages_that_tell_no_quota_are_a_look_that_failed(raw: list[dict[str, Any]]) -> None:
    with pytest.raises(LookFailed, match="do not tell"):
        quotas(raw)
