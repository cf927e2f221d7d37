"""The judge of crash runs finds what it is there to find: histories made up for it, each with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from .gate import Gate, Moment
from .laws import AtBroker, Terms, judge

PREFIX = "burst-dispatcher.io/"
TERMS = Terms(
    sent=frozenset({"a", "bad"}),
    must_die=frozenset({"bad"}),
    rate_usd=Decimal("0.00001"),
    limit_usd=Decimal("0.01"),
    addresses=1,
    ledger_name="the-ledger",
)
FINE = AtBroker(entered=2, removed=1, buried=1, left=0, dead_letters=["bad"])


@dataclass(frozen=True)
class V:
    """One version of an object."""

    kind: str
    object: dict[str, Any]
    gone: bool = False


def record(name: str, *items: str, rulings: dict[str, Any] | None = None) -> dict[str, Any]:
    annotations = {f"{PREFIX}rulings": json.dumps(rulings or {})}
    data = {f"{index}.json": json.dumps({"id": item}) for index, item in enumerate(items)}
    return {"metadata": {"name": name, "annotations": annotations}, "data": data}


def job(name: str, *, marked: bool = False, **status: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "annotations": {f"{PREFIX}placement": "node_pool"}}
    if marked:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "spec": {"backoffLimitPerIndex": 0}, "status": status}


def pod(job_name: str, phase: str, *, uid: str = "p", seconds: int = 0, paid: bool = False) -> dict[str, Any]:
    ended = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": f"2026-01-01T00:00:{seconds:02}Z"}
    states = [{"state": {"terminated": ended}}] if phase in ("Succeeded", "Failed") else []
    return {
        "metadata": {
            "name": f"{job_name}-0-{uid}",
            "uid": uid,
            "labels": {f"{PREFIX}job": job_name},
            "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
        },
        "spec": {"nodeSelector": {"type": "virtual-kubelet"} if paid else {}},
        "status": {"phase": phase, "containerStatuses": states},
    }


def ledger(spent: int, *, entries: dict[str, Any] | None = None) -> dict[str, Any]:
    document = {"accounts": {"all": {"spent": spent}}, "entries": entries or {}}
    return {"metadata": {"name": "the-ledger"}, "data": {"ledger.json": json.dumps(document)}}


def a_life(name: str = "burst-b-1", *, uid: str = "p") -> list[V]:
    """Record, Job, a pod that succeeds, and all of it cleared away."""
    return [
        V("configmaps", record(name, "a")),
        V("jobs", job(name)),
        V("pods", pod(name, "Running", uid=uid)),
        V("pods", pod(name, "Succeeded", uid=uid)),
        V("jobs", job(name, conditions=[{"type": "Complete", "status": "True"}])),
        V("pods", pod(name, "Succeeded", uid=uid), gone=True),
        V("configmaps", record(name, "a"), gone=True),
        V("jobs", job(name), gone=True),
    ]


def broken(history: Sequence[V], broker: AtBroker = FINE) -> list[str]:
    return judge(history, TERMS, broker).broken


def test_a_history_in_which_all_went_well_breaks_no_law() -> None:
    assert broken(a_life()) == []


@pytest.mark.parametrize(
    ("broker", "law"),
    [
        (AtBroker(2, 1, 1, 1, ["bad"]), "lost: of 2: 1 removed, 1 dead-lettered, 1 left"),
        (AtBroker(2, 0, 1, 0, ["bad"]), "lost: of 2: 0 removed, 1 dead-lettered, 0 left"),
        (AtBroker(1, 0, 1, 0, ["bad"]), "lost: 2 were sent, 1 entered the queue"),
        (AtBroker(2, 0, 2, 0, ["a", "bad"]), "deserved: a was dead-lettered"),
        (AtBroker(2, 2, 0, 0, []), "deserved: bad was not dead-lettered"),
    ],
)
def test_what_the_broker_says_is_judged(broker: AtBroker, law: str) -> None:
    assert law in broken(a_life(), broker)


def test_what_was_removed_without_ever_having_run_was_lost() -> None:
    assert broken([]) == ["deserved: a was removed, and no pod of it ever succeeded"]


def test_two_jobs_that_can_both_start_an_item_are_found() -> None:
    history = [
        V("configmaps", record("burst-b-1", "a")),
        V("jobs", job("burst-b-1")),
        V("configmaps", record("burst-b-2", "a")),
        V("jobs", job("burst-b-2")),
        *(V(version.kind, version.object, version.gone) for version in a_life()[2:]),
        V("configmaps", record("burst-b-2", "a"), gone=True),
        V("jobs", job("burst-b-2"), gone=True),
    ]
    assert "one live Job: a is live in burst-b-1 and in burst-b-2" in broken(history)


@pytest.mark.parametrize(
    "first",
    [
        [V("jobs", job("burst-b-1", failedIndexes="0"))],
        [V("jobs", job("burst-b-1", marked=True))],
        [V("jobs", job("burst-b-1")), V("pods", pod("burst-b-1", "Failed", uid="f"))],
        [V("jobs", job("burst-b-1", conditions=[{"type": "Failed", "status": "True"}]))],
    ],
)
def test_a_job_that_can_start_an_item_no_more_is_no_second_one(first: list[V]) -> None:
    history = [
        V("configmaps", record("burst-b-1", "a")),
        *first,
        *a_life("burst-b-2"),
        V("pods", pod("burst-b-1", "Failed", uid="f"), gone=True),
        V("configmaps", record("burst-b-1", "a"), gone=True),
        V("jobs", job("burst-b-1"), gone=True),
    ]
    assert broken(history) == []


def test_an_item_that_succeeded_and_is_launched_again_is_found() -> None:
    found = broken([*a_life(), *a_life("burst-c-1", uid="q")])
    assert "one live Job: burst-c-1 was created for a, which had succeeded before" in found
    assert "one live Job: a has succeeded 2 times" in found


def test_a_job_without_a_record_is_found() -> None:
    assert any("before any record" in line for line in broken([V("jobs", job("burst-x-1")), *a_life()]))


def test_a_ruling_that_changes_is_found() -> None:
    ruled: list[dict[str, Any]] = [{}, {"0": ["done", [], None]}, {"0": ["dead", [], None]}]
    history = [V("configmaps", record("burst-b-1", "a", rulings=each)) for each in ruled]
    assert "ruled once: burst-b-1 position 0: done, then dead" in broken([*history, *a_life()])


def test_more_spent_and_reserved_than_the_limit_is_found() -> None:
    entry = {"reserved": {"all": 6 * 10**9}, "state": "open"}
    found = broken([*a_life(), V("configmaps", ledger(5 * 10**9, entries={"burst-b-1": entry}))])
    assert any(line.startswith("admission: all has 0.011") for line in found)


def test_a_bill_that_nothing_covers_is_found_at_once_and_at_the_end() -> None:
    paid = [V("pods", pod("burst-b-1", phase, uid="v", seconds=10, paid=True)) for phase in ("Running", "Succeeded")]
    gone = V("pods", pod("burst-b-1", "Succeeded", uid="v", seconds=10, paid=True), gone=True)
    life = a_life()
    history = [*life[:2], *paid, gone, *life[4:5], *life[6:]]
    assert "cover: 0.00010 billed, 0 spent and reserved" in broken(history)
    assert "cover: 0.00010 billed, 0 spent in all" in broken(history)
    covered = [V("configmaps", ledger(10**8)), *history]
    assert broken(covered) == []


def test_more_pods_than_addresses_are_found() -> None:
    crowd = [V("pods", pod("burst-b-1", "Pending", uid=uid, paid=True)) for uid in ("x", "y")]
    gone = [V("pods", pod("burst-b-1", "Pending", uid=uid, paid=True), gone=True) for uid in ("x", "y")]
    life = a_life()
    assert "addresses: 2 pods at once, 1 addresses" in broken([*life[:2], *crowd, *gone, *life[2:]])


@pytest.mark.parametrize("cut", range(5, 8))
def test_what_is_left_behind_is_found(cut: int) -> None:
    assert any(line.startswith("nothing left") for line in broken(a_life()[:cut]))


def test_only_closing_attempts_may_be_left_where_they_are_not_waited_for() -> None:
    entry = {"reserved": {}, "state": "closing", "moneySettled": False, "placement": "node_pool"}
    left = [*a_life()[:5], V("configmaps", ledger(0, entries={"burst-b-1": entry}))]
    terms = replace(TERMS, may_be_closing=True)
    assert judge(left, terms, FINE).broken == []
    still_open = {**entry, "state": "open"}
    left[-1] = V("configmaps", ledger(0, entries={"burst-b-1": still_open}))
    assert judge(left, terms, FINE).broken != []


def test_alarms_are_told() -> None:
    assert judge(a_life(), TERMS, FINE, ["told: overrun"]).broken == ["no alarms: told: overrun"]


# --- the gate -------------------------------------------------------------------------------------------------------

CORE, BATCH = "/api/v1/namespaces/n", "/apis/batch/v1/namespaces/n"


@pytest.mark.parametrize(("moment", "heard"), [(Moment.AFTER, True), (Moment.BEFORE, False)])
def test_the_gate_kills_at_the_write_that_it_was_told(moment: Moment, *, heard: bool) -> None:
    killed: list[str] = []
    gate = Gate(kill=lambda: killed.append("now"), kill_at=2, moment=moment)
    assert gate.may_pass(1, "POST", f"{CORE}/configmaps")
    assert gate.may_answer(1)
    assert gate.may_pass(2, "GET", f"{BATCH}/jobs/x")
    assert gate.may_pass(3, "PUT", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l")
    assert not killed
    assert gate.may_pass(4, "POST", f"{BATCH}/jobs") is heard
    assert not gate.may_answer(4)
    assert killed == ["now"]
    assert gate.struck == "create a Job"
    assert not gate.may_pass(5, "GET", f"{BATCH}/jobs/x")
    gate.open()
    assert gate.may_pass(6, "POST", f"{BATCH}/jobs")
    assert gate.may_answer(6)
    assert killed == ["now"]
