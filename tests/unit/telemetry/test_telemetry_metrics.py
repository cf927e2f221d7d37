"""Metrics: what the events and the status become in the page that Prometheus reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dispatcher.telemetry import Metrics

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_items_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    metrics("item.received", AT, {"item": "a", "task": "report", "tenant": "acme"})
    metrics("item.done", AT, {"item": "a", "placement": "node_pool"})
    metrics("item.dead_lettered", AT, {"item": "b"})
    metrics("item.rejected", AT, {"item": "c", "reason": "bad_json"})
    metrics("item.retried", AT, {"item": "d", "cause": "evicted", "allowance": "platform"})
    assert value(metrics, "burst_items_received_total", task="report", tenant="acme") == 1
    for outcome in ("done", "dead_lettered", "rejected"):
        assert value(metrics, "burst_items_settled_total", outcome=outcome) == 1
    assert value(metrics, "burst_items_retried_total", cause="evicted", allowance="platform") == 1


def test_waiting_and_running_are_told_apart_by_the_launch() -> None:
    metrics = Metrics()
    metrics("batch.launched", AT, {"job": "burst-a-1", "placement": "virtual_node", "items": 1})
    done = {"item": "a", "job": "burst-a-1", "placement": "virtual_node", "waited_seconds": 12}
    metrics("item.done", AT + timedelta(seconds=4), done)
    assert value(metrics, "burst_run_seconds_sum", placement="virtual_node") == 4
    assert value(metrics, "burst_queue_wait_seconds_sum", placement="virtual_node") == 8
    metrics("item.done", AT, {**done, "job": "launched by a service before this one"})
    assert value(metrics, "burst_run_seconds_count", placement="virtual_node") == 1


def test_holds_launches_costs_alarms_and_the_circuit_are_counted() -> None:
    metrics = Metrics()
    metrics("batch.held", AT, {"reason": "budget_exhausted"})
    metrics("batch.launched", AT, {"job": "j", "placement": "node_pool"})
    metrics("attempt.closed", AT, {"job": "j", "placement": "virtual_node", "cost_usd": "0.25"})
    metrics("circuit.opened", AT, {})
    metrics("alarm.raised", AT, {"what": "x"})
    metrics("outcome.sent", AT, {"item": "a"})
    metrics("outcome.given_up", AT, {"item": "b"})
    metrics.observe({"outcomes": {"owed": 3}})
    assert value(metrics, "burst_outcomes_total", result="sent") == 1
    assert value(metrics, "burst_outcomes_total", result="given_up") == 1
    assert value(metrics, "burst_outcomes_owed") == 3
    assert value(metrics, "burst_batches_held_total", reason="budget_exhausted") == 1
    assert value(metrics, "burst_batches_launched_total", placement="node_pool") == 1
    assert value(metrics, "burst_cost_usd_total", placement="virtual_node") == 0.25
    assert value(metrics, "burst_circuit_open") == 1
    assert value(metrics, "burst_alarms_total") == 1
    metrics("circuit.closed", AT, {})
    assert value(metrics, "burst_circuit_open") == 0


def test_a_budget_shows_the_window_that_the_present_lies_in() -> None:
    metrics = Metrics()
    account = {"budget": "daily", "owner": "*", "limit_usd": "5", "spent_usd": "1.5", "reserved_usd": "2"}
    now = ["2026-05-04T00:00:00.000000Z", "2026-05-05T00:00:00.000000Z"]
    later = ["2026-05-05T00:00:00.000000Z", "2026-05-06T00:00:00.000000Z"]
    accounts = [{**account, "window": now}, {**account, "window": later, "reserved_usd": "9"}]
    metrics("ledger.written", AT, {"addresses_in_use": 3, "addresses_usable": 11, "accounts": accounts})
    assert value(metrics, "burst_budget_usd", budget="daily", owner="*", kind="reserved") == 2
    assert value(metrics, "burst_budget_usd", budget="daily", owner="*", kind="spent") == 1.5
    assert value(metrics, "burst_subnet_addresses", kind="in_use") == 3


def test_the_status_becomes_gauges_and_the_page_can_be_read() -> None:
    metrics = Metrics()
    metrics.observe({"leading": True, "items": {"backlog": 4, "in_flight": 2}, "cycle": {"seconds_last": None}})
    page, content_type = metrics.render()
    assert b"burst_backlog_items 4.0" in page
    assert b"burst_in_flight_items 2.0" in page
    assert content_type.startswith("text/plain")


def test_events_that_no_metric_is_made_of_and_facts_that_are_missing_do_no_harm() -> None:
    metrics = Metrics()
    metrics("pod.charged", AT, {})
    for event in ("item.received", "item.done", "batch.launched", "batch.held", "attempt.closed", "ledger.written"):
        metrics(event, AT, {})
    assert value(metrics, "burst_batches_held_total", reason="other") == 1
