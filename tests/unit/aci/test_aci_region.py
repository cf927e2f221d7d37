"""What the stand-in for ACI grants and refuses: rates, quotas, room, addresses, faults."""

from __future__ import annotations

from decimal import Decimal

import pytest
from aci_kit import at, body, container, create, fault, refused, region
from hypothesis import given
from hypothesis import strategies as st

from testbed.aci import definitions
from testbed.aci.faults import Kind
from testbed.aci.options import Options, changed
from testbed.aci.region import REFUSE, Region
from testbed.aci.wording import Refusal


def test_the_quota_of_groups_counts_those_that_have_ended_until_they_are_deleted() -> None:
    world = region(groups_max=2)
    create(world, "one", 0)
    create(world, "two", 0)
    answer = refused(world, "three", 100)
    assert (answer.status, answer.code) == (409, "ContainerGroupQuotaReached")
    assert answer.message == (
        "Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota 'ContainerGroups' exceeded "
        "in region 'eastus'. Limit: '2', Usage: '2' Requested: '1'."
    )
    world.delete(at(100), "one")
    create(world, "three", 103)


def test_the_quota_of_cores_is_told_with_its_numbers() -> None:
    world = region(cores_max=10)
    for number in range(6):
        create(world, f"g{number}", 0, container(cpu=1.5))
    answer = refused(world, "more", 0, container(cpu=1.5))
    assert "'StandardCores' exceeded in region 'eastus'. Limit: '10', Usage: '9' Requested: '1.5'." in answer.message


def test_a_region_without_room_says_so_with_the_size() -> None:
    world = region(capacity_cores=2)
    create(world, "one", 0, container(cpu=1.5))
    answer = refused(world, "two", 0, container(cpu=1, memory=2.5))
    assert (answer.status, answer.code) == (409, "ServiceUnavailable")
    assert "is not available in the location 'eastus' at this moment." in answer.message
    assert answer.message.endswith("Resource requested: '1' CPU '2.5' GB memory 'Linux' OS")


def test_a_slash_27_has_27_addresses_and_gives_them_back_late() -> None:
    world = region(subnet="10.240.0.0/27", release_seconds=60)
    for number in range(27):
        create(world, f"g{number}", 0)
    assert len({group.address for group in world.groups.values()}) == 27
    answer = refused(world, "more", 10)
    assert (answer.status, answer.code) == (400, "SubnetIsFull")
    assert answer.message.endswith("does not have enough capacity for 1 IP addresses.")
    world.delete(at(20), "g5")
    assert refused(world, "more", 23.5).code == "SubnetIsFull"  # the group is gone, its address is not free
    assert world.addresses() == 27
    assert refused(world, "more", 82.9).code == "SubnetIsFull"
    create(world, "more", 83.1)
    assert world.peaks.addresses == 27


def test_creates_beyond_100_in_5_minutes_are_refused_and_told_how_long_to_wait() -> None:
    world = region(groups_max=1000, cores_max=1000)
    for number in range(100):
        create(world, f"g{number}", number)
    answer = refused(world, "more", 120)
    assert (answer.status, answer.code, answer.retry_after_seconds) == (429, "ResourceRequestsThrottled", 180)
    assert "exceeded the limit of '100' for time interval '00:05:00'" in answer.message
    refused(world, "more", 299.9)
    create(world, "more", 300)  # the oldest has left the window; a refused one was never counted


def test_creates_beyond_300_in_an_hour_are_refused() -> None:
    world = region(groups_max=1000, cores_max=1000, subnet="10.240.0.0/22")
    for number in range(300):
        create(world, f"g{number}", number * 5)
    answer = refused(world, "more", 1800)
    assert "limit of '300' for time interval '01:00:00'" in answer.message
    assert answer.retry_after_seconds == 1800
    create(world, "more", 3600)


def test_a_create_that_is_refused_for_a_quota_spends_the_rate_all_the_same() -> None:
    world = region(groups_max=0, creates_per_5_minutes=3)
    assert [refused(world, f"g{number}", number).code for number in range(4)] == [
        *["ContainerGroupQuotaReached"] * 3,
        "ResourceRequestsThrottled",
    ]


def test_scaled_windows_are_shorter_and_nothing_else_is() -> None:
    world = region(creates_per_5_minutes=1, rate_scale=10)
    create(world, "one", 0, container(STANDIN_RUN_SECONDS="100"))
    refused(world, "two", 29)
    create(world, "two", 30, container(STANDIN_RUN_SECONDS="100"))
    world.advance(at(500))
    assert [line["seconds"] for line in world.bill(at(500))["groups"]] == [101, 101]


def test_deletes_have_a_rate_of_their_own_and_those_that_start_nothing_are_free() -> None:
    world = region(deletes_per_5_minutes=1)
    create(world, "one", 0)
    create(world, "two", 0)
    assert world.delete(at(1), "nothing")[0] is None
    world.delete(at(2), "one")
    world.delete(at(2.5), "one")
    with pytest.raises(Refusal, match="containerGroups/delete"):
        world.delete(at(3), "two")
    assert "two" in world.groups


def test_the_arm_rate_refuses_only_where_it_is_asked_for() -> None:
    fast, limited = region(), region(arm_limits=True)
    for _ in range(250):
        fast.read(at(0))
        limited.read(at(0))
    fast.read(at(0))
    with pytest.raises(Refusal, match="ResourceRequestsThrottled"):
        limited.read(at(0))
    limited.read(at(1))


@pytest.mark.parametrize("kind", [kind for kind in REFUSE if kind is not Kind.ACCEPTED_BUT_503])
def test_a_fault_refuses_as_often_as_it_is_told_to_and_creates_nothing(kind: Kind) -> None:
    world = region()
    fault(world, kind.value, times=1, after=1, match="^g")
    create(world, "other", 0)
    create(world, "g1", 0)
    assert refused(world, "g2", 0).code
    create(world, "g3", 0)
    assert set(world.groups) == {"other", "g1", "g3"}


def test_an_accepted_create_that_is_answered_with_503_runs_and_is_billed() -> None:
    world = region()
    fault(world, "accepted_but_503", times=1)
    assert refused(world, "one", 0).status == 503
    world.advance(at(1.5))
    assert refused(world, "one", 1.5).code == "ContainerGroupTransitioning"
    world.advance(at(100))
    assert world.bill(at(100))["groups"][0]["seconds"] == 1


def test_a_group_is_created_again_only_as_it_is() -> None:
    world = region()
    create(world, "one", 0, container(STANDIN_RUN_SECONDS="never"))
    world.advance(at(5))
    _, is_new, _ = world.create(at(5), "burst", definitions.read("one", body(container(STANDIN_RUN_SECONDS="never"))))
    assert not is_new
    assert refused(world, "one", 5, container(cpu=2)).code == "InvalidContainerGroupUpdate"
    world.delete(at(6), "one")
    assert refused(world, "one", 6.5).code == "ContainerGroupTransitioning"


def test_a_group_survives_its_delete_and_is_billed_until_the_next() -> None:
    world = region()
    fault(world, "survives_delete", times=1)
    create(world, "one", 0, container(STANDIN_RUN_SECONDS="never"))
    world.delete(at(10), "one")
    world.advance(at(100))
    (line,) = world.bill(at(100))["groups"]
    assert (line["seconds"], line["metered"], line["survived_delete"]) == (99, True, True)
    world.delete(at(100), "one")
    world.advance(at(200))
    assert (world.bill(at(200))["groups"][0]["seconds"], world.groups) == (100, {})


def test_a_group_can_vanish_while_it_runs() -> None:
    world = region()
    fault(world, "vanishes", seconds=5)
    create(world, "one", 0, container(STANDIN_RUN_SECONDS="never"))
    world.advance(at(7))
    assert world.groups == {}
    assert world.bill(at(99))["groups"][0]["seconds"] == 6


def test_usage_is_told_as_azure_tells_it() -> None:
    world = region()
    create(world, "one", 0, container(cpu=0.5))
    assert world.usages() == [
        ("ContainerGroups", "Container Groups", 1, 100),
        ("StandardCores", "Standard Cores", 1, 100),
    ]


# --- definitions and options ------------------------------------------------------------------------------------------


def taken(*containers: dict[str, object], **properties: object) -> definitions.Definition:
    return definitions.read("one", body(*containers, **properties))  # type: ignore[arg-type]


def test_a_limit_above_the_requests_of_the_whole_group_is_refused_in_azures_words() -> None:
    greedy = container(cpu=1, memory=2)
    greedy["properties"]["resources"]["limits"] = {"cpu": 2, "memoryInGB": 2}
    with pytest.raises(Refusal, match="ContainerLimitGreaterThanContainerGroupTotalRequest") as caught:
        taken(greedy)
    text = "The 'Cpu' limit '2' in container 'worker' is greater than the total request '1' of container group 'one'."
    assert caught.value.message == text
    assert taken(greedy, container("other")).cpu == 2  # the total is the group's


def test_requests_are_billed_in_whole_steps() -> None:
    definition = taken(container(cpu=0.257, memory=1.59), container("other", cpu=1, memory=0.1))
    assert (definition.cpu, definition.memory_gb) == (Decimal("1.25"), Decimal("1.6"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"osType": "Windows"}, "OsVersionNotSupported"),
        ({"restartPolicy": "Sometimes"}, "restart policy"),
        ({"volumes": [{"name": "data", "emptyDir": {}}]}, "InvalidVolumeName"),
        ({"volumes": [{"name": "items", "secret": {"../up": ""}}]}, "InvalidSecretVolume"),
        ({"volumes": [{"name": "items", "secret": {"a": "%%"}}]}, "not base64"),
        ({"volumes": [{"name": f"volume-{number}", "emptyDir": {}} for number in range(21)]}, "20 are allowed"),
        ({"containers": []}, "1 to 60 containers"),
        ({"containers": [container(), container()]}, "DuplicateContainerName"),
        ({"containers": [container("Upper")]}, "InvalidContainerName"),
        ({"containers": [container(cpu=0)]}, "requests no cpu"),
        ({"containers": [container(**{"_X": "1"})]}, "InvalidEnvironmentVariable"),
        ({"containers": {}}, "not an array"),
        ({"containers": [container() | {"properties": None}]}, "properties of container worker is not an object"),
        ({"containers": [{"name": "a", "properties": {"image": "x", "environmentVariables": ["A"]}}]}, "not an object"),
        ({"containers": [{"name": "a", "properties": {"image": "x", "resources": {"requests": 1}}}]}, "not an object"),
    ],
)
def test_what_aci_cannot_take_is_refused_with_what_is_wrong(change: dict[str, object], said: str) -> None:
    with pytest.raises(Refusal) as caught:
        definitions.read("one", body() | {"properties": body()["properties"] | change})
    assert said in f"{caught.value.code} {caught.value.message}"
    assert caught.value.status == 400


def test_a_mount_of_a_volume_that_is_not_there_is_refused() -> None:
    mounts = container()
    mounts["properties"]["volumeMounts"] = [{"name": "items", "mountPath": "/items"}]
    with pytest.raises(Refusal, match="InvalidVolumeMount"):
        taken(mounts)
    assert taken(mounts, volumes=[{"name": "items", "secret": {"a": "aGk="}}]).volumes[0].files == {"a": b"hi"}


@pytest.mark.parametrize("name", ["", "-one", "one-", "on--e", "a" * 64, "dot.ted", "Upper"])
def test_a_name_that_azure_cannot_take_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="InvalidContainerGroupName"):
        definitions.read(name, body())


def test_a_private_registry_wants_a_username_and_a_password_with_the_create() -> None:
    world = region(private_registries=("example.azurecr.io",))
    assert refused(world, "one", 0).code == "InaccessibleImage"
    login = {"server": "example.azurecr.io", "username": "puller"}
    assert refused(world, "one", 0, imageRegistryCredentials=[login]).code == "InaccessibleImage"
    assert create(world, "one", 0, imageRegistryCredentials=[login | {"password": "secret"}]).name == "one"


def test_a_value_for_a_container_that_is_none_is_refused_at_the_create() -> None:
    assert "STANDIN_RUN_SECONDS: 'soon'" in refused(region(), "one", 0, container(STANDIN_RUN_SECONDS="soon")).message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speed": 1}, "speed: no such option"),
        ({"groups_max": "many"}, "groups_max: 'many' is not like 100"),
        ({"groups_max": -1}, "groups_max: -1 is negative"),
        ({"subnet": "10.0.0.0/30"}, "no address"),
        ({"usd_per_vcpu_second": "cheap"}, "no decimal"),
        ({"stop_seconds": 9, "delete_seconds": 1}, "delete_seconds"),
        ({"arm_limits": 1}, "arm_limits: 1 is not like False"),
    ],
)
def test_a_wrong_option_is_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        changed(Options(), changes)


# --- laws -------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "delete", "wait"]),
        st.integers(0, 7),
        st.floats(0, 40, allow_nan=False),
        st.sampled_from(["0", "3.3", "never"]),
        st.sampled_from(["0", "1"]),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([None, *Kind]))
def test_nothing_is_ever_exceeded_and_the_bill_is_the_sum_of_what_ran(
    acts: list[tuple[str, int, float, str, str]], kind: Kind | None
) -> None:
    world = region(groups_max=5, cores_max=6, subnet="10.240.0.0/29", creates_per_5_minutes=8, deletes_per_5_minutes=6)
    if kind:
        fault(world, kind.value, times=3, seconds=2)
    now = 0.0
    for what, number, after, runs, code in acts:
        now += after
        try:
            if what == "create":
                create(world, f"g{number}", now, container(STANDIN_RUN_SECONDS=runs, STANDIN_EXIT_CODE=code))
            elif what == "delete":
                world.delete(at(now), f"g{number}")
            else:
                world.advance(at(now))
        except Refusal:
            pass
        held = [group.address for group in world.groups.values()] + list(world.held)
        assert len(held) == len(set(held)) <= 3
        assert len(world.groups) <= 5
        assert world.cores() <= 6
        assert world.creates[0].used(at(now)) <= 8
        assert world.deletes[0].used(at(now)) <= 6
    every = [*world.gone, *world.groups.values()]
    world.advance(at(now))
    bill = world.bill(at(now))
    rate = Decimal("0.000012") + 2 * Decimal("0.0000013")
    assert Decimal(bill["usd"]) == rate * sum(group.seconds(at(now)) for group in every)
    for group in every:
        assert all(
            one.stop is not None and one.stop <= two.start
            for one, two in zip(group.spans, group.spans[1:], strict=False)
        )
        for container_of in group.containers:
            for run in (container_of.last, container_of.previous):
                assert run is None or any(
                    span.start <= run.started and (span.stop is None or run.finished <= span.stop)
                    for span in group.spans
                )


@given(steps)
def test_looking_often_changes_nothing(acts: list[tuple[str, int, float, str, str]]) -> None:
    """What happened does not depend on when anybody looked."""
    rare, often = region(), region()
    now = 0.0
    for what, number, after, runs, code in acts:
        for step in range(1, 5):
            often.advance(at(now + after * step / 5))
        now += after
        for world in (rare, often):
            try:
                if what == "create":
                    create(world, f"g{number}", now, container(STANDIN_RUN_SECONDS=runs, STANDIN_EXIT_CODE=code))
                elif what == "delete":
                    world.delete(at(now), f"g{number}")
            except Refusal:
                pass
    for world in (rare, often):
        world.advance(at(now + 50))
    assert told_of(rare, now + 50) == told_of(often, now + 50)


def told_of(world: Region, seconds: float) -> tuple[object, ...]:
    return world.bill(at(seconds)), world.statistics(at(seconds))
