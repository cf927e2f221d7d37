from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.failures import FailureCause
from dispatcher.core.units import Resources
from dispatcher.embedded.processes.config import VirtualNodeConfig
from dispatcher.embedded.processes.pods import group_from_json, group_to_json, rates_from_json, rates_to_json
from dispatcher.embedded.processes.virtual_node import Group, Meter, Refusal

T0 = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ONE_CORE = Resources(1000, 2 * 10**9)


def filled(config: VirtualNodeConfig, count: int, at: datetime = T0) -> Meter:
    meter = Meter()
    for number in range(count):
        meter, group = meter.create(config, f"u{number}", f"g{number}", ONE_CORE, at)
        assert isinstance(group, Group)
    return meter


def refusal(meter: Meter, config: VirtualNodeConfig, at: datetime = T0) -> Refusal:
    _, result = meter.create(config, "one-more", "one-more", ONE_CORE, at)
    assert isinstance(result, Refusal)
    return result


def test_a_subnet_of_prefix_28_has_room_for_eleven_groups() -> None:
    config = VirtualNodeConfig(subnet_prefix=28)
    assert config.addresses == 11
    result = refusal(filled(config, 11), config)
    assert result.cause is FailureCause.SUBNET_FULL
    assert "SubnetIsFull" in result.message
    assert "does not have enough capacity for 1 IP addresses" in result.message


def test_an_address_is_free_again_only_after_the_lag() -> None:
    config = VirtualNodeConfig(subnet_prefix=29, address_release_lag=300 * SECOND)
    meter = filled(config, 3).gone("u0", T0 + SECOND)
    assert refusal(meter, config, T0 + 300 * SECOND).cause is FailureCause.SUBNET_FULL
    _, group = meter.create(config, "n", "n", ONE_CORE, T0 + 301 * SECOND)
    assert isinstance(group, Group)


def test_a_finished_group_that_is_not_deleted_keeps_its_address() -> None:
    config = VirtualNodeConfig(subnet_prefix=29)
    meter = filled(config, 3).stopped("u0", T0 + SECOND)
    assert refusal(meter, config, T0 + timedelta(days=1)).cause is FailureCause.SUBNET_FULL


def test_more_groups_than_the_quota_are_refused_with_its_numbers() -> None:
    config = VirtualNodeConfig(groups_max=2)
    result = refusal(filled(config, 2), config)
    assert result.cause is FailureCause.ACI_QUOTA
    assert 'error code "ContainerGroupQuotaReached"' in result.message
    assert (
        "quota 'ContainerGroups' exceeded in region 'eastus'. Limit: '2', Usage: '2' Requested: '1'." in result.message
    )


def test_more_cores_than_the_quota_are_refused_with_its_numbers() -> None:
    config = VirtualNodeConfig(cpu_millis_max=2500)
    assert "'StandardCores' exceeded in region 'eastus'. Limit: '2.5', Usage: '2' Requested: '1'." in refusal(
        filled(config, 2), config
    ).message  # fmt: skip


def test_creates_are_throttled_in_both_windows_and_refused_ones_are_spent_too() -> None:
    config = VirtualNodeConfig(creates_per_5_min=2, creates_per_hour=3, groups_max=1)
    meter = filled(config, 1)
    meter, full = meter.create(config, "b", "b", ONE_CORE, T0)
    assert isinstance(full, Refusal)
    assert full.cause is FailureCause.ACI_QUOTA
    assert refusal(meter, config, T0 + 299 * SECOND).cause is FailureCause.THROTTLED
    meter, again = meter.create(config, "c", "c", ONE_CORE, T0 + 300 * SECOND)
    assert isinstance(again, Refusal)
    assert again.cause is FailureCause.ACI_QUOTA
    assert refusal(meter, config, T0 + 3599 * SECOND).cause is FailureCause.THROTTLED
    assert meter.counters.creates == 3
    assert meter.counters.refused == 2


def test_a_delete_beyond_the_rate_has_to_wait_until_one_leaves_the_window() -> None:
    config = VirtualNodeConfig(deletes_per_5_min=1)
    meter = Meter()
    assert meter.delete_possible_at(config, T0) == T0
    assert meter.deleting(T0).delete_possible_at(config, T0 + SECOND) == T0 + 300 * SECOND


def test_a_group_is_billed_from_the_image_pull_to_its_stop() -> None:
    config = VirtualNodeConfig(start_delay=10 * SECOND, pull_begins_after=4 * SECOND)
    meter = filled(config, 1)
    assert meter.groups["u0"].seen(T0 + SECOND).started_at is None
    running = meter.groups["u0"].seen(T0 + 5 * SECOND)
    assert (running.started_at, running.stopped_at) == (T0 + 4 * SECOND, None)
    stopped = meter.stopped("u0", T0 + 60 * SECOND).gone("u0", T0 + 90 * SECOND).groups["u0"].seen(T0 + 99 * SECOND)
    assert stopped.stopped_at == T0 + 60 * SECOND


def test_a_group_that_is_gone_before_its_pull_is_never_billed() -> None:
    config = VirtualNodeConfig(start_delay=10 * SECOND, pull_begins_after=4 * SECOND)
    group = filled(config, 1).gone("u0", T0 + 3 * SECOND).groups["u0"]
    assert group.seen(T0 + 99 * SECOND).started_at is None


def test_the_meter_can_be_read_for_an_hour_after_the_group_is_gone() -> None:
    config = VirtualNodeConfig()
    meter = filled(config, 1).gone("u0", T0)
    assert "u0" in meter.forgetting(config, T0 + 3599 * SECOND).groups
    assert "u0" not in meter.forgetting(config, T0 + 3600 * SECOND).groups


acts = st.lists(st.tuples(st.sampled_from(["create", "stop", "gone"]), st.integers(0, 400)), max_size=80)


@given(acts=acts)
def test_addresses_quota_and_rates_are_never_exceeded(acts: list[tuple[str, int]]) -> None:
    config = VirtualNodeConfig(
        subnet_prefix=29, groups_max=2, creates_per_5_min=4, creates_per_hour=9, address_release_lag=100 * SECOND
    )
    meter, now, made = Meter(), T0, []
    accepted: list[datetime] = []
    for number, (act, seconds) in enumerate(acts):
        now += seconds * SECOND
        if act == "create":
            meter, result = meter.create(config, f"u{number}", f"g{number}", ONE_CORE, now)
            if isinstance(result, Group):
                made.append(f"u{number}")
                accepted.append(now)
        elif made:
            meter = meter.stopped(made[0], now) if act == "stop" else meter.gone(made.pop(0), now)
        assert meter.addresses_taken(config, now) <= 3
        assert sum(group.gone_at is None for group in meter.groups.values()) <= 2
        assert sum(at > now - 300 * SECOND for at in accepted) <= 4
        assert sum(at > now - 3600 * SECOND for at in accepted) <= 9
    groups = {uid: group_from_json(uid, group_to_json(group)) for uid, group in meter.groups.items()}
    assert rates_from_json(rates_to_json(meter), groups) == meter
