import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.failures import FailureCause
from dispatcher.core.reports import (
    CAUSES,
    REPORT_BYTES_MAX,
    ItemReport,
    ReportedOutcome,
    index_of,
    positions_of,
    read_report,
    report_to_body,
)
from dispatcher.core.units import UTC

DONE = ItemReport(
    batch="k2x9", attempt=2, pod="1f0c2a5e-0000-4000-8000-000000000001", position=3, queue="work",
    sequence_number=17, digest="a" * 64, outcome=ReportedOutcome.DONE, exit_code=0,
    result_ref="https://example.com/17", started_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    finished_at=datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC),
)  # fmt: skip
FAILED = replace(
    DONE, outcome=ReportedOutcome.FAILED, cause=FailureCause.ITEM_TIMEOUT, exit_code=-9, message="too long",
    log_tail="half\nway", result_ref=None,
)  # fmt: skip


def body(**changes: Any) -> bytes:
    return json.dumps({**json.loads(report_to_body(DONE)), **changes}).encode()


@pytest.mark.parametrize("report", [DONE, FAILED, replace(DONE, started_at=None, exit_code=None)])
def test_a_report_is_read_back_as_it_was_written(report: ItemReport) -> None:
    assert read_report(report_to_body(report)) == report


def test_a_report_has_one_id_however_often_it_is_sent_and_another_for_another_end() -> None:
    assert DONE.message_id == replace(DONE, message="x", finished_at=None).message_id
    others = [FAILED, replace(DONE, attempt=3), replace(DONE, position=4), replace(DONE, pod="other")]
    assert len({each.message_id for each in (DONE, *others)}) == 5
    assert len(DONE.message_id) <= 128


@pytest.mark.parametrize("field", ["batch", "attempt", "pod", "position", "queue", "sequence_number", "digest",
                                   "outcome", "format"])  # fmt: skip
@pytest.mark.parametrize("value", [None, True, -1, 2**63, 1.5, "", "\x00", [], {"a": 1}, "X" * 300])
def test_a_report_that_does_not_name_its_item_beyond_doubt_is_none(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        read_report(body(**{field: value}))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 1, "format": 1}', b"[" * 5000, b" " * (REPORT_BYTES_MAX + 1)],
)
def test_what_is_no_object_is_no_report(text: bytes) -> None:
    with pytest.raises(ValueError, match="report"):
        read_report(text)


def test_what_is_only_for_people_is_clipped_and_never_costs_a_done() -> None:
    report = read_report(
        body(
            message="two\nlines " + "m" * 900,
            log_tail="ö" * 2000 + "the end",
            result_ref="x" * 3000,
            started_at="yesterday",
            finished_at="2026-03-01T12:00:00",
            something_new={"of": "a later version"},
        )
    )
    assert report.outcome is ReportedOutcome.DONE
    assert report.message.startswith("two lines mm")
    assert len(report.message) == 500
    assert report.log_tail.endswith("öthe end")
    assert len(report.log_tail.encode()) <= 1024
    assert (report.result_ref, report.started_at, report.finished_at) == (None, None, None)


def test_a_failure_has_a_cause_that_a_worker_can_know_and_a_success_has_none() -> None:
    assert read_report(body(outcome="failed")).cause is FailureCause.APPLICATION
    assert [read_report(body(outcome="failed", cause=cause)).cause for cause in CAUSES] == list(CAUSES)
    assert read_report(body(cause="item_timeout")).cause is None
    with pytest.raises(ValueError, match=r"^cause: one of application, item_timeout"):
        read_report(body(outcome="failed", cause="aci_quota"))


@given(st.integers(1, 60), st.integers(1, 400))
def test_every_position_is_carried_by_one_pod_and_no_pod_has_two_more_than_another(pods: int, items: int) -> None:
    shares = [positions_of(index, pods, items) for index in range(pods)]
    assert sorted(position for share in shares for position in share) == list(range(items))
    assert all(index_of(position, pods) == index for index, share in enumerate(shares) for position in share)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
