"""What nobody can be cheaper than: the offline optimum of a problem that is easier than the real one in every respect.

Everything is known beforehand; nodes can be had in parts, start on the minute and early enough; work flows, so that it
can be stopped and moved between places at no cost; container groups start in no time. What remains is true of every
policy that meets the objective: work cannot run before it came, nor much later than its objective allows; a node that
is started costs its start-up and the delay after it was last needed. The cheapest such flow is a linear program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog  # type: ignore[import-untyped]
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]

from dispatcher.simulator.economy.nodes import EARLIEST
from dispatcher.simulator.economy.workload import Workload
from dispatcher.simulator.economy.world import World

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
BUCKET_SECONDS = 60.0


def lower_bound_usd(world: World) -> float:
    """The bound, in dollars, for work of tasks of one size with an objective."""
    work = world.workload
    slots = min(world.slots(task) for task in range(len(world.tasks)))
    slack = max(t.start_by.total_seconds() if t.start_by else 0.0 for t in world.tasks)
    pod = min(world.virtual_rates) / 1e12
    node = float(world.node_second_picos) / 1e12
    start = (
        EARLIEST * world.scaling.start_up.total_seconds() + world.scaling.scale_down_after.total_seconds()
    ) * node  # fmt: skip
    early, late = _done(work, 0.0), _done(work, slack + 1.0)
    count = max(len(early), len(late))
    early = np.pad(early, (0, count - len(early)), mode="edge")
    late = np.pad(late, (0, count - len(late)), mode="edge")
    return _solve(early, late, slots, node * BUCKET_SECONDS, pod * BUCKET_SECONDS, start)


def _done(work: Workload, delay: float) -> Floats:
    """Pod-seconds of work done by the end of each bucket, if every item starts so long after it came."""
    at: Floats = np.frombuffer(work.at, dtype=np.float64) + delay
    end: Floats = at + np.frombuffer(work.run, dtype=np.float64)
    edges: Floats = np.arange(1, int(end.max() // BUCKET_SECONDS) + 2, dtype=np.float64) * BUCKET_SECONDS
    # Work done by t = sum over items of clip(t - at, 0, run) = sum of (t - at)+ less sum of (t - end)+.
    return _ramps(np.sort(at), edges) - _ramps(np.sort(end), edges)


def _ramps(begins: Floats, edges: Floats) -> Floats:
    sums = np.concatenate(([0.0], np.cumsum(begins)))
    index = np.searchsorted(begins, edges)
    return np.asarray(index * edges - sums[index])


def _solve(
    early: Sequence[float] | Floats,
    late: Sequence[float] | Floats,
    slots: int,
    node: float,
    pod: float,
    start: float,
) -> float:
    """Columns: nodes there, nodes started, pod-equivalents on nodes, pods elsewhere; one of each a bucket."""
    n = len(early)
    there, started, used, away = (np.arange(n) + part * n for part in range(4))
    rows: list[Integers] = []
    columns: list[Integers] = []
    values: list[Floats] = []
    limits: list[Floats] = []
    made = 0

    def add(terms: list[tuple[Integers, float]], limit: object) -> None:
        nonlocal made
        for column, value in terms:
            keep = column >= 0
            rows.append((np.arange(n) + made)[keep])
            columns.append(column[keep])
            values.append(np.full(int(keep.sum()), value))
        limits.append(np.broadcast_to(np.asarray(limit, dtype=np.float64), (n,)))
        made += n

    before = np.where(np.arange(n) > 0, there - 1, -1)
    add([(there, 1.0), (before, -1.0), (started, -1.0)], 0.0)
    add([(used, 1.0), (there, -float(slots))], 0.0)
    # The work done by the end of each bucket, as a column of its own, keeps the matrix sparse.
    done = np.arange(n) + 4 * n
    done_before = np.where(np.arange(n) > 0, done - 1, -1)
    add([(done, 1.0), (done_before, -1.0), (used, -BUCKET_SECONDS), (away, -BUCKET_SECONDS)], 0.0)
    matrix = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(made, 5 * n))
    cost = np.concatenate((np.full(n, node), np.full(n, start), np.zeros(n), np.full(n, pod), np.zeros(n)))
    bounds = np.empty((5 * n, 2))
    bounds[:, 0], bounds[:, 1] = 0.0, np.inf
    bounds[4 * n :, 0], bounds[4 * n :, 1] = np.asarray(late), np.maximum(np.asarray(early), np.asarray(late))
    result = linprog(cost, A_ub=matrix.tocsr(), b_ub=np.concatenate(limits), bounds=bounds, method="highs")
    if not result.success:
        raise RuntimeError(f"the bound was not found: {result.message}")
    return float(result.fun)
