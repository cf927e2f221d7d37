"""What a message's body becomes: a work item, or a reason and a sentence that its sender understands."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.units import Resources
from dispatcher.core.work import Task, WorkItem
from dispatcher.errors import BadConfiguration, BadMessage
from dispatcher.ports import Message
from dispatcher.queue.messages import dead_letter, to_body, to_item
from dispatcher.queue.strict_json import DEPTH_MAX
from dispatcher.queue.task_table import QueueRules, TaskTable
from dispatcher.queue.words import DESCRIPTION_MAX

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)

THUMBNAIL_PARAMS = {
    "type": "object",
    "properties": {
        "width": {"type": "integer", "minimum": 1, "maximum": 4096},
        "format": {"enum": ["png", "jpeg"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["width"],
    "additionalProperties": False,
}


def a_task(name: str, params_schema: dict | None = None) -> Task:
    return Task(name=name, image="i", command=("c",), requests=Resources(100, 1), params_schema=params_schema)


TABLE = TaskTable.of([a_task("thumbnail", THUMBNAIL_PARAMS), a_task("report")])


def a_message(body: bytes | dict | list, message_id: str = "m-1") -> Message:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(sequence_number=7, message_id=message_id, body=data, enqueued_at=NOON, expires_at=LATER)


def read(body: bytes | dict | list, rules: QueueRules | None = None, message_id: str = "m-1") -> WorkItem:
    return to_item(a_message(body, message_id), "work", TABLE, rules or QueueRules(), received_at=LATER)


def refused(body: bytes | dict | list, rules: QueueRules | None = None) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        read(body, rules)
    return caught.value


def test_a_message_becomes_a_work_item() -> None:
    body = b'{"task": "thumbnail", "tenant": "acme", "params": {"width": 200, "format": "png"}, "priority": 2}'
    assert read(body, QueueRules(priority_max=5)) == WorkItem(
        queue="work",
        sequence_number=7,
        message_id="m-1",
        digest=hashlib.sha256(body).hexdigest(),
        task="thumbnail",
        tenant="acme",
        priority=2,
        params_json='{"width":200,"format":"png"}',
        enqueued_at=NOON,
        received_at=LATER,
        expires_at=LATER,
    )


def test_a_message_without_an_id_is_named_after_its_sequence_number() -> None:
    assert read({"task": "report", "params": {}}, message_id="").message_id == "sequence-7"


def test_params_keep_their_order_and_their_letters() -> None:
    assert (
        read('{"task":"report","params":{"b": [1, 2.5], "a": "Zoë"}}'.encode()).params_json == '{"b":[1,2.5],"a":"Zoë"}'
    )


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "not UTF-8 (byte 0)"),
        (b"{'task': 1}", "line 1, column 2"),
        (b'{"task": "report", "params": {"x": NaN}}', "NaN is not a JSON number"),
        (b'{"task": "report", "params": {"x": -Infinity}}', "-Infinity is not a JSON number"),
        (b'{"task": "report", "params": {"x": 1e999}}', "too large"),
        (b'{"task": "report", "params": {"x": ' + b"9" * 5000 + b"}}", "more than 64 digits"),
        (b'{"task": "report", "params": {"x": 1, "x": 2}}', "'x' stands twice"),
        (b'{"task": "report", "params": {"x": [["\\ud800"]]}}', "surrogate"),
        (b'{"task": "report", "params": {"\\udfff": 1}}', "surrogate"),
        (b"[" * 16000, "64 levels"),
        (b'{"a":' * 3000, "64 levels"),
        (b'{"task": "report", "params": {"x": ' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}}", "64 levels"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_the_place_and_the_remedy(body: bytes, part: str) -> None:
    bad = refused(body)
    assert bad.reason == "bad_json"
    assert part in bad.description


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ([1], "a list, not an object"),
        ({"params": {}}, "task is missing"),
        ({"task": 3, "params": {}}, "not a number"),
        ({"task": "", "params": {}}, "an empty string"),
        ({"task": "report"}, "send {} if the task needs none"),
        ({"task": "report", "params": []}, "params must be an object, not a list"),
        (
            {"task": "report", "params": {}, "image": "evil"},
            "'image' is not a field of a message; known are task, tenant",
        ),
        ({"task": "report", "params": {}, "tenant": "a b"}, "tenant must be"),
        ({"task": "report", "params": {}, "tenant": None}, "tenant must be"),
        ({"task": "report", "params": {}, "priority": True}, "priority must be a whole number from 0, not true"),
        ({"task": "report", "params": {}, "priority": -1}, "priority must be a whole number from 0, not -1"),
        ({"task": "report", "params": {}, "priority": 1.0}, "priority must be"),
        ({"task": "report", "params": {}, "start_by": "x"}, "leave start_by out"),
        ({"task": "report", "params": {}, "payload_ref": "x"}, "pass the reference in params"),
        ({"task": "report", "params": {}, "reply_to": 1}, "reply_to must be the name of a queue, not a number"),
        ({"task": "report", "params": {}, "reply_to": ""}, "reply_to must be the name of a queue, not an empty string"),
    ],
)
def test_a_message_of_the_wrong_shape_is_told_which_field_is_wrong(body: dict, part: str) -> None:
    bad = refused(body)
    assert bad.reason == "bad_message"
    assert part in bad.description


REPLYING = QueueRules(reply_to=frozenset({"outcomes", "told"}))


def test_a_sender_may_ask_for_the_outcome_on_a_queue_that_is_allowed() -> None:
    assert read({"task": "report", "params": {}, "reply_to": "told"}, REPLYING).reply_to == "told"
    assert read({"task": "report", "params": {}}, REPLYING).reply_to is None


@pytest.mark.parametrize(
    ("rules", "remedy"), [(QueueRules(), "Leave reply_to out."), (REPLYING, "Allowed are: outcomes, told.")]
)
def test_a_reply_queue_that_is_not_allowed_is_refused_with_the_remedy(rules: QueueRules, remedy: str) -> None:
    bad = refused({"task": "report", "params": {}, "reply_to": "work"}, rules)
    assert bad.reason == "reply_to_not_allowed"
    assert bad.description.startswith(f"Outcomes of this queue may not be sent to 'work'. {remedy} ")
    assert bad.reply_to is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"task": "reprot", "params": {}, "reply_to": "told"}, "unknown_task"),
        ({"task": "thumbnail", "params": {"width": 0}, "reply_to": "told"}, "bad_params"),
        ({"task": "report", "params": 1, "more": 1, "reply_to": "told"}, "bad_message"),
    ],
)
def test_poison_says_where_its_sender_wants_to_hear_of_it(body: dict, reason: str) -> None:
    bad = refused(body, REPLYING)
    assert (bad.reason, bad.reply_to) == (reason, "told")
    assert refused({**body, "reply_to": "work"}, REPLYING).reply_to is None
    assert refused(body).reply_to is None


def test_all_wrong_fields_are_told_at_once() -> None:
    text = refused({"tusk": "report", "reply_to": [], "params": 1}).description
    assert "'tusk'" in text
    assert "reply_to" in text
    assert "task is missing" in text
    assert "params must be" in text


def test_an_unknown_task_is_told_the_nearest_one_and_all_others() -> None:
    bad = refused({"task": "tumbnail", "params": {}})
    assert bad.reason == "unknown_task"
    assert "Did you mean 'thumbnail'? This queue takes: report, thumbnail." in bad.description


def test_a_task_of_another_queue_is_not_allowed() -> None:
    bad = refused({"task": "report", "params": {}}, QueueRules(tasks=frozenset({"thumbnail"})))
    assert bad.reason == "task_not_allowed"
    assert "takes: thumbnail" in bad.description


def test_a_body_over_the_limit_is_told_the_limit_and_what_to_do() -> None:
    bad = refused(b" " * 16385)
    assert bad.reason == "too_large"
    assert "16385 bytes, more than the 16384" in bad.description
    assert "pass a reference to it in params" in bad.description
    assert read(b'{"task":"report","params":{}}'.ljust(16384)).task == "report"


def test_the_only_tenant_of_a_queue_is_implied() -> None:
    assert read({"task": "report", "params": {}}, QueueRules(tenants=("acme",))).tenant == "acme"
    assert read({"task": "report", "params": {}}).tenant == "default"


@pytest.mark.parametrize("tenant", [{"tenant": "other"}, {}])
def test_a_queue_of_several_tenants_takes_no_other_and_no_guess(tenant: dict) -> None:
    bad = refused({"task": "report", "params": {}, **tenant}, QueueRules(tenants=("acme", "bolt")))
    assert bad.reason == "tenant_not_allowed"
    assert "acme, bolt" in bad.description


def test_a_priority_above_the_highest_is_not_allowed() -> None:
    bad = refused({"task": "report", "params": {}, "priority": 10**60}, QueueRules(priority_max=3))
    assert bad.reason == "priority_not_allowed"
    assert "above 3" in bad.description


def test_bad_params_name_the_path_the_fault_and_what_is_allowed() -> None:
    bad = refused({"task": "thumbnail", "params": {"width": 9000, "format": "gif", "tags": ["a", 1], "colour": 1}})
    assert bad.reason == "bad_params"
    assert "params.width: 9000 is greater than the maximum of 4096" in bad.description
    assert "params.format: 'gif' is not one of ['png', 'jpeg']" in bad.description
    assert "params.tags[1]: 1 is not of type 'string'" in bad.description
    assert "('colour' was unexpected); known are: width, format, tags" in bad.description


def test_at_most_five_faults_of_params_are_told() -> None:
    text = refused({"task": "thumbnail", "params": {"width": 1, "tags": list(range(40))}}).description
    assert text.count("is not of type") == 5
    assert "and 35 more" in text


def test_nothing_unbounded_and_nothing_unprintable_comes_back() -> None:
    long = "\x1b[31m\u202e" + "x" * 9000
    for body in (
        {"task": long, "params": {}},
        {"task": "report", "params": {}, **{f"{long[:200]}{n}": 1 for n in range(60)}},
        {"task": "thumbnail", "params": {"width": long}},
        {"task": "thumbnail", "params": {long: 1}},
    ):
        bad = refused(body)
        assert bad.description.isprintable()
        assert len(bad.description) <= DESCRIPTION_MAX
        assert dead_letter(bad).description == bad.description


def test_what_the_command_line_sends_is_what_the_dispatcher_reads() -> None:
    item = read(to_body("thumbnail", {"width": 3}, tenant="acme", priority=1), QueueRules(priority_max=1))
    assert (item.task, item.params_json, item.tenant, item.priority) == ("thumbnail", '{"width":3}', "acme", 1)
    with pytest.raises(ValueError, match="JSON"):
        to_body("thumbnail", {"width": float("nan")})


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "nonsense"}, "not a JSON Schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "leads nowhere"),
        ({"properties": {"a": {"$ref": "http://example.com/schema"}}}, "leads nowhere"),
        ({"$ref": "#"}, "without end"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_when_the_tables_are_made(schema: dict, part: str) -> None:
    with pytest.raises(BadConfiguration, match=r"tasks\.broken\.params_schema") as caught:
        TaskTable.of([a_task("broken", schema), a_task("report"), a_task("report")])
    assert part in str(caught.value)
    assert len(caught.value.mistakes) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
nearly_messages = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["thumbnail", "report", "reports"]) | json_values,
        "params": st.fixed_dictionaries({}, optional={"width": json_values, "tags": json_values}) | json_values,
        "tenant": st.text() | json_values,
        "priority": json_values,
        "reply_to": json_values,
    },
).map(lambda fields: json.dumps(fields).encode())
bodies = st.binary(max_size=300) | nearly_messages | st.text(st.sampled_from('[]{}":,\\ud0')).map(str.encode)


@given(bodies, st.text(max_size=5))
def test_any_bytes_give_an_item_or_a_reason_and_the_same_again(body: bytes, message_id: str) -> None:
    def answer() -> WorkItem | tuple[str, str]:
        try:
            return read(body, message_id=message_id)
        except BadMessage as bad:
            return bad.reason, bad.description

    first = answer()
    assert answer() == first
    if isinstance(first, WorkItem):
        assert json.loads(first.params_json) == json.loads(body)["params"]
        first.params_json.encode("utf-8")
        assert "\n" not in first.params_json
    else:
        assert first[0] in ("bad_json", "bad_message", "unknown_task", "bad_params")
        assert 0 < len(first[1]) <= DESCRIPTION_MAX
        assert first[1].isprintable()
