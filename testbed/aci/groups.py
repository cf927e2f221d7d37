"""One container group through its life, from its acceptance to its end: what it is at a moment, and when it changes.

Decides phases, containers' states, restarts and what is metered. Pure: every instant is handed in, and a change that
was due in the past happens at the time at which it was due. Knows nothing of other groups, of limits, or of HTTP.

Metering runs from the start of the pull to the stop of the whole group; the time before it costs nothing, restarts are
paid, and so is a group that only fails to pull.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from testbed.aci import told
from testbed.aci.definitions import ContainerDefinition, Definition

EVENTS_MAX = 100


class Phase(StrEnum):
    """What is being done with the group."""

    PREPARING = "preparing"
    PULLING = "pulling"
    RUNNING = "running"
    ENDED = "ended"
    NOT_PROVISIONED = "not_provisioned"


class State(StrEnum):
    """A container's state, in ACI's words."""

    WAITING = "Waiting"
    RUNNING = "Running"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that Azure tells of a group or of a container."""

    at: datetime
    name: str
    message: str
    kind: str = "Normal"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container that has ended."""

    started: datetime
    finished: datetime
    exit_code: int


@dataclass(frozen=True, slots=True)
class Span:
    """Metered time; None while it runs."""

    start: datetime
    stop: datetime | None


@dataclass(frozen=True, slots=True)
class Start:
    """To be done by whoever runs code: start this container. ``run`` counts a container's starts from 1."""

    group: Group
    container: Container
    run: int


@dataclass(frozen=True, slots=True)
class Stop:
    """To be done by whoever runs code: end whatever runs of this group, ``at_once`` or with time to end by itself."""

    group: Group
    at_once: bool = True


Act = Start | Stop


@dataclass(eq=False, slots=True)
class Container:
    """One container of a group."""

    definition: ContainerDefinition
    told: told.Told
    state: State = State.WAITING
    detail: str = ""
    started: datetime | None = None
    last: Run | None = None
    previous: Run | None = None
    starts: int = 0
    changes_at: datetime | None = None
    """When it ends, or starts again, by itself."""
    events: list[Event] = field(default_factory=list)

    def note(self, at: datetime, name: str, message: str, kind: str = "Normal") -> None:
        """Remembers an event."""
        self.events.append(Event(at, name, message, kind))
        del self.events[:-EVENTS_MAX]


@dataclass(eq=False, slots=True)
class Group:
    """One group. ``serial`` tells groups of one name apart."""

    definition: Definition
    resource_group: str
    serial: int
    address: str
    accepted: datetime
    pull: timedelta
    restart_after: timedelta
    executes: bool
    """Whether its containers are run by someone else, who reports their ends."""
    containers: list[Container] = field(default_factory=list)
    phase: Phase = Phase.PREPARING
    spans: list[Span] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    repairing: bool = False
    changes_at: datetime | None = None
    """When PREPARING or PULLING is over; None: never."""
    gives_up_at: datetime | None = None
    gives_up_because: Event | None = None
    starts_late_at: datetime | None = None
    maintenance_at: datetime | None = None
    maintenance_code: int = 7147
    maintenance_after: timedelta | None = None
    vanishes_after: timedelta | None = None
    vanishes_at: datetime | None = None
    restarts_failed: bool = False
    pull_fails: bool = False
    survives: bool = False
    stops_at: datetime | None = None
    gone_at: datetime | None = None
    deleted: datetime | None = None
    """When its delete was accepted."""

    @property
    def name(self) -> str:
        """Its name in Azure."""
        return self.definition.name

    @property
    def is_metered(self) -> bool:
        """Whether it costs money now."""
        return bool(self.spans) and self.spans[-1].stop is None

    @property
    def state(self) -> str:
        """The group's own state, in ACI's words."""
        if self.phase in (Phase.PREPARING, Phase.PULLING):
            return "Pending"
        if self.phase is Phase.RUNNING:
            return "Running"
        if self.phase is Phase.NOT_PROVISIONED:
            return "Failed"
        if any(each.last is None for each in self.containers):
            return "Stopped"
        return "Failed" if any(each.last and each.last.exit_code for each in self.containers) else "Succeeded"

    @property
    def provisioning_state(self) -> str:
        """How far Azure is with it, in ACI's words."""
        if self.deleted is not None and not self.survives:
            return "Deleting"
        if self.phase is Phase.PREPARING:
            return "Repairing" if self.repairing else "Pending"
        if self.phase is Phase.PULLING:
            return "Creating"
        return "Failed" if self.phase is Phase.NOT_PROVISIONED else "Succeeded"

    def seconds(self, now: datetime) -> int:
        """Metered so far: every begun second of each span."""
        return sum(math.ceil(((span.stop or now) - span.start).total_seconds()) for span in self.spans)

    def cost(self, now: datetime, per_vcpu: Decimal, per_gb: Decimal) -> Decimal:
        """The bill so far, exact."""
        return self.seconds(now) * (self.definition.cpu * per_vcpu + self.definition.memory_gb * per_gb)

    def note(self, at: datetime, name: str, message: str, kind: str = "Warning") -> None:
        """Remembers an event."""
        self.events.append(Event(at, name, message, kind))
        del self.events[:-EVENTS_MAX]

    # --- what happens by itself ---------------------------------------------------------------------------------------

    def next_change(self) -> datetime | None:
        """When it changes by itself the next time."""
        return min((at for at, _ in self._changes()), default=None)

    def _changes(self) -> Iterator[tuple[datetime, str]]:
        if self.stops_at or self.gone_at:  # it is being deleted and does nothing else
            yield (self.stops_at, "stops") if self.stops_at else (self.gone_at or self.accepted, "gone")
            return
        for at, what in (
            (self.changes_at, "phase"),
            (self.gives_up_at, "gives_up"),
            (self.starts_late_at, "starts_late"),
            (self.maintenance_at, "maintenance"),
            (self.vanishes_at, "vanishes"),
        ):
            if at:
                yield at, what
        for container in self.containers:
            if container.changes_at:
                yield container.changes_at, "container"

    def change(self) -> list[Act]:
        """Does what is due next, at the time at which it was due. A group that is gone is removed by its region."""
        at, what = min(self._changes())
        if what == "stops":
            return self._stop(at)
        if what == "phase":
            return self._pull(at) if self.phase is Phase.PREPARING else self._run(at)
        if what == "gives_up":
            return self._give_up(at)
        if what == "starts_late":
            self.starts_late_at = None
            return self._pull(at)
        if what == "vanishes":
            return self.vanish(at)
        if what == "maintenance":
            return self.maintain(at, self.maintenance_code)
        container = next(each for each in self.containers if each.changes_at == at)
        if container.state is State.RUNNING:
            fails = container.told.fail_times is None or container.starts <= container.told.fail_times
            return self.ended(at, container, container.told.exit_code if fails else 0)
        return self._start(at, container)

    def _pull(self, at: datetime) -> list[Act]:
        self.phase, self.repairing = Phase.PULLING, False
        self.spans.append(Span(at, None))
        for container in self.containers:
            image = container.definition.image
            container.note(at, "Pulling", f'pulling image "{image}"')
            if self.pull_fails:
                container.detail = "ImagePullBackOff"
                text = f'Failed to pull image "{image}": the registry does not answer'
                container.note(at, "Failed", text, "Warning")
                container.note(at, "BackOff", f'Back-off pulling image "{image}"')
        self.changes_at = None if self.pull_fails else at + self.pull
        return []

    def _run(self, at: datetime) -> list[Act]:
        self.phase, self.changes_at, self.gives_up_at = Phase.RUNNING, None, None
        for container in self.containers:
            container.note(at, "Pulled", f'Successfully pulled image "{container.definition.image}"')
        if self.maintenance_after is not None:
            self.maintenance_at = at + self.maintenance_after
        if self.vanishes_after is not None:
            self.vanishes_at = at + self.vanishes_after
        return self._start_next(at)

    def _start_next(self, at: datetime) -> list[Act]:
        """Starts the next init container, or all others when the last one has succeeded."""
        init = [each for each in self.containers if each.definition.is_init]
        waiting = next((each for each in init if not (each.last and each.last.exit_code == 0)), None)
        if waiting:
            return self._start(at, waiting)
        return [act for each in self.containers if not each.definition.is_init for act in self._start(at, each)]

    def _start(self, at: datetime, container: Container) -> list[Act]:
        container.state, container.detail, container.started = State.RUNNING, "", at
        container.previous, container.last = container.last, None
        container.starts += 1
        container.note(at, "Created", "Created container")
        container.note(at, "Started", "Started container")
        seconds = container.told.run_seconds
        container.changes_at = None if self.executes or seconds is None else at + timedelta(seconds=seconds)
        return [Start(self, container, container.starts)] if self.executes else []

    def ended(self, at: datetime, container: Container, exit_code: int) -> list[Act]:
        """A container has ended by itself."""
        if container.state is not State.RUNNING or container.started is None:
            return []
        container.state, container.detail = State.TERMINATED, "Completed" if exit_code == 0 else "Error"
        container.last, container.changes_at = Run(container.started, at, exit_code), None
        if self.stops_at:
            if all(each.state is not State.RUNNING for each in self.containers):
                self._close(at)
            return []  # it is being deleted: nothing is started again
        policy = self.definition.restart_policy
        again = policy == "Always" or (exit_code != 0 and (policy == "OnFailure" or self.restarts_failed))
        if again and not (container.definition.is_init and exit_code == 0):
            container.state, container.detail = State.WAITING, "CrashLoopBackOff" if exit_code else ""
            container.changes_at = at + self.restart_after
            container.note(at, "BackOff", "Back-off restarting failed container", "Warning")
            return []
        if container.definition.is_init and exit_code == 0:
            return self._start_next(at)
        rest = [each for each in self.containers if not each.definition.is_init]
        if container.definition.is_init or all(each.state is State.TERMINATED for each in rest):
            self._end(at)
        return []

    def _end(self, at: datetime) -> None:
        self.phase, self.maintenance_at = Phase.ENDED, None
        self._close(at)

    def _close(self, at: datetime) -> None:
        if self.is_metered:
            self.spans[-1] = Span(self.spans[-1].start, at)

    def _give_up(self, at: datetime) -> list[Act]:
        self.phase, self.changes_at, self.gives_up_at = Phase.NOT_PROVISIONED, None, None
        self._close(at)
        if self.gives_up_because:
            told_of = self.gives_up_because
            self.note(at, told_of.name, told_of.message)
        return []

    # --- what others do to it -----------------------------------------------------------------------------------------

    def maintain(self, at: datetime, code: int) -> list[Act]:
        """The platform stops the containers that run, and starts them again. It is paid throughout."""
        self.maintenance_at = None
        acts: list[Act] = [Stop(self)] if self.executes else []
        for container in self.containers:
            if container.state is State.RUNNING and container.started:
                container.note(at, "Killing", "Killing container for platform maintenance")
                container.last = Run(container.started, at, code)
                container.state, container.detail = State.WAITING, "Restarting"
                container.changes_at = at + self.restart_after
        return acts

    def vanish(self, at: datetime) -> list[Act]:
        """It is gone at once; nobody asked, and nobody is told."""
        self.gone_at = at
        return self._stop(at)

    def delete(self, at: datetime, stop: timedelta, gone: timedelta) -> list[Act]:
        """Its delete is accepted."""
        self.deleted, self.survives = at, False
        self.stops_at, self.gone_at = at + stop, at + gone
        for container in self.containers:
            if container.state is State.RUNNING:
                container.note(at, "Killing", "Killing container")
        return [Stop(self, at_once=False)] if self.executes else []

    def _stop(self, at: datetime) -> list[Act]:
        self.stops_at = None
        for container in self.containers:
            if container.state is State.RUNNING and container.started:
                container.last = Run(container.started, at, 137)
                container.state, container.detail = State.TERMINATED, "Error"
            container.changes_at = None
        if self.phase is not Phase.NOT_PROVISIONED:
            self.phase = Phase.ENDED
        self.changes_at = self.gives_up_at = self.starts_late_at = self.maintenance_at = self.vanishes_at = None
        self._close(at)
        return [Stop(self)] if self.executes else []
