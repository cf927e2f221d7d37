"""What the virtual node still has room for."""

from datetime import datetime

import pytest

from dispatcher.core.addresses import AddressBook, deletes_left, group_cpu_millis
from dispatcher.core.ledger import Ledger, Tokens
from dispatcher.core.policy import VirtualNodePolicy
from dispatcher.core.units import Resources
from dispatcher.core.verdicts import HoldReason
from dispatcher.core.work import Placement
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_draft, a_ledger, a_shape, an_entry

ONE_CORE = Resources(1000, 10**9)
AMPLE = VirtualNodePolicy(
    subnet_prefix=20, groups_max=1000, cores_max=1000, creates_per_5min=1000, creates_per_hour=1000
)


def policy(**changes: object) -> VirtualNodePolicy:
    """Room for a thousand of everything, but for what the test says."""
    fields = {name: getattr(AMPLE, name) for name in AMPLE.__dataclass_fields__}
    return VirtualNodePolicy(**{**fields, **changes})


def test_a_slash_24_has_251_addresses_less_the_headroom() -> None:
    assert VirtualNodePolicy(subnet_prefix=24).addresses_max == 251
    assert VirtualNodePolicy(subnet_prefix=28, address_headroom=3).addresses_max == 8
    assert VirtualNodePolicy(subnet_prefix=29, address_headroom=3).addresses_max == 0
    assert VirtualNodePolicy(subnet_prefix=29, address_headroom=9).addresses_max == 0


@pytest.mark.parametrize(
    ("changes", "count", "reason"),
    [
        ({"subnet_prefix": 28}, 11, HoldReason.SUBNET_ADDRESSES),
        ({"groups_max": 12}, 12, HoldReason.ACI_GROUP_QUOTA),
        ({"cores_max": 13}, 13, HoldReason.ACI_CORE_QUOTA),
        ({"creates_per_5min": 14}, 14, HoldReason.ACI_CREATE_RATE),
        ({"creates_per_hour": 15}, 15, HoldReason.ACI_CREATE_RATE),
    ],
)
def test_the_scarcest_thing_bounds_the_groups_and_is_named(
    changes: dict[str, object], count: int, reason: HoldReason
) -> None:
    assert AddressBook(Ledger(), policy(**changes), NOW).fit(ONE_CORE) == (count, reason)


def test_what_is_taken_is_gone_for_the_rest_of_the_plan() -> None:
    book = AddressBook(Ledger(), policy(cores_max=10), NOW)
    book.take(Resources(2000, 10**9), 3)
    assert book.fit(Resources(2000, 10**9)) == (2, HoldReason.ACI_CORE_QUOTA)
    book.take(Resources(2000, 10**9), 2)
    assert book.fit(ONE_CORE) == (0, HoldReason.ACI_CORE_QUOTA)


def test_groups_that_may_still_come_take_addresses_groups_cores_and_creates() -> None:
    ledger = a_ledger(an_entry(shape=a_shape(3), cpu_millis=2000))
    assert AddressBook(ledger, policy(subnet_prefix=28), NOW).fit(ONE_CORE)[0] == 11 - 3
    assert AddressBook(ledger, policy(groups_max=10), NOW).fit(ONE_CORE)[0] == 10 - 3
    assert AddressBook(ledger, policy(cores_max=10), NOW).fit(ONE_CORE)[0] == 10 - 6
    assert AddressBook(ledger, policy(creates_per_5min=10), NOW).fit(ONE_CORE)[0] == 10 - 3


def test_finished_pods_take_room_until_they_are_gone_and_their_address_for_the_release_hold() -> None:
    draft = a_draft(an_entry())
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)

    def left(at: datetime = NOW) -> list[int]:
        ledger = draft.finish(at)
        return [
            AddressBook(ledger, limits, at).fit(ONE_CORE)[0]
            for limits in (policy(subnet_prefix=28), policy(groups_max=10), policy(cores_max=10))
        ]

    assert left() == [10, 9, 9]
    draft.pod_gone("burst-b1-1", "p", NOW)
    # Its group is deleted after it: until then, a tail at most, it counts against the quotas.
    assert left() == [10, 9, 9]
    assert left(NOW + VirtualNodePolicy().tail) == [10, 10, 10]
    assert left(NOW + 5 * MINUTE) == [11, 10, 10]


def test_jobs_on_nodes_take_nothing_of_the_virtual_node() -> None:
    ledger = a_ledger(an_entry(placement=Placement.NODE_POOL, shape=a_shape(5)))
    book = AddressBook(ledger, policy(groups_max=10), NOW)
    assert (book.fit(ONE_CORE)[0], book.in_use) == (10, 0)


def test_more_in_use_than_a_lowered_quota_allows_leaves_no_room() -> None:
    ledger = a_ledger(an_entry(shape=a_shape(8)))
    assert AddressBook(ledger, policy(groups_max=5), NOW).fit(ONE_CORE) == (0, HoldReason.ACI_GROUP_QUOTA)


def test_a_held_address_says_when_it_is_free_again() -> None:
    draft = a_draft(an_entry(shape=a_shape(2)), release_hold=5 * MINUTE)
    for uid, at in (("p", NOW), ("q", NOW + MINUTE)):
        draft.pod_seen("burst-b1-1", uid, NOW, at)
        draft.pod_gone("burst-b1-1", uid, at)
    book = AddressBook(draft.finish(NOW), policy(), NOW + MINUTE)
    assert book.frees_at(HoldReason.SUBNET_ADDRESSES) == NOW + 5 * MINUTE
    assert AddressBook(draft.finish(NOW), policy(), NOW + HOUR).frees_at(HoldReason.SUBNET_ADDRESSES) is None


def test_the_create_rate_says_when_the_oldest_create_goes_out_of_its_window() -> None:
    ledger = Ledger(creates=Tokens().add(NOW - 30 * MINUTE, 5).add(NOW - MINUTE, 5))
    by_5min = AddressBook(ledger, policy(creates_per_5min=5), NOW)
    assert by_5min.fit(ONE_CORE) == (0, HoldReason.ACI_CREATE_RATE)
    assert by_5min.frees_at(HoldReason.ACI_CREATE_RATE) == NOW + 4 * MINUTE
    by_hour = AddressBook(ledger, policy(creates_per_hour=10), NOW)
    assert by_hour.frees_at(HoldReason.ACI_CREATE_RATE) == NOW + 30 * MINUTE
    assert AddressBook(Ledger(), policy(), NOW).frees_at(HoldReason.ACI_CREATE_RATE) is None


def test_nobody_knows_when_a_running_group_frees_its_quota() -> None:
    draft = a_draft(an_entry(shape=a_shape(2)))
    draft.pod_seen("burst-b1-1", "p", NOW, NOW)
    draft.pod_gone("burst-b1-1", "p", NOW)
    book = AddressBook(draft.finish(NOW), policy(), NOW)
    assert book.frees_at(HoldReason.ACI_GROUP_QUOTA) is None
    assert book.frees_at(HoldReason.ACI_CORE_QUOTA) is None


def test_a_group_counts_the_cores_that_are_billed() -> None:
    assert group_cpu_millis(Resources(0, 10**9)) == 10
    assert group_cpu_millis(Resources(1500, 10**9)) == 1500


def test_shorter_windows_count_what_falls_into_them() -> None:
    scaled = policy(creates_per_5min=10, creates_per_hour=12, rate_windows=(30 * SECOND, 6 * MINUTE))
    ledger = Ledger(creates=Tokens().add(NOW, 8))
    assert AddressBook(ledger, scaled, NOW + SECOND).fit(ONE_CORE) == (2, HoldReason.ACI_CREATE_RATE)
    assert AddressBook(ledger, scaled, NOW + MINUTE).fit(ONE_CORE) == (4, HoldReason.ACI_CREATE_RATE)
    assert AddressBook(ledger, scaled, NOW + 7 * MINUTE).fit(ONE_CORE)[0] == 10
    assert deletes_left(ledger.creates, VirtualNodePolicy(rate_windows=scaled.rate_windows), NOW + MINUTE) == 100


def test_deletes_are_bounded_by_both_of_their_rates() -> None:
    limits = VirtualNodePolicy(deletes_per_5min=10, deletes_per_hour=12)
    used = Tokens().add(NOW, 8)
    assert deletes_left(Tokens(), limits, NOW) == 10
    assert deletes_left(used, limits, NOW + SECOND) == 2
    assert deletes_left(used, limits, NOW + 6 * MINUTE) == 4
    assert deletes_left(used.add(NOW, 8), limits, NOW) == 0
