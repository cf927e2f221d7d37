"""How an attempt is written down, and what the next one is made from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.core.failures import FailureCause
from dispatcher.core.records import Record, Ruling, RulingKind, decode, next_record, to_annotations, to_data
from dispatcher.core.retries import Failure, Tries
from dispatcher.core.trace import TraceContext
from tests.builders import HOUR, MINUTE, NOW, SECOND, a_record, an_item

GOLDEN = Path(__file__).with_name("golden")
"""Records as each version wrote them. They are never written again: what they say must stay readable."""
TRACE = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")

FAILED_ONCE = Tries(1, 0, FailureCause.APPLICATION, "exit code 1", "the end of the log", 1)
FAILED_TWICE = Tries(1, 1, FailureCause.EVICTED, "drained", "", 1)


def written_and_read(record: Record) -> Record:
    data = json.loads(json.dumps(to_data(record)))
    return decode(data, json.loads(json.dumps(to_annotations(record))))


def test_a_record_is_read_as_it_was_written() -> None:
    record = a_record(
        3,
        attempt=2,
        parent="burst-b1-1",
        after_cancel=True,
        not_before=NOW + MINUTE,
        job={"spec": {"completions": 3}},
        tries=(Tries(), FAILED_ONCE, FAILED_TWICE),
        rulings={0: Ruling(RulingKind.DONE), 2: Ruling(RulingKind.RETRY, FAILED_TWICE, NOW + HOUR)},
        evidence={1: {"pod-1": Failure(FailureCause.APPLICATION, "exit code 1", "tail")}},
    )
    assert written_and_read(record) == record


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"Søren 東京 🎉"}',
        '{"text":"line\\nnext\\u0000\u2028"}',
        "[]",
        '{"deep":{"a":[1,2.5,null,true]}}',
        '"}"',
        "{}",
    ],
)
def test_parameters_reach_the_worker_as_they_were_sent(params: str) -> None:
    item = an_item(params_json=params, message_id='odd "id" \\ \n é', expires_at=NOW + HOUR)
    record = a_record(items=(item,))
    assert json.loads(to_data(record)["0.json"])["params"] == json.loads(params)
    assert written_and_read(record).items == (item,)


def test_the_worker_finds_one_file_an_item_named_by_its_index_with_what_it_needs_for_fencing() -> None:
    data = to_data(a_record(2, attempt=3))
    assert sorted(data) == ["0.json", "1.json"]
    facts = json.loads(data["1.json"])
    assert (facts["sequence_number"], facts["attempt"], facts["id"]) == (2, 3, "message-2")
    assert facts["params"] == {"country": "FR"}


def test_what_pods_mount_does_not_change_with_rulings() -> None:
    record = a_record(2)
    ruled = replace(record, rulings={0: Ruling(RulingKind.DONE)})
    assert to_data(ruled) == to_data(record)
    assert to_annotations(ruled) != to_annotations(record)


def golden(version: int) -> dict[str, dict[str, str]]:
    return json.loads((GOLDEN / f"record-{version}.json").read_text(encoding="utf-8"))


def the_golden_record(**second_item: object) -> Record:
    odd = an_item(2, params_json='{"name":"Søren 東京"}', message_id='odd "id"', priority=3, **second_item)
    return a_record(
        items=(an_item(1), odd, an_item(3, expires_at=NOW + HOUR)),
        attempt=2,
        parent="burst-b1-1",
        after_cancel=True,
        not_before=NOW + MINUTE,
        job={"spec": {"completions": 3}},
        tries=(Tries(), FAILED_ONCE, FAILED_TWICE),
        rulings={0: Ruling(RulingKind.DONE), 2: Ruling(RulingKind.RETRY, FAILED_TWICE, NOW + HOUR)},
        evidence={1: {"pod-1": Failure(FailureCause.APPLICATION, "exit code 1", "tail")}},
    )


def test_a_record_of_the_version_before_is_read() -> None:
    assert decode(**golden(1)) == the_golden_record()


def test_a_record_is_written_as_this_version_writes_it() -> None:
    record = the_golden_record(trace=TRACE)
    assert {"data": to_data(record), "annotations": to_annotations(record)} == golden(2)
    assert decode(**golden(2)) == record


def test_a_record_of_another_format_is_refused() -> None:
    annotations = {**to_annotations(a_record()), "burst-dispatcher.io/format": "9"}
    with pytest.raises(ValueError, match="this version reads 1, 2, 3"):
        decode(to_data(a_record()), annotations)


def test_the_trace_of_an_item_reaches_its_file_and_every_later_attempt() -> None:
    record = a_record(items=(an_item(1, trace=TRACE), an_item(2, trace=TraceContext(TRACE.traceparent)), an_item(3)))
    files = [json.loads(text) for _, text in sorted(to_data(record).items())]
    assert [(file.get("traceparent"), file.get("tracestate")) for file in files] == [
        (TRACE.traceparent, "vendor=1"),
        (TRACE.traceparent, None),
        (None, None),
    ]
    failed = dict.fromkeys(range(3), Ruling(RulingKind.RETRY, FAILED_ONCE, NOW))
    following = next_record(written_and_read(replace(record, rulings=failed)), 2, NOW)
    assert following is not None
    assert following.items == record.items


def test_the_digest_tells_which_items_these_are() -> None:
    record = a_record(2)
    assert record.items_digest == a_record(2, attempt=9, epoch=9).items_digest
    assert record.items_digest != a_record(3).items_digest
    assert record.items_digest != replace(record, items=record.items[::-1]).items_digest
    assert record.items_digest != a_record(items=(an_item(1), an_item(2, digest="other"))).items_digest


def test_record_entry_and_job_share_one_name() -> None:
    assert a_record(batch="x7", attempt=2).name == "burst-x7-2"


# --- the next record --------------------------------------------------------------------------------------------------


def test_nothing_goes_on_where_all_is_done_or_dead() -> None:
    record = a_record(2, rulings={0: Ruling(RulingKind.DONE), 1: Ruling(RulingKind.DEAD, FAILED_ONCE)})
    assert next_record(record, 2, NOW) is None


def test_the_next_record_carries_on_what_is_to_be_tried_again_and_nothing_else() -> None:
    record = a_record(
        3,
        rulings={
            2: Ruling(RulingKind.RETRY, FAILED_ONCE, NOW + HOUR),
            1: Ruling(RulingKind.DONE),
            0: Ruling(RulingKind.RETRY, FAILED_TWICE, NOW + MINUTE),
        },
    )
    following = next_record(record, 7, NOW + SECOND)
    assert following is not None
    assert [item.sequence_number for item in following.items] == [1, 3]
    assert following.tries == (FAILED_TWICE, FAILED_ONCE)
    assert (following.name, following.parent, following.epoch) == ("burst-b1-2", "burst-b1-1", 7)
    assert (following.created_at, following.not_before) == (NOW + SECOND, NOW + HOUR)
    assert not following.after_cancel
    assert not following.rulings


def test_after_a_cancel_nothing_of_the_parent_may_be_left() -> None:
    record = a_record(1, rulings={0: Ruling(RulingKind.CANCELLED, FAILED_ONCE)})
    following = next_record(record, 1, NOW)
    assert following is not None
    assert (following.after_cancel, following.tries, following.not_before) == (True, (FAILED_ONCE,), None)


def test_whoever_finds_the_rulings_makes_the_same_next_record() -> None:
    record = a_record(2, rulings={1: Ruling(RulingKind.RETRY, FAILED_ONCE, NOW), 0: Ruling(RulingKind.DONE)})
    assert next_record(record, 1, NOW) == next_record(written_and_read(record), 1, NOW)


@pytest.mark.parametrize(("kind", "goes_on"), [("done", False), ("dead", False), ("retry", True), ("cancelled", True)])
def test_retried_and_cancelled_items_go_on(kind: str, goes_on: bool) -> None:
    assert Ruling(RulingKind(kind)).goes_on is goes_on
