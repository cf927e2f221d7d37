"""What a burst is made of, what Azure is to be like, and how the dispatcher is told of it.

Decides messages from a seed, tasks, the options of the stand-in for ACI, and the settings that agree with them. Of the
clocks only three are shortened, on both sides alike: the windows of the rates, the release of addresses, and the
time-out of provisioning. Run times, metering and the tail are what they are.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from testbed.aci.options import Options
from testbed.behaviour import PREFIX
from testbed.virtual import RESOURCE_GROUP, Aci
from tests.e2e.cluster_service import ClusterService
from tests.e2e.local_service import QUEUE


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work. Each is a task of its own, since what a pod does stands in the environment of its task."""

    name: str
    share: int
    """Of a hundred items, about."""
    run_seconds: int
    cpu: str = "500m"
    memory: str = "1G"
    exits: Mapping[str, str] | None = None
    """What its containers are told of their exit code; None: 0."""
    backoff_limit: int = 3
    batch_size_max: int = 25
    spills_only: bool = False

    def task(self, scenario: Scenario, namespace: str) -> dict[str, Any]:
        """As a configuration has it."""
        return {
            "name": self.name,
            "image": "tests/work:1",
            "command": ["work"],
            "namespace": namespace,
            "env": {"STANDIN_RUN_SECONDS": str(scenario.run_seconds or self.run_seconds), **(self.exits or {})},
            "labels": {f"{PREFIX}run-seconds": str(scenario.run_seconds or self.run_seconds)},
            "resources": {"cpu": self.cpu, "memory": self.memory},
            "item_timeout": "60s",
            "start_deadline": f"{scenario.start_deadline_seconds}s",
            "backoff_limit": self.backoff_limit,
            "batch_size_max": scenario.batch_size_max or self.batch_size_max,
            "parallelism_max": scenario.parallelism_max,
            "spill_after": "500ms",
            "linger": "1s",
            **({"placements": ["virtual_node"]} if self.spills_only or scenario.spills_only else {}),
        }


KINDS = (
    Kind("short", 70, 4),
    Kind("long", 24, 9, cpu="1", memory="2G"),
    # The second pod of each Job fails. Alone in its next attempt, its item does better.
    Kind("flaky", 4, 2, exits={"STANDIN_EXIT_CODE_1": "3"}, batch_size_max=4, spills_only=True),
    Kind("broken", 2, 2, exits={"STANDIN_EXIT_CODE": "3"}, backoff_limit=1, batch_size_max=3, spills_only=True),
)
MUST_DIE = "broken"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One burst, and the Azure that it meets."""

    items: int
    seed: int = 1
    kinds: tuple[Kind, ...] = KINDS
    aci: Options = Options(subnet="10.240.0.0/27")
    address_headroom: int = 0
    release_hold_seconds: float = 300.0
    tail_seconds: int = 180
    limit_usd: Decimal = Decimal(1)
    spills_only: bool = False
    run_seconds: int | None = None
    """How long every pod runs; None: as its kind says."""
    batch_size_max: int | None = None
    parallelism_max: int = 100
    start_deadline_seconds: int = 120
    killed_after: int | None = None
    """When so many items are done the dispatcher is killed, and another one takes over."""
    reader: bool = False
    """The dispatcher may read from ACI what its groups' own times are."""
    on_virtual_node_min: int = 0
    used_min: Decimal | None = None
    """Such a part of the addresses, and of the bucket that binds, has to be used at one time."""
    circuit: Mapping[str, Any] | None = None
    retry_delay_max: str = "5s"
    seconds_max: float = 1200.0

    @property
    def addresses_allowed(self) -> int:
        """How many the dispatcher may hold."""
        return self.aci.addresses - self.address_headroom

    def messages(self) -> dict[str, dict[str, Any]]:
        """Bodies by message id; the same seed makes the same burst."""
        chance = random.Random(self.seed)
        names, shares = [kind.name for kind in self.kinds], [kind.share for kind in self.kinds]
        drawn = chance.choices(names, shares, k=self.items)
        return {f"{name}-{number}": {"task": name, "params": {}} for number, name in enumerate(drawn)}

    def write_config(self, service: ClusterService, aci: Aci) -> None:
        """In place of the service's own: the cluster is its, everything else is said here."""
        folder = service.folder / "config"
        own = yaml.safe_load((folder / "dispatcher.yaml").read_text(encoding="utf-8"))
        options, names = self.aci, [kind.name for kind in self.kinds]
        settings: dict[str, Any] = {
            **{section: own[section] for section in ("service", "kubernetes", "service_bus")},
            "queues": [{"name": QUEUE, "tasks": names}],
            "virtual_node": {
                "subnet": options.subnet,
                "address_headroom": self.address_headroom,
                "release_hold": _milliseconds(self.release_hold_seconds),
                "groups_max": options.groups_max,
                "cores_max": int(options.cores_max),
                "creates_per_5min": options.creates_per_5_minutes,
                "creates_per_hour": options.creates_per_hour,
                "deletes_per_5min": options.deletes_per_5_minutes,
                "deletes_per_hour": options.deletes_per_hour,
                "rate_window_short": _milliseconds(options.five_minutes),
                "rate_window_long": _milliseconds(options.hour),
                "tail": f"{self.tail_seconds}s",
            },
            "prices": {
                "per_cpu_second_usd": options.usd_per_vcpu_second,
                "per_gb_second_usd": options.usd_per_gb_second,
            },
            "budgets": [{"name": "all", "scope": "all", "window": "week", "limit_usd": str(self.limit_usd)}],
            "retry": {"delay_min": "1s", "delay_max": self.retry_delay_max},
            "timing": {"lock_hold_max": "2s", "sweep_every": "30s"},
        }
        if self.circuit is not None:
            settings["circuit"] = dict(self.circuit)
        if self.reader:
            settings["azure"] = _account(aci, folder)
        tasks = [kind.task(self, service.tasks) for kind in self.kinds]
        for name, content in (("dispatcher.yaml", settings), ("tasks.yaml", {"tasks": tasks})):
            (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _account(aci: Aci, folder: Path) -> dict[str, Any]:
    token = folder / "reader-token"
    token.write_text(aci.options.reader_token, encoding="utf-8")
    return {
        "subscription": aci.options.subscription,
        "resource_group": RESOURCE_GROUP,
        "region": aci.options.location,
        "token_file": str(token),
        "endpoint": aci.url,
        "look_every": "5s",
        "requests_per_second": 20,
    }


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


WINDOWS_SHORTER = 8
"""5 minutes become 37.5 s, the hour 7.5 minutes."""
RELEASE_SHORTER = 20
"""The 60 s for which the stand-in keeps an address become 3 s, the 5 minutes of the dispatcher's hold 15 s."""


def burst(items: int, seed: int, *, reader: bool, killed_after: int | None) -> Scenario:
    """Default quotas and a subnet of 27 addresses, and more work than either takes at once."""
    aci = Options(
        subnet="10.240.0.0/27",
        rate_scale=WINDOWS_SHORTER,
        release_seconds=60 / RELEASE_SHORTER,
        provisioning_timeout_seconds=1800 / WINDOWS_SHORTER,
    )
    return Scenario(
        items,
        seed,
        aci=aci,
        release_hold_seconds=300 / RELEASE_SHORTER,
        reader=reader,
        killed_after=killed_after,
        on_virtual_node_min=items * 2 // 3,
        used_min=Decimal("0.9"),
    )


def wide(pods: int, seed: int) -> Scenario:
    """All of it at once, with Azure's quotas raised: only the subnet bounds it."""
    aci = Options(
        subnet="10.240.0.0/24", groups_max=1000, cores_max=1000,
        creates_per_5_minutes=2000, creates_per_hour=5000, deletes_per_5_minutes=2000, deletes_per_hour=5000,
        release_seconds=60 / RELEASE_SHORTER,
    )  # fmt: skip
    return Scenario(
        pods,
        seed,
        kinds=KINDS[:1],
        aci=aci,
        address_headroom=20,
        release_hold_seconds=300 / RELEASE_SHORTER,
        limit_usd=Decimal(5),
        spills_only=True,
        run_seconds=90,
        batch_size_max=100,
        parallelism_max=pods,
        start_deadline_seconds=300,
        on_virtual_node_min=pods,
    )


def sample(items: int, seed: int) -> Scenario:
    """A small burst that meets every limit, soon over."""
    aci = Options(
        subnet="10.240.0.0/28", rate_scale=20, release_seconds=1, prepare_seconds=0.2, image_mb=1,
        groups_max=10, creates_per_5_minutes=20,
    )  # fmt: skip
    return Scenario(
        items,
        seed,
        aci=aci,
        release_hold_seconds=6,
        tail_seconds=6,
        run_seconds=1,
        killed_after=items // 3,
        spills_only=True,
        on_virtual_node_min=items * 2 // 3,
        seconds_max=300,
    )


def refusals(items: int, seed: int) -> Scenario:
    """Small work for an Azure that will refuse all of it for a while."""
    return Scenario(
        items,
        seed,
        kinds=KINDS[:1],
        aci=Options(subnet="10.240.0.0/27", release_seconds=60 / RELEASE_SHORTER),
        release_hold_seconds=300 / RELEASE_SHORTER,
        spills_only=True,
        run_seconds=3,
        batch_size_max=10,
        circuit={"failures": 5, "cool_down_min": "10s", "cool_down_max": "40s"},
        on_virtual_node_min=items,
    )
