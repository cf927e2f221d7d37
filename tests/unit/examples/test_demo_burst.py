"""The burst of the demo is exactly what it says: distinct, deterministic, and five that cannot work."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import demo_burst
import photos
import pytest
from demo_burst import Kind, Planned, plan_burst
from jsonschema import Draft202012Validator
from world_data import Indicator, load_world

SCHEMAS: dict[str, Any] = json.loads(
    (Path(demo_burst.__file__).parent / "tasks" / "schemas.json").read_text(encoding="utf-8")
)


def of_kind(plan: list[Planned], *kinds: Kind) -> list[Planned]:
    return [planned for planned in plan if planned.kind in kinds]


def fits_its_schema(planned: Planned) -> bool:
    body = json.loads(planned.body)
    return body["task"] in SCHEMAS and Draft202012Validator(SCHEMAS[body["task"]]).is_valid(body["params"])


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_is_a_schema_and_allows_nothing_else(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("items", [12, 13, 40, 240, 1000])
def test_a_burst_has_exactly_the_items_asked_for(items: int) -> None:
    plan = plan_burst(items, seed=1)
    kinds = Counter(planned.kind for planned in plan)
    assert len({planned.id for planned in plan}) == items
    assert kinds[Kind.FAILS] == 2
    assert kinds[Kind.POISON] == 3
    assert kinds[Kind.FLAKY] == max(4, round(items * 0.05))
    assert kinds.total() == items


def test_the_same_seed_gives_the_same_burst_and_another_seed_another() -> None:
    assert plan_burst(60, seed=5) == plan_burst(60, seed=5)
    assert {p.body for p in plan_burst(60, seed=5)} != {p.body for p in plan_burst(60, seed=6)}


@pytest.mark.parametrize("items", [0, 11, 10_001])
def test_a_burst_that_cannot_be_made_is_refused_with_its_bounds(items: int) -> None:
    with pytest.raises(ValueError, match=f"--items {items}: from 12, .* to 10000"):
        plan_burst(items, seed=1)


def test_all_but_the_poison_fits_its_schema() -> None:
    plan = plan_burst(240, seed=1)
    assert all(fits_its_schema(planned) for planned in of_kind(plan, Kind.PLAIN, Kind.FLAKY, Kind.FAILS))


def test_the_poison_is_no_json_an_unknown_task_and_params_that_break_the_schema() -> None:
    found = []
    for planned in of_kind(plan_burst(240, seed=1), Kind.POISON):
        try:
            body = json.loads(planned.body)
        except ValueError:
            found.append("no json")
            continue
        found.append("params" if body["task"] in SCHEMAS else "unknown task")
        assert not fits_its_schema(planned)
    assert sorted(found) == ["no json", "params", "unknown task"]


def test_what_is_meant_to_fail_is_not_in_the_data() -> None:
    params = [json.loads(planned.body)["params"] for planned in of_kind(plan_burst(12, seed=1), Kind.FAILS)]
    (country,) = [each["country"] for each in params if "country" in each]
    (photo,) = [each["photo"] for each in params if "photo" in each]
    assert country not in load_world().regions
    assert photo not in photos.PHOTOS


def test_what_is_meant_to_work_is_in_the_data() -> None:
    world = load_world()
    assert set(demo_burst.PHOTOS) == set(photos.PHOTOS)
    for country in demo_burst.COUNTRIES:
        for indicator in Indicator:
            assert len(world.series(country, indicator)) == 50, (country, indicator)


def test_good_work_is_distinct_and_shared_by_both_tasks_and_all_tenants() -> None:
    good = of_kind(plan_burst(240, seed=1), Kind.PLAIN, Kind.FLAKY)
    assert len({json.dumps(json.loads(planned.body)["params"]) for planned in good}) == len(good)
    assert {(planned.task, planned.tenant) for planned in good} == {
        (task, tenant) for task in SCHEMAS for tenant in demo_burst.TENANTS
    }
    assert abs(sum(p.task == "report" for p in good) - len(good) / 2) <= 1


def test_every_message_that_can_be_read_asks_for_its_outcome_and_is_otherwise_the_same() -> None:
    for planned in plan_burst(60, seed=1):
        asking = demo_burst.asking_for_replies(planned, "outcomes")
        if planned.task == "unreadable":
            assert asking == planned
        else:
            assert asking.replies
            assert json.loads(asking.body) == {**json.loads(planned.body), "reply_to": "outcomes"}


def test_the_record_says_what_to_expect() -> None:
    record = demo_burst.burst_record(plan_burst(240, seed=1), "work", 1, enqueued_at=0.0)
    assert record["enqueued"] == 240
    assert record["expect"] == {"succeed": 235, "dead_lettered": 5}
    assert Counter(message["kind"] for message in record["messages"].values()) == record["kinds"]
