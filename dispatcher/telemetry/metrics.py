"""Metrics for Prometheus, kept from the events and from the status, so that nobody who decides has to count.

Decides which numbers there are and under which labels; labels are the core's enums and the operator's own names, never
item or batch ids, so that there are few of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dispatcher.core.units import to_text

_WAIT_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
_RUN_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_REMEMBERED_MAX = 200_000
_REST = "other"


class Metrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self._received = counter("items_received", "Work items received.", "task", "tenant")
        self._settled = counter("items_settled", "Work items settled: done, dead_lettered or rejected.", "outcome")
        self._launched = counter("batches_launched", "Batches launched.", "placement")
        self._held = counter("batches_held", "Times that a batch was held, by reason.", "reason")
        self._retried = counter(
            "items_retried", "Retries, by cause and by whose allowance they count.", "cause", "allowance"
        )
        self._cost = counter("cost_usd", "Dollars charged for closed attempts.", "placement")
        self._set_aside = counter("set_aside_usd", "Dollars once set aside for attempts that are closed.", "placement")
        self._outcomes = counter("outcomes", "Outcomes told to senders: sent, or given_up.", "result")
        self._owed = gauge("outcomes_owed", "Outcomes that reply queues have not taken yet.")
        self._alarms = counter("alarms", "Things that a person must look at.")
        self._backlog = gauge("backlog_items", "Items known and not launched.")
        self._in_flight = gauge("in_flight_items", "Items launched and not finished.")
        self._leading = gauge("leading", "1 while this service leads.")
        self._cycle_seconds = gauge("cycle_seconds", "How long the last cycle took.")
        self._budget = gauge(
            "budget_usd", "Dollars of a budget's present window: limit, spent, reserved.", "budget", "owner", "kind"
        )
        self._addresses = gauge("subnet_addresses", "Addresses of the virtual node's subnet: usable, in_use.", "kind")
        self._leaked = gauge("leaked_groups", "Container groups that bill on without a pod.")
        self._leak_cost = counter(
            "leak_cost_usd", "Dollars that groups without a pod were charged, once each has ended."
        )
        self._circuit = gauge("circuit_open", "1 while the virtual node is left alone after failures of its own.")
        self._nodes_wanted = gauge("nodes_wanted", "Nodes that the work deserves, where an autoscaler is to follow it.")
        self._queue_wait = self._histogram(
            "queue_wait_seconds", "From enqueueing to the launch that led to success.", _WAIT_BUCKETS, "placement"
        )
        self._run_time = self._histogram(
            "run_seconds", "From the launch of an item's last attempt to its success.", _RUN_BUCKETS, "placement"
        )
        self._launched_at: OrderedDict[str, datetime] = OrderedDict()
        self._handlers: Mapping[str, Callable[[datetime, Mapping[str, Any]], None]] = {
            "item.received": self._on_received,
            "item.rejected": self._on_rejected,
            "item.done": self._on_done,
            "item.dead_lettered": self._on_dead_lettered,
            "item.retried": self._on_retried,
            "batch.launched": self._on_launched,
            "batch.held": lambda _, facts: self._held.labels(_label(facts, "reason")).inc(),
            "outcome.sent": lambda *_: self._outcomes.labels("sent").inc(),
            "outcome.given_up": lambda *_: self._outcomes.labels("given_up").inc(),
            "attempt.closed": self._on_closed,
            "ledger.written": self._on_ledger,
            "leak.resolved": lambda _, facts: self._leak_cost.inc(max(0.0, float(facts.get("cost_usd") or 0))),
            "circuit.opened": lambda *_: self._circuit.set(1),
            "circuit.closed": lambda *_: self._circuit.set(0),
            "alarm.raised": lambda *_: self._alarms.inc(),
        }

    def __call__(self, event: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Counts one event; events that no metric is made of pass."""
        handler = self._handlers.get(event)
        if handler is not None:
            handler(at, facts)

    def observe(self, status: Mapping[str, Any]) -> None:
        """Sets the gauges from the reconciler's status."""
        items = status.get("items", {})
        self._backlog.set(items.get("backlog", 0))
        self._in_flight.set(items.get("in_flight", 0))
        self._leading.set(1 if status.get("leading") else 0)
        self._cycle_seconds.set(status.get("cycle", {}).get("seconds_last") or 0)
        self._owed.set((status.get("outcomes") or {}).get("owed", 0))
        wanted = status.get("nodes_wanted")
        if wanted is not None:
            self._nodes_wanted.set(wanted["nodes"])
        subnet = status.get("subnet") or {}
        for kind in ("usable", "in_use"):
            if kind in subnet:
                self._addresses.labels(kind).set(subnet[kind])

    def render(self) -> tuple[bytes, str]:
        """The page that Prometheus reads, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_received(self, _at: datetime, facts: Mapping[str, Any]) -> None:
        self._received.labels(_label(facts, "task"), _label(facts, "tenant")).inc()

    def _on_rejected(self, _at: datetime, _facts: Mapping[str, Any]) -> None:
        self._settled.labels("rejected").inc()

    def _on_launched(self, at: datetime, facts: Mapping[str, Any]) -> None:
        self._launched.labels(_label(facts, "placement")).inc()
        self._launched_at[str(facts.get("job"))] = at
        if len(self._launched_at) > _REMEMBERED_MAX:
            self._launched_at.popitem(last=False)

    def _on_done(self, at: datetime, facts: Mapping[str, Any]) -> None:
        self._settled.labels("done").inc()
        launched_at = self._launched_at.get(str(facts.get("job")))
        if launched_at is None:
            return  # launched before this service started
        placement, ran = _label(facts, "placement"), (at - launched_at).total_seconds()
        self._run_time.labels(placement).observe(max(0.0, ran))
        if facts.get("waited_seconds") is not None:
            self._queue_wait.labels(placement).observe(max(0.0, float(facts["waited_seconds"]) - ran))

    def _on_dead_lettered(self, _at: datetime, _facts: Mapping[str, Any]) -> None:
        self._settled.labels("dead_lettered").inc()

    def _on_retried(self, _at: datetime, facts: Mapping[str, Any]) -> None:
        self._retried.labels(_label(facts, "cause"), _label(facts, "allowance")).inc()

    def _on_closed(self, _at: datetime, facts: Mapping[str, Any]) -> None:
        self._launched_at.pop(str(facts.get("job")), None)
        for counter, fact in ((self._cost, "cost_usd"), (self._set_aside, "reserved_usd")):
            counter.labels(_label(facts, "placement")).inc(max(0.0, float(facts.get(fact) or 0)))

    def _on_ledger(self, at: datetime, facts: Mapping[str, Any]) -> None:
        for kind, fact in (("usable", "addresses_usable"), ("in_use", "addresses_in_use")):
            if facts.get(fact) is not None:
                self._addresses.labels(kind).set(float(facts[fact]))
        self._leaked.set(sum(1 for leak in facts.get("leaks", ()) if leak.get("bills")))
        for account in facts.get("accounts", ()):
            start, end = account.get("window") or ("", "")
            if start <= to_text(at) < end:
                self._set_account(account)

    def _set_account(self, account: Mapping[str, Any]) -> None:
        for kind in ("limit", "spent", "reserved"):
            amount = account.get(f"{kind}_usd")
            if amount is not None:
                self._budget.labels(_label(account, "budget"), _label(account, "owner"), kind).set(float(amount))

    # --- making them ------------------------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="burst", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="burst", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace="burst", registry=self.registry, buckets=buckets)


def _label(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    return _REST if value is None or value == "" else str(value)
