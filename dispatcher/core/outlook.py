"""The near future of the nodes, for one plan: how much work they will start in time, and how much they may take.

Decides how many starts may be hoped for until an instant (pods that end, nodes that are under way), promises each of
them once, and how many pods fit under the number of nodes that is wanted. Knows nothing of the virtual node's room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from dispatcher.core.baseline import MILLI
from dispatcher.core.experience import Experience, milli_nodes
from dispatcher.core.policy import Policy
from dispatcher.core.pricing import SECONDS_AN_HOUR
from dispatcher.core.work import Placement, Task

UNKNOWN_START = timedelta(seconds=60)
"""How long a container group takes to start as long as nobody has seen one: in a virtual network 20 to 110 s."""
START_PERCENT = 99
"""The start that is reckoned with: of 100 groups 99 start within it."""


class Outlook:
    """What may be expected of the nodes, used up as a plan goes on."""

    def __init__(
        self,
        policy: Policy,
        experience: Experience | None,
        nodes_there: int,
        on_nodes: Mapping[str, int],
        now: datetime,
    ) -> None:
        """``on_nodes``: pods on nodes, or about to be, by task. No experience: nothing is expected, nothing capped."""
        self._policy = policy
        self._experience = experience
        self._there = nodes_there
        self._on_nodes = Counter(on_nodes)
        self._now = now
        self._promised: Counter[str] = Counter()
        self.kept_off = experience.kept_off if experience is not None else frozenset()

    def took(self, task: Task, pods: int) -> None:
        """So many more pods of it go to the nodes."""
        self._on_nodes[task.name] += pods

    def most_on_nodes(self, task: Task, waiting: int) -> int | None:
        """How many more of its pods the nodes may take while so much waits; None: as many as fit.

        Nodes beyond those that are wanted are to go. One of them is filled once more only where the work at hand alone
        would cost more on the virtual node than the node does in the same time.
        """
        experience = self._experience
        baseline = experience.baseline if experience is not None else None
        spills = self._policy.virtual_node is not None and Placement.VIRTUAL_NODE in task.placements
        if experience is None or baseline is None or baseline.wanted is None or not spills:
            return None
        slots = baseline.price.pods(task.requests)
        if not slots or task.name in self.kept_off:
            return None
        used = milli_nodes(self._on_nodes, self._policy.tasks, baseline.price)
        free = max(0, baseline.wanted.nodes * MILLI - used) * slots // MILLI
        rest = waiting - free
        if rest <= 0:
            return free
        node_second = -(-baseline.price.per_hour.picos // SECONDS_AN_HOUR)
        worth = -(-node_second // max(1, experience.pod_rate(task).picos))
        surplus = max(0, self._there - max(baseline.wanted.nodes, -(-used // MILLI)))
        full, part = divmod(rest, slots)
        return free + min(surplus, full + (1 if part >= worth else 0)) * slots

    def start_there(self, task: Task) -> timedelta:
        """How long a pod of it takes to start on the virtual node."""
        if self._experience is None:
            return UNKNOWN_START
        return self._experience.learned.start(task.name, Placement.VIRTUAL_NODE, START_PERCENT, UNKNOWN_START)

    def spill_by(self, task: Task, came: datetime) -> datetime | None:
        """When an item that came then must spill so that its pod has started by the objective; None: it has none."""
        if task.start_by is None:
            return None
        return max(came, came + task.start_by - self.start_there(task))

    def hoped_for(self, task: Task, until: datetime) -> int:
        """How many of its pods nodes will have started by then, beside those that are promised already."""
        return max(0, self._ends(task, until) + self._arrivals(task, until) - self._promised[task.name])

    def promise(self, task: Task, starts: int) -> None:
        """So many starts are reckoned with and may be hoped for by nobody else."""
        self._promised[task.name] += starts

    def next_end(self, task: Task) -> timedelta | None:
        """After how long the next of its pods on nodes will have ended, on the mean; None: nobody knows."""
        mean = self._experience.learned.mean_run(task.name) if self._experience is not None else None
        running = self._on_nodes[task.name]
        return mean / running if mean is not None and running else None

    def _ends(self, task: Task, until: datetime) -> int:
        mean = self._experience.learned.mean_run(task.name) if self._experience is not None else None
        if not mean or until <= self._now:
            return 0
        return self._on_nodes[task.name] * (until - self._now) // mean

    def _arrivals(self, task: Task, until: datetime) -> int:
        """Pods that nodes which were asked for, and are not there yet, will have started by then."""
        baseline = self._experience.baseline if self._experience is not None else None
        if baseline is None or baseline.wanted is None:
            return 0
        coming = baseline.wanted.nodes - self._there
        if coming <= 0 or baseline.wanted.since + baseline.pool.start_up > until:
            return 0
        return coming * baseline.price.pods(task.requests)
