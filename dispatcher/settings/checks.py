"""What only shows when several settings are looked at together.

Decides which combinations are mistakes (the service does not start) and which are warnings (it does, and a person
should know). Works on what could be read of a wrong file, so that these lines come in the same answer as all others.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dispatcher.core.budgets import Scope, WorstCase
from dispatcher.core.jobs import shape_of
from dispatcher.core.pricing import group_rate
from dispatcher.core.units import Money, Resources
from dispatcher.core.windows import WindowKind
from dispatcher.core.work import Placement
from dispatcher.settings.azure import AzureSettings
from dispatcher.settings.mistakes import Location, Mistake, did_you_mean, mapping_or_empty, path_text
from dispatcher.settings.models import (
    BudgetSettings,
    LocalSettings,
    PriceSettings,
    QueueSettings,
    ReportSettings,
    ServiceBusSettings,
    TimingSettings,
    VirtualNodeSettings,
)
from dispatcher.settings.tasks import TaskSettings
from dispatcher.settings.values import duration_text

CPU_STEP_MILLIS = 10
"""The virtual node's connector truncates CPU to 0.01 and would bill less than was asked for."""
NAMESPACE_LENGTH_MAX = 31
"""On the virtual node namespace and Job name together have at most 50 characters, 19 of which are the Job's name."""

Model = TypeVar("Model", bound=BaseModel)
_LENGTHS = (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH)


@dataclass(frozen=True)
class Pieces:
    """What could be read of a configuration, each entry with its position in the file."""

    queues: Sequence[tuple[int, QueueSettings]]
    budgets: Sequence[tuple[int, BudgetSettings]]
    tasks: Sequence[tuple[int, TaskSettings]]
    names: Mapping[str, Sequence[str | None]]
    """All names by section, also those of entries that have a mistake elsewhere."""
    service_bus: ServiceBusSettings
    reports: ReportSettings
    virtual_node: VirtualNodeSettings | None
    prices: PriceSettings
    timing: TimingSettings
    local: LocalSettings
    tenant_weights: Mapping[str, Any] = field(default_factory=dict)
    azure: AzureSettings | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Pieces:
        """Reads each section by itself; one that has a mistake counts as not written."""
        queues, budgets, tasks = (raw.get(key) for key in ("queues", "budgets", "tasks"))
        return cls(
            queues=list(_entries(QueueSettings, queues)),
            budgets=list(_entries(BudgetSettings, budgets)),
            tasks=list(_entries(TaskSettings, tasks)),
            names={"queues": _names(queues), "budgets": _names(budgets), "tasks": _names(tasks)},
            service_bus=_section(ServiceBusSettings, raw.get("service_bus")) or ServiceBusSettings(),
            reports=_section(ReportSettings, raw.get("reports")) or ReportSettings(),
            virtual_node=_section(VirtualNodeSettings, raw.get("virtual_node")),
            prices=_section(PriceSettings, raw.get("prices")) or PriceSettings(),
            timing=_section(TimingSettings, raw.get("timing")) or TimingSettings(),
            local=_section(LocalSettings, raw.get("local")) or LocalSettings(),
            tenant_weights=mapping_or_empty(raw.get("tenant_weights")),
            azure=_section(AzureSettings, raw.get("azure")),
        )

    @property
    def spills(self) -> bool:
        """Whether there is a virtual node to spill to."""
        return self.virtual_node is not None and self.virtual_node.enabled

    def worst_case_of_one_pod(self, task: TaskSettings) -> Money:
        """What has to be set aside before a single pod of the task may go to the virtual node."""
        node = self.virtual_node or VirtualNodeSettings()
        shape = shape_of(
            task.task(),
            placement=Placement.VIRTUAL_NODE,
            completions=1,
            parallelism=1,
            allowance_left=task.backoff_limit,
            items_per_pod=task.items_per_pod or 1,
        )
        group = node.policy_of_place().of_group(task.resources.resources())
        return WorstCase(shape, group_rate(group, self.prices.rates()), node.tail).total()


@dataclass(frozen=True)
class Context:
    """Where the configuration stands and what it is for."""

    folder: Path
    local: bool
    place_of: Callable[[Location], str]


def mistakes_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Everything that keeps the service from starting."""
    for check in (
        _duplicates,
        _unknown_tasks,
        _shared_event_types,
        _replies_to_work,
        _reports_that_nobody_hears,
        _budgets_for_nothing,
        _budgets_that_hold_for_ever,
        _the_same_budget_twice,
        _subnets,
        _tasks_on_the_virtual_node,
        _locks,
        _rate_windows,
        _broker_secret,
    ):
        yield from check(pieces, context)
    if context.local:
        yield from _commands(pieces, context)
        yield from _pods_that_fit_no_local_node(pieces, context)


def warnings_of(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Everything that a person should know, though the service starts."""
    for check in (
        _budgets_below_one_pod,
        _budgets_that_never_bind,
        _no_budget,
        _unused_tasks,
        _tenants_from_nowhere,
        _release_lag,
        _account_of_nothing,
    ):
        yield from check(pieces, context)


# --- mistakes -------------------------------------------------------------------------------------------------------


def _at(context: Context, location: Location, fault: str, remedy: str) -> Mistake:
    return Mistake(path_text(location), fault, remedy, context.place_of(location))


def _duplicates(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    for section, names in pieces.names.items():
        first: dict[str, int] = {}
        for position, name in enumerate(names):
            if name is None:
                continue
            known_as = name.lower()  # the broker does not tell large from small
            if known_as in first:
                fault = f"{name!r} is the name of {section}[{first[known_as]}] too"
                yield _at(context, (section, position, "name"), fault, "give each its own name")
            first.setdefault(known_as, position)


def _unknown_tasks(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    known = [name for name in pieces.names["tasks"] if name is not None]
    for position, queue in pieces.queues:
        for index, name in enumerate(queue.tasks):
            if name not in known:
                remedy = did_you_mean(name, known) if known else "define it in tasks.yaml"
                yield _at(context, ("queues", position, "tasks", index), f"there is no task {name!r}", remedy)


def _shared_event_types(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """An event is work for one task: which one, its type must tell."""
    owners = {task.name: task.name for _, task in pieces.tasks}
    for position, task in pieces.tasks:
        for index, event_type in enumerate(task.event_types):
            owner = owners.setdefault(event_type, task.name)
            if owner != task.name:
                fault = f"{event_type!r} is work for the task {owner!r} already"
                yield _at(context, ("tasks", position, "event_types", index), fault, "give each type to one task")


def _replies_to_work(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    work = {name.lower() for name in pieces.names["queues"] if name is not None}
    for position, queue in pieces.queues:
        for index, name in enumerate(queue.reply_to):
            if name.lower() in work:
                fault = f"{name!r} is a queue that work comes from: outcomes on it would be taken for messages"
                yield _at(context, ("queues", position, "reply_to", index), fault, "name a queue of its own")


def _budgets_that_hold_for_ever(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    yield from _too_small(pieces, context, only_there=True)


def _the_same_budget_twice(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """Two limits on the same money in the same window contradict each other, whatever they are called."""
    first: dict[tuple[object, ...], tuple[int, BudgetSettings]] = {}
    for position, budget in pieces.budgets:
        what = (budget.scope, budget.tenant, budget.task, budget.window, budget.time_zone, budget.business_hours)
        found, other = first.setdefault(what, (position, budget))
        if found != position and (other.limit_usd, other.when_exhausted) != (budget.limit_usd, budget.when_exhausted):
            fault = (
                f"{budget.limit_usd} contradicts the {other.limit_usd} of {other.name!r}, which counts the very same"
            )
            yield _at(context, ("budgets", position, "limit_usd"), fault, "keep one of the two")


def _reports_that_nobody_hears(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    queue = pieces.reports.queue
    for position, task in pieces.tasks:
        if task.items_per_pod != 1 and queue is None:
            fault = f"{task.items_per_pod or 'auto'} needs a queue on which pods report how each of their items ended"
            yield _at(context, ("tasks", position, "items_per_pod"), fault, "name one in reports.queue, or write 1")
        if task.items_per_pod is not None and task.items_per_pod > task.batch_size_max:
            fault = f"{task.items_per_pod} is more than batch_size_max, {task.batch_size_max}: no pod ever has so many"
            yield _at(context, ("tasks", position, "items_per_pod"), fault, "lower it, or raise batch_size_max")
    taken = {name.lower() for name in pieces.names["queues"] if name is not None}
    taken |= {name.lower() for _, each in pieces.queues for name in each.reply_to}
    if queue is not None and queue.lower() in taken:
        fault = f"{queue!r} is a queue of work or of outcomes already: reports on it would be taken for these"
        yield _at(context, ("reports", "queue"), fault, "name a queue of its own")


def _subnets(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    node = pieces.virtual_node
    if node is None:
        return
    for (_, one), (index, other) in combinations(enumerate(node.subnet), 2):
        if one.overlaps(other):
            remedy = "give each virtual node a subnet of its own"
            yield _at(context, ("virtual_node", "subnet", index), f"{other} overlaps {one}", remedy)
    if node.enabled and node.address_headroom >= node.addresses:
        subnets = ", ".join(map(str, node.subnet))
        fault = f"{node.address_headroom} leaves nothing of the {node.addresses} addresses that {subnets} gives"
        yield _at(context, ("virtual_node", "address_headroom"), fault, "lower it, or take a larger subnet")


def _tasks_on_the_virtual_node(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    for position, task in pieces.tasks:
        where = ("tasks", position)
        if Placement.VIRTUAL_NODE not in task.placements:
            continue
        if not pieces.spills and len(set(task.placements)) == 1:
            fault = "may only run on the virtual node, and there is none"
            yield _at(
                context, (*where, "placements"), fault, "add node_pool, or enable virtual_node in dispatcher.yaml"
            )
        if len(task.namespace) > NAMESPACE_LENGTH_MAX:
            room = f"the {NAMESPACE_LENGTH_MAX} characters that names of container groups leave"
            fault = f"{task.namespace!r} is longer than {room}"
            yield _at(context, (*where, "namespace"), fault, "use a shorter namespace")
        if task.resources.cpu % CPU_STEP_MILLIS:
            nearest = -(-task.resources.cpu // CPU_STEP_MILLIS) * CPU_STEP_MILLIS
            fault = f"{task.resources.cpu}m is not a multiple of {CPU_STEP_MILLIS}m, as the virtual node needs it"
            yield _at(context, (*where, "resources", "cpu"), fault, f"write {nearest}m")
        if pieces.virtual_node is not None:
            yield from _larger_than_azure_gives(task, pieces.virtual_node, where, context)


def _larger_than_azure_gives(
    task: TaskSettings, node: VirtualNodeSettings, where: Location, context: Context
) -> Iterator[Mistake]:
    remedy = "ask for less, or leave virtual_node out of its placements"
    if task.resources.cpu > node.pod_cpu_max:
        fault = f"{task.resources.cpu}m is more than the {node.pod_cpu_max}m of the largest container group"
        yield _at(context, (*where, "resources", "cpu"), fault, remedy)
    if task.resources.memory > node.pod_memory_max:
        wanted, largest = f"{task.resources.memory / 1e9:g}G", f"{node.pod_memory_max / 1e9:g}G"
        fault = f"{wanted} is more than the {largest} of the largest container group"
        yield _at(context, (*where, "resources", "memory"), fault, remedy)


def _locks(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    hold, lock = pieces.timing.lock_hold_max, pieces.service_bus.lock_duration
    if hold * 2 > lock:
        fault = f"{duration_text(hold)} is more than half of the lock duration of {duration_text(lock)}"
        yield _at(context, ("timing", "lock_hold_max"), fault, f"write at most {duration_text(lock / 2)}")


def _broker_secret(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    here: Location = ("service_bus", "connection_string")
    place = context.place_of(here)
    if pieces.service_bus.connection_string is not None and ".yaml" in place and not context.local:
        fault = "is a secret and stands in a file that is none"
        remedy = "set BURST_SERVICE_BUS__CONNECTION_STRING or connection_string_file"
        yield Mistake(path_text(here), fault, remedy, place)


def _commands(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    folder = working_dir(context.folder, pieces.local)
    if not folder.is_dir():
        yield _at(
            context, ("local", "working_dir"), f"{folder} is not a folder", "name the folder that commands run in"
        )
        return
    for position, task in pieces.tasks:
        program = task.command[0]
        if find_program(program, folder) is None:
            fault = f"there is no program {program!r} on this machine (looked in {folder} and on PATH)"
            remedy = "install it, or correct the name or local.working_dir"
            yield _at(context, ("tasks", position, "command"), fault, remedy)


def _pods_that_fit_no_local_node(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    nodes = pieces.local.nodes
    room = Resources(nodes.cpu, nodes.memory)
    for position, task in pieces.tasks:
        spills = pieces.spills and Placement.VIRTUAL_NODE in task.placements
        if not task.resources.resources().fits_in(room) and not spills:
            fault = (
                f"{task.resources.cpu}m and {task.resources.memory / 2**20:g}Mi fit on no local node "
                f"({nodes.cpu}m, {nodes.memory / 2**20:g}Mi)"
            )
            yield _at(context, ("tasks", position, "resources"), fault, "ask for less, or enlarge local.nodes")


def working_dir(folder: Path, local: LocalSettings) -> Path:
    """Where commands of tasks run in local mode."""
    return (folder / local.working_dir).resolve()


def find_program(program: str, folder: Path) -> str | None:
    """The program as a pod in that folder finds it: beside this Python first, then on PATH."""
    if os.sep in program:
        return shutil.which(str(folder / program))
    return shutil.which(program, path=search_path())


def search_path() -> str:
    """PATH of the pods in local mode: this Python's own programs come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


# --- warnings -------------------------------------------------------------------------------------------------------


def _budgets_below_one_pod(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    yield from _too_small(pieces, context, only_there=False)


def _too_small(pieces: Pieces, context: Context, *, only_there: bool) -> Iterator[Mistake]:
    """``only_there``: of tasks that may run nowhere but on the virtual node, or of the others."""
    if not pieces.spills:
        return
    for position, budget in pieces.budgets:
        for _, task in pieces.tasks:
            if Placement.VIRTUAL_NODE not in task.placements or budget.task not in (None, task.name):
                continue
            worst = pieces.worst_case_of_one_pod(task)
            if budget.budget().limit < worst and (Placement.NODE_POOL not in task.placements) is only_there:
                start, run = duration_text(task.start_deadline), duration_text(task.item_timeout)
                what = "would be held for ever" if only_there else "would never go to the virtual node"
                fault = (
                    f"{budget.limit_usd} is less than the worst case of one pod of task {task.name!r}, {worst} "
                    f"(it may take {start} to start, run for {run} and outlive its pod by the tail): it {what}"
                )
                yield _at(
                    context, ("budgets", position, "limit_usd"), fault, "raise the limit or shorten the task's times"
                )


def _budgets_that_never_bind(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    """A limit that another one always stops short of: whoever wrote it meant something else."""
    for (position, budget), (_, other) in permutations(pieces.budgets, 2):
        if not _within(budget, other):
            continue
        if budget.limit_usd > other.limit_usd:
            fault = (
                f"{budget.limit_usd} a {budget.window} can never be spent: {other.name!r} counts all of it "
                f"and ends at {other.limit_usd} a {other.window}"
            )
            remedy = f"lower it, or raise the limit of {other.name}"
            yield _at(context, ("budgets", position, "limit_usd"), fault, remedy)


def _within(budget: BudgetSettings, other: BudgetSettings) -> bool:
    """Whether whatever the first counts, the second counts too, in windows that are no shorter."""
    if other.business_hours is not None and other.business_hours != budget.business_hours:
        return False
    if other.time_zone != budget.time_zone or _LENGTHS.index(other.window) < _LENGTHS.index(budget.window):
        return False
    if budget.window is WindowKind.WEEK and other.window is not WindowKind.WEEK:  # a month may begin within it
        return False
    if other.scope is Scope.ALL:
        return budget.scope is not Scope.ALL or budget.window is not other.window
    by_tenant, by_task = (Scope.TENANT, Scope.TENANT_TASK), (Scope.TASK, Scope.TENANT_TASK)
    for names, mine, theirs in ((by_tenant, budget.tenant, other.tenant), (by_task, budget.task, other.task)):
        if other.scope in names and (budget.scope not in names or theirs not in (None, mine)):
            return False
    return (
        budget.scope is not other.scope
        or budget.window is not other.window
        or other.tenant != budget.tenant
        or (other.task != budget.task)
    )


def _no_budget(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    if pieces.spills and not any(budget.scope is Scope.ALL for _, budget in pieces.budgets):
        fault = "none counts all spending, so that nothing but quotas bounds what the virtual node may cost"
        yield _at(context, ("budgets",), fault, "add one with scope: all")


def _unused_tasks(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    asked_for = {name for _, queue in pieces.queues for name in queue.tasks}
    for position, task in pieces.tasks:
        if task.name not in asked_for:
            fault = f"no queue takes messages for {task.name!r}"
            yield _at(context, ("tasks", position, "name"), fault, "add it to the tasks of a queue in dispatcher.yaml")


def _tenants_from_nowhere(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    known = {name for _, queue in pieces.queues for name in queue.tenants}
    if not known:
        return
    named: list[tuple[Location, str]] = [
        (("budgets", position, "tenant"), budget.tenant)
        for position, budget in pieces.budgets
        if budget.tenant is not None
    ]
    named += [(("tenant_weights", name), name) for name in pieces.tenant_weights]
    for location, name in named:
        if name not in known:
            yield _at(context, location, f"no queue takes messages of tenant {name!r}", did_you_mean(name, known))


def _budgets_for_nothing(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    known = [name for name in pieces.names["tasks"] if name is not None]
    for position, budget in pieces.budgets:
        if budget.task is not None and budget.task not in known:
            fault = f"there is no task {budget.task!r}"
            yield _at(context, ("budgets", position, "task"), fault, did_you_mean(budget.task, known))


def _release_lag(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    if not (context.local and pieces.spills and pieces.virtual_node):
        return
    hold, lag = pieces.virtual_node.release_hold, pieces.local.virtual_node.address_release_lag
    if hold < lag:
        longer = f"the {duration_text(lag)} that the local virtual node keeps an address"
        fault = f"{duration_text(hold)} is shorter than {longer}: pods will be refused for want of one"
        yield _at(context, ("virtual_node", "release_hold"), fault, f"write at least {duration_text(lag)}")


def _rate_windows(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    node = pieces.virtual_node
    if node is not None and node.rate_window_short >= node.rate_window_long:
        fault = f"{duration_text(node.rate_window_short)} is not shorter than rate_window_long"
        yield _at(context, ("virtual_node", "rate_window_short"), fault, "write 5m, as Azure counts")


def _account_of_nothing(pieces: Pieces, context: Context) -> Iterator[Mistake]:
    if pieces.azure is None or context.local:
        return
    if not pieces.spills:
        yield _at(context, ("azure",), "there is no virtual node whose groups it could read", "take the section out")
    elif pieces.virtual_node is not None and pieces.virtual_node.profile == "virtual-node-v2":
        fault = "groups are known by the tags of the AKS add-on's connector; virtual nodes on ACI may not set them"
        remedy = "compare `az container list` with your pods; groups that are not known are charged by the bound"
        yield _at(context, ("azure",), fault, remedy)


# --- reading what can be read ---------------------------------------------------------------------------------------


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else []


def _names(values: Any) -> list[str | None]:
    found = [mapping_or_empty(entry).get("name") for entry in _list(values)]
    return [name if isinstance(name, str) else None for name in found]


def _section(model: type[Model], value: Any) -> Model | None:
    if value is None:
        return None
    """Reads a section; keys with a mistake count as not written, so that the others can still be looked at."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = {str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"]}
    if not isinstance(value, Mapping) or not wrong & value.keys():
        return None
    return _section(model, {key: entry for key, entry in value.items() if key not in wrong})


def _entries(model: type[Model], values: Any) -> Iterator[tuple[int, Model]]:
    for position, value in enumerate(_list(values)):
        entry = _section(model, value)
        if entry is not None:
            yield position, entry
