"""A group's life in the stand-in for ACI: its states, its restarts, and what is metered of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from aci_kit import at, container, create, fault, region

from testbed.aci.groups import Phase, Start, State, Stop


def test_a_group_is_pending_then_creating_then_running_then_succeeded() -> None:
    world = region()
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="5"))
    seen = []
    for second in (0, 1, 2, 6.9, 7):
        world.advance(at(second))
        seen.append((group.provisioning_state, group.state))
    assert seen == [
        ("Pending", "Pending"),
        ("Creating", "Pending"),
        ("Succeeded", "Running"),
        ("Succeeded", "Running"),
        ("Succeeded", "Succeeded"),
    ]


def test_metering_runs_from_the_start_of_the_pull_to_the_stop_of_the_last_container() -> None:
    world = region()
    two = [container("a", STANDIN_RUN_SECONDS="2"), container("b", STANDIN_RUN_SECONDS="7.5")]
    group = create(world, "one", 0, *two)
    world.advance(at(1000))
    (span,) = group.spans
    assert (span.start, span.stop) == (at(1), at(9.5))
    assert group.seconds(at(1000)) == 9  # every begun second


def test_the_bill_is_seconds_times_requests_times_prices_and_exact() -> None:
    world = region(usd_per_vcpu_second="0.000012", usd_per_gb_second="0.0000013")
    create(world, "one", 0, container(cpu=0.5, memory=2.1, STANDIN_RUN_SECONDS="9"))
    bill = world.bill(at(0))
    assert Decimal(bill["usd"]) == 0
    world.advance(at(500))
    bill = world.bill(at(500))
    expected = 10 * (Decimal("0.5") * Decimal("0.000012") + Decimal("2.1") * Decimal("0.0000013"))
    assert Decimal(bill["usd"]) == expected
    assert [line["seconds"] for line in bill["groups"]] == [10]


def test_the_bill_of_a_group_that_runs_grows_by_the_second() -> None:
    world = region()
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="never"))
    billed = []
    for second in (0, 1, 1.5, 2, 60, 3601):
        world.advance(at(second))
        billed.append(group.seconds(at(second)))
    assert billed == [0, 0, 1, 1, 59, 3600]


def test_a_deleted_group_is_billed_until_its_containers_stop_and_is_gone_later() -> None:
    world = region()
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="never"))
    world.delete(at(10), "one")
    world.advance(at(12))
    assert (group.seconds(at(12)), group.provisioning_state, "one" in world.groups) == (10, "Deleting", True)
    world.advance(at(13))
    assert "one" not in world.groups
    assert world.bill(at(99))["groups"][0]["seconds"] == 10


def test_a_group_that_is_deleted_before_its_pull_costs_nothing() -> None:
    world = region(prepare_seconds=60)
    create(world, "one", 0)
    world.delete(at(5), "one")
    world.advance(at(100))
    assert Decimal(world.bill(at(100))["usd"]) == 0


def test_an_exit_other_than_0_fails_the_group_and_is_told() -> None:
    world = region()
    group = create(world, "one", 0, container(STANDIN_EXIT_CODE="42"))
    world.advance(at(10))
    assert group.state == "Failed"
    assert group.containers[0].last is not None
    assert group.containers[0].last.exit_code == 42


def test_what_a_container_is_told_for_its_index_holds_for_that_index_alone() -> None:
    world = region()
    told = {"STANDIN_EXIT_CODE": "1", "STANDIN_EXIT_CODE_3": "0"}
    third = create(world, "three", 0, container(JOB_COMPLETION_INDEX="3", **told))
    fourth = create(world, "four", 0, container(JOB_COMPLETION_INDEX="4", **told))
    world.advance(at(10))
    assert (third.state, fourth.state) == ("Succeeded", "Failed")


@pytest.mark.parametrize(("policy", "starts"), [("Never", 1), ("OnFailure", 3), ("Always", 3)])
def test_a_failed_container_is_started_again_as_the_restart_policy_has_it(policy: str, starts: int) -> None:
    world = region()
    does = container(STANDIN_RUN_SECONDS="1", STANDIN_EXIT_CODE="1", STANDIN_FAIL_TIMES="2")
    group = create(world, "one", 0, does, policy=policy)
    world.advance(at(7.5))  # runs begin at 2, 4 and 6
    assert group.containers[0].starts == starts


def test_a_restart_is_paid_as_one_span() -> None:
    world = region()
    does = container(STANDIN_RUN_SECONDS="1", STANDIN_EXIT_CODE="1", STANDIN_FAIL_TIMES="2")
    group = create(world, "one", 0, does, policy="OnFailure")
    world.advance(at(100))
    assert (group.state, group.seconds(at(100)), len(group.spans)) == ("Succeeded", 6, 1)


def test_the_platform_may_start_a_failed_container_again_in_spite_of_never() -> None:
    world = region()
    fault(world, "restarted_after_failure")
    does = container(STANDIN_RUN_SECONDS="1", STANDIN_EXIT_CODE="1", STANDIN_FAIL_TIMES="1")
    group = create(world, "one", 0, does)
    world.advance(at(100))
    assert (group.containers[0].starts, group.state) == (2, "Succeeded")


@pytest.mark.parametrize("code", [7147, 7148])
def test_maintenance_stops_and_starts_the_containers_with_its_own_code(code: int) -> None:
    world = region()
    fault(world, "maintenance", seconds=5, code=code)
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="10"))
    world.advance(at(7))
    (shown,) = group.containers
    assert shown.last is not None
    assert (shown.state, shown.last.exit_code) == (State.WAITING, code)
    assert any(event.name == "Killing" for event in shown.events)
    world.advance(at(100))  # again from the start: 8 to 18
    assert (group.state, group.seconds(at(100)), shown.starts) == ("Succeeded", 17, 2)


def test_init_containers_run_one_after_another_and_before_the_others() -> None:
    world = region()
    init = [
        {"name": "first", "properties": container("first", STANDIN_RUN_SECONDS="3")["properties"]},
        {"name": "then", "properties": container("then", STANDIN_RUN_SECONDS="2")["properties"]},
    ]
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="1"), initContainers=init)
    world.advance(at(100))
    assert [each.last and (each.last.started, each.last.finished) for each in group.containers] == [
        (at(2), at(5)),
        (at(5), at(7)),
        (at(7), at(8)),
    ]


def test_a_failed_init_container_ends_the_group() -> None:
    world = region()
    init = [{"name": "first", "properties": container("first", STANDIN_EXIT_CODE="2")["properties"]}]
    group = create(world, "one", 0, container(), initContainers=init)
    world.advance(at(100))
    assert group.phase is Phase.ENDED
    assert group.containers[1].starts == 0


def test_a_large_image_takes_long_and_is_paid() -> None:
    world = region(images_mb={"example.azurecr.io/": 170})
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="1"))
    world.advance(at(100))
    assert group.seconds(at(100)) == 11


@pytest.mark.parametrize(
    ("kind", "how", "event", "billed"),
    [
        ("capacity_lost", {}, "InsufficientCapacity.", 0),
        ("never_prepared", {}, "ProvisioningTimeout", 0),
        ("image_never_pulled", {}, "ProvisioningTimeout", 59),
    ],
)
def test_provisioning_fails(kind: str, how: dict[str, float], event: str, billed: int) -> None:
    world = region(provisioning_timeout_seconds=60)
    fault(world, kind, **how)
    group = create(world, "one", 0)
    world.advance(at(1000))
    assert (group.provisioning_state, group.state) == ("Failed", "Failed")
    assert [each.name for each in group.events] == [event]
    assert group.seconds(at(1000)) == billed


def test_a_group_whose_provisioning_failed_may_start_all_the_same() -> None:
    world = region(provisioning_timeout_seconds=60)
    fault(world, "never_prepared", seconds=30)
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="5"))
    world.advance(at(61))
    assert group.provisioning_state == "Failed"
    world.advance(at(1000))
    assert (group.state, group.seconds(at(1000))) == ("Succeeded", 6)


def test_trouble_with_the_network_is_repairing_and_told() -> None:
    world = region()
    fault(world, "vnet_trouble", seconds=20)
    group = create(world, "one", 0)
    assert group.provisioning_state == "Repairing"
    assert [each.name for each in group.events] == ["PrepareNetwork", "ErrorJoinVirtualNetwork"]
    world.advance(at(100))
    assert group.state == "Succeeded"


def test_code_that_is_run_by_someone_else_ends_when_they_say_so() -> None:
    world = region(executes=True)
    group = create(world, "one", 0, container(STANDIN_RUN_SECONDS="1"))
    acts = world.advance(at(2))
    (start,) = acts
    assert isinstance(start, Start)
    world.advance(at(50))
    assert group.state == "Running"
    world.exited(at(60), group, start.container, start.run, 3)
    assert (group.state, group.seconds(at(100))) == ("Failed", 59)


def test_the_end_of_an_older_run_means_nothing() -> None:
    world = region(executes=True)
    group = create(world, "one", 0)
    (start,) = world.advance(at(2))
    assert isinstance(start, Start)
    acts = group.maintain(at(5), 7147)
    assert acts == [Stop(group)]
    world.exited(at(5.1), group, start.container, start.run, 137)
    (again,) = world.advance(at(10))
    assert isinstance(again, Start)
    world.exited(at(11), group, start.container, start.run, 137)
    assert group.state == "Running"
    world.exited(at(12), group, again.container, again.run, 0)
    assert group.state == "Succeeded"


def test_code_that_ends_early_when_it_is_told_to_stop_is_paid_until_then() -> None:
    world = region(stop_seconds=30, delete_seconds=40, executes=True)
    group = create(world, "one", 0)
    (start,) = world.advance(at(2))
    assert isinstance(start, Start)
    _, acts = world.delete(at(10), "one")
    assert acts == [Stop(group, at_once=False)]
    world.exited(at(12), group, start.container, start.run, 0)
    world.advance(at(100))
    assert group.seconds(at(100)) == 11
