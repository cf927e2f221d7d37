"""A scenario file: what arrives, on which nodes and at which prices, under which limits, and what is expected of it.

Decides what a scenario may look like and tells every mistake with its field. Knows nothing of how one is run.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from dispatcher.core.budgets import Budget
from dispatcher.core.policy import GuardPolicy, NodePoolPolicy, Policy
from dispatcher.core.work import Placement, Task
from dispatcher.errors import BadConfiguration
from dispatcher.settings.models import AutoscalingSettings, BudgetSettings, PriceSettings, VirtualNodeSettings
from dispatcher.settings.tasks import ResourceSettings, Section
from dispatcher.settings.values import Count, Duration, PositiveCount, PositiveDuration

Advice = Literal["virtual_node", "nodes", "autoscaler", "refused"]


class RunSettings(Section):
    """How long items run."""

    median: PositiveDuration
    """Half of them run shorter."""
    spread: float = Field(default=0.3, ge=0.0, le=3.0)
    """The deviation of the logarithm: 0.3 is even, 1.3 has a heavy tail."""
    longest: PositiveDuration = timedelta(hours=1)
    """None runs longer."""


class BurstSettings(Section):
    """Arrivals beyond the steady ones, at times that are known or that nobody knows."""

    per_second: float = Field(gt=0.0)
    """Arrivals a second while it lasts."""
    lasts: PositiveDuration
    """How long each lasts."""
    at: tuple[Duration, ...] = ()
    """When they begin, from the beginning of the scenario."""
    about_every: PositiveDuration | None = None
    """Or: so far apart on the mean, at times drawn from the seed."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.at) == (self.about_every is not None):
            raise ValueError("needs exactly one of at and about_every; write for example at: [10m, 40m]")
        return self


class ScenarioTask(Section):
    """One kind of work, and how it arrives."""

    name: str = Field(min_length=1)
    """What results call it."""
    resources: ResourceSettings
    """What one pod requests."""
    runs: RunSettings
    """How long items run."""
    steady_per_second: float = Field(default=0.0, ge=0.0)
    """Arrivals a second, all the time."""
    day_peak_per_second: float | None = Field(default=None, ge=0.0)
    """At the peak of a day whose lowest point is steady_per_second; empty: no day is seen."""
    bursts: tuple[BurstSettings, ...] = ()
    """On top of it."""
    start_by: PositiveDuration | None = None
    """The objective on the wait."""
    spill_after: Duration = timedelta(0)
    """How long an item waits for the nodes before it may spill."""
    parallelism_max: PositiveCount = 10_000
    """Most pods at once."""
    placements: tuple[Placement, ...] = (Placement.NODE_POOL, Placement.VIRTUAL_NODE)
    """Where it may run."""

    def task(self, item_timeout: timedelta) -> Task:
        """The core's value."""
        return Task(
            name=self.name,
            image="simulated",
            command=("run",),
            requests=self.resources.resources(),
            item_timeout=item_timeout,
            parallelism_max=self.parallelism_max,
            placements=self.placements,
            spill_after=self.spill_after,
            start_by=self.start_by,
        )


class Expected(Section):
    """The bounds that a run of the product must keep."""

    advice: Advice | None = None
    """What must be advised."""
    cost_usd_max: float | None = Field(default=None, gt=0.0)
    """The most that all of it may cost."""
    wait_p95_max: PositiveDuration | None = None
    """19 of 20 items have started within it."""
    missed_percent_max: float | None = Field(default=None, ge=0.0, le=100.0)
    """The greatest share of items that may miss their objective."""
    addresses_max: Count | None = None
    """The most addresses that may be in use at once."""
    budget_percent_max: float | None = Field(default=None, ge=0.0)
    """The most that may be spent of any budget's limit."""


class ScenarioSettings(Section):
    """One scenario."""

    about: str = Field(min_length=1)
    """What it plays, in one sentence."""
    seed: Count = 1
    """What arrivals and run times are drawn from."""
    lasts: PositiveDuration = timedelta(hours=6)
    """For how long work arrives."""
    tasks: tuple[ScenarioTask, ...] = ()
    """The work."""
    manifest: str | None = None
    """Instead of work: a manifest beside this file, which the judge is asked about."""
    nodes: AutoscalingSettings = AutoscalingSettings(enabled=True)
    """Nodes that an autoscaler starts and removes."""
    prices: PriceSettings = PriceSettings(node_size="D8s_v5")
    """What nodes and container groups cost."""
    virtual_node: VirtualNodeSettings | None = None
    """Subnet and quotas; empty: Azure's defaults on a /24."""
    budgets: tuple[BudgetSettings, ...] = ()
    """What may be spent."""
    expected: Expected = Expected()
    """What must come of it."""

    @model_validator(mode="after")
    def _work_or_manifest(self) -> Self:
        if bool(self.tasks) == (self.manifest is not None):
            raise ValueError("needs either tasks or a manifest; write what arrives under tasks")
        return self

    def policy(self) -> Policy:
        """The core's value. Raises BadConfiguration where there is no price of a node."""
        price = self.prices.node()
        scaling = self.nodes.model_copy(update={"enabled": True}).policy()
        if price is None:
            raise BadConfiguration(["prices: no price of a node is known for the region; write node_hour_usd"])
        place = self.virtual_node or VirtualNodeSettings()
        budgets: tuple[Budget, ...] = tuple(entry.budget() for entry in self.budgets)
        return Policy(
            tasks={entry.name: entry.task(entry.runs.longest) for entry in self.tasks},
            node_pool=NodePoolPolicy(price=price, autoscaling=scaling),
            virtual_node=place.policy(self.prices.rates()),
            budgets=budgets,
            guard=GuardPolicy(),
            launches_per_cycle_max=1000,
        )


def read_scenario(path: Path) -> ScenarioSettings:
    """Reads a scenario file. Raises BadConfiguration with every mistake in it."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration([f"{path} cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfiguration([f"{path} is no YAML: {error}"]) from None
    try:
        return ScenarioSettings.model_validate(content if isinstance(content, dict) else {})
    except ValidationError as error:
        raise BadConfiguration(
            [f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        ) from None
