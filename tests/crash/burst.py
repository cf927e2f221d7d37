"""Forty items that bring about everything worth a crash: both placements, retries, dead letters, and work on hold.

Decides messages, tasks and settings, and how each item has to end. All of it is quick: pods run for a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from testbed.behaviour import PREFIX

ITEMS = 40
_PLAIN, _FLAKY, _BROKEN = 28, 6, 4
LOCK_SECONDS = 5
LEASE_SECONDS = 2
TAIL_SECONDS = 1
SUBNET = "10.240.0.0/28"
ADDRESSES_USABLE = 11
"""Azure keeps five of the sixteen."""
LIMIT_USD = Decimal("0.012")
"""Too little for all that wants to spill over at once: some of it is held."""
PER_CPU_SECOND_USD = Decimal("0.000012")
PER_GB_SECOND_USD = Decimal("0.0000013")
RATE_USD = PER_CPU_SECOND_USD + PER_GB_SECOND_USD
"""What a second of one pod costs: each asks for one core and one gigabyte."""


def messages() -> dict[str, bytes]:
    """Bodies by message id."""
    kinds = ["plain"] * _PLAIN + ["flaky"] * _FLAKY + ["broken"] * _BROKEN
    bodies = {
        f"{kind}-{number}": json.dumps({"task": kind, "params": {}}).encode() for number, kind in enumerate(kinds)
    }
    bodies["poison-json"] = b"{not json"
    bodies["poison-task"] = json.dumps({"task": "nobody-knows-it"}).encode()
    return bodies


def must_die() -> frozenset[str]:
    """The items that belong into the dead-letter queue: those that always fail, and those that are no work."""
    return frozenset(item for item in messages() if item.startswith(("broken", "poison")))


def _task(name: str, namespace: str, **settings: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "tests/sleep:1",
        "command": ["sleep"],
        "namespace": namespace,
        "labels": {f"{PREFIX}run-seconds": "1"},
        "resources": {"cpu": "1", "memory": "1G"},
        "item_timeout": "10s",
        "start_deadline": "30s",
        "spill_after": "1s",
        "linger": "2s",
        **settings,
    }


def tasks(namespace: str) -> list[dict[str, Any]]:
    """The second pod of each Job of ``flaky`` fails: alone in its next attempt, its item does better."""
    quick = {f"{PREFIX}run-seconds": "0"}
    return [
        _task("plain", namespace, batch_size_max=14),
        _task(
            "flaky",
            namespace,
            batch_size_max=3,
            placements=["virtual_node"],
            labels={**quick, f"{PREFIX}exit-code.1": "3"},
        ),
        _task(
            "broken",
            namespace,
            batch_size_max=4,
            backoff_limit=1,
            placements=["virtual_node"],
            labels={**quick, f"{PREFIX}exit-code": "3"},
        ),
    ]


def write_config(
    folder: Path, *, own: str, namespace: str, queue: str, kubeconfig: Path, connection_string: str
) -> None:
    """A configuration for one run."""
    folder.mkdir(parents=True)
    (folder / "connection-string").write_text(connection_string, encoding="utf-8")
    dispatcher: Mapping[str, Any] = {
        "service": {"web_host": "127.0.0.1", "web_port": 0},
        "queues": [{"name": queue, "tasks": ["plain", "flaky", "broken"]}],
        "service_bus": {"connection_string_file": "connection-string", "lock_duration": f"{LOCK_SECONDS}s"},
        "kubernetes": {
            "namespace": own,
            "instance": own,
            "kubeconfig": str(kubeconfig),
            "lease_duration": f"{LEASE_SECONDS}s",
            "request_timeout": "3s",
        },
        "node_pool": {"pods_max": 14},
        "virtual_node": {
            "subnet": SUBNET,
            "release_hold": "1s",
            "tail": f"{TAIL_SECONDS}s",
            "creates_per_5min": 100_000,
            "creates_per_hour": 100_000,
            "deletes_per_5min": 100_000,
            "deletes_per_hour": 100_000,
        },
        "prices": {
            "per_cpu_second_usd": str(PER_CPU_SECOND_USD),
            "per_gb_second_usd": str(PER_GB_SECOND_USD),
        },
        "budgets": [{"name": "all", "scope": "all", "window": "week", "limit_usd": str(LIMIT_USD)}],
        "retry": {"delay_min": "200ms", "delay_max": "1s"},
        "timing": {"lock_hold_max": "1s", "sweep_every": "2s"},
    }
    for name, content in (("dispatcher.yaml", dispatcher), ("tasks.yaml", {"tasks": tasks(namespace)})):
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
