"""Who pays for a failure, how often an item is tried again, and when."""

from datetime import timedelta

import pytest

from dispatcher.core.failures import FailureCause
from dispatcher.core.retries import (
    RETRY_RULES,
    Allowance,
    Failure,
    GiveUp,
    Retry,
    Tries,
    after_failures,
    delay_before,
    own_allowance_left,
)
from tests.builders import MINUTE, NOW, SECOND, a_policy, a_task

C = FailureCause
TASK = a_task(backoff_limit=3)
POLICY = a_policy(TASK, platform_retries_max=5, retry_delay_min=10 * SECOND, retry_delay_max=MINUTE)


def retries_until_given_up(cause: FailureCause) -> int:
    tries, count = Tries(), 0
    while isinstance(verdict := after_failures(tries, [Failure(cause)], TASK, POLICY, NOW), Retry):
        tries, count = verdict.tries, count + 1
    return count


@pytest.mark.parametrize(
    ("cause", "retries"),
    [
        (C.APPLICATION, 3),
        (C.ITEM_TIMEOUT, 3),
        (C.UNKNOWN, 3),
        (C.IMAGE, 2),
        (C.TEMPLATE, 0),
        (C.ACI_QUOTA, 5),
        (C.ACI_CAPACITY, 5),
        (C.SUBNET_FULL, 5),
        (C.THROTTLED, 5),
        (C.START_DEADLINE, 5),
        (C.EVICTED, 5),
        (C.NODE_LOST, 5),
        (C.CANCELLED, 5),
        (C.BUDGET_EXHAUSTED, 0),
        (C.EXPIRED, 0),
    ],
)
def test_an_item_is_tried_again_as_often_as_its_cause_allows(cause: FailureCause, retries: int) -> None:
    assert retries_until_given_up(cause) == retries


def test_only_what_says_something_about_the_virtual_node_opens_its_circuit() -> None:
    assert {cause for cause, rule in RETRY_RULES.items() if rule.opens_circuit} == {
        C.ACI_QUOTA, C.ACI_CAPACITY, C.SUBNET_FULL, C.THROTTLED, C.START_DEADLINE,
    }  # fmt: skip


def test_nobodys_program_pays_for_the_platform() -> None:
    tries = Tries(own=3, platform=4)
    verdict = after_failures(tries, [Failure(C.EVICTED)], TASK, POLICY, NOW)
    assert isinstance(verdict, Retry)
    assert (verdict.tries.own, verdict.tries.platform, verdict.allowance) == (3, 5, Allowance.PLATFORM)
    assert verdict.tries.failures == 8


def test_the_platform_does_not_pay_for_a_program() -> None:
    verdict = after_failures(Tries(own=2, platform=5), [Failure(C.APPLICATION)], TASK, POLICY, NOW)
    assert isinstance(verdict, Retry)
    assert (verdict.tries.own, verdict.tries.platform, verdict.allowance) == (3, 5, Allowance.ITEM)


@pytest.mark.parametrize("tries", [Tries(own=3), Tries(own=4, platform=0)])
def test_an_item_out_of_its_own_allowance_is_given_up(tries: Tries) -> None:
    assert isinstance(after_failures(tries, [Failure(C.APPLICATION)], TASK, POLICY, NOW), GiveUp)


def test_an_item_out_of_the_platforms_allowance_is_given_up() -> None:
    assert isinstance(after_failures(Tries(platform=5), [Failure(C.NODE_LOST)], TASK, POLICY, NOW), GiveUp)


def test_all_failures_of_an_attempt_count_and_the_last_one_decides() -> None:
    failures = [Failure(C.APPLICATION), Failure(C.EVICTED), Failure(C.APPLICATION, "exit code 1", "the end")]
    verdict = after_failures(Tries(), failures, TASK, POLICY, NOW)
    assert isinstance(verdict, Retry)
    assert verdict.tries == Tries(2, 1, C.APPLICATION, "exit code 1", "the end", 1)
    assert verdict.not_before == NOW + 20 * SECOND


def test_an_item_that_met_the_platform_before_may_still_meet_a_missing_image_twice() -> None:
    verdict = after_failures(Tries(platform=3, cause=C.EVICTED), [Failure(C.IMAGE)], TASK, POLICY, NOW)
    assert isinstance(verdict, Retry)


def test_without_a_task_there_is_nothing_left_to_try() -> None:
    verdict = after_failures(Tries(), [Failure(C.EVICTED, "drained")], None, POLICY, NOW)
    assert verdict == GiveUp(Tries(0, 1, C.EVICTED, "drained", "", 1))


@pytest.mark.parametrize(("failures", "wait"), [(0, 10), (1, 10), (2, 20), (3, 40), (4, 60), (1000, 60)])
def test_the_wait_doubles_up_to_the_longest(failures: int, wait: int) -> None:
    assert delay_before(failures, POLICY) == timedelta(seconds=wait)


def test_what_is_left_of_an_allowance_is_never_negative() -> None:
    assert own_allowance_left(Tries(own=1), TASK) == 2
    assert own_allowance_left(Tries(own=9), TASK) == 0
