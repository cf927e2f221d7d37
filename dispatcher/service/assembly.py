"""What every composed service shares: queues, reconciler, cycles, HTTP, health; and an orderly, bounded end.

Decides how the parts are asked how they are doing, and that stopping takes a bounded time. What is wrong with any of
them shows in the health in one line. Which cluster, store, lease and broker there are is for others to say.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import structlog

from dispatcher import __version__
from dispatcher.core.history import History
from dispatcher.core.policy import Policy
from dispatcher.core.showback import Showback
from dispatcher.errors import BadConfiguration
from dispatcher.ports import Clock, Ports
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.reports import ServiceBusReports
from dispatcher.queue.seen import notes_of_running
from dispatcher.queue.service_bus import ServiceBusQueue
from dispatcher.reconciler import Reconciler
from dispatcher.service.answers import Answers
from dispatcher.service.loop import CycleLoop
from dispatcher.service.reloading import Adopted, Reloader, changes_that_need_a_restart, what_changed
from dispatcher.service.signals import on_hangup, until_signalled
from dispatcher.service.wiring import message_reader
from dispatcher.settings import Examination, Settings
from dispatcher.telemetry import EventFile, EventHub, LoggedEvents, Metrics
from dispatcher.web import Health, Sources, WebServer, make_app, names_this_machine

log = structlog.get_logger(__name__)


class Service(ABC):
    """Everything started, while the block lasts. ``run`` returns when it is told to stop."""

    LOCAL: ClassVar[bool] = False

    def __init__(self, settings: Settings, clock: Clock, event_file: EventFile | None) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._metrics = Metrics()
        self._event_file = event_file
        self._clock_of_events = clock
        sinks = [] if event_file is None else [event_file]
        self._history = History()
        self._showback = Showback()
        self._events = EventHub(clock, *sinks, self._metrics, self._history, self._showback, LoggedEvents())
        self._queues: dict[str, ServiceBusQueue] = {}
        self._reports: dict[str, ServiceBusReports] = {}
        self._reconciler: Reconciler | None = None
        self._loop: CycleLoop | None = None
        self._web: WebServer | None = None
        self._reloader: Reloader | None = None

    @property
    def url(self) -> str:
        """Where the HTTP service listens."""
        if self._web is None:
            raise RuntimeError("the service has not been started")
        return self._web.url

    async def __aenter__(self) -> Self:
        """Starts everything. Raises DispatcherError, in a line, for what keeps it from starting."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @abstractmethod
    async def _start(self) -> None:
        """Puts everything together, in order. Raises DispatcherError."""

    @abstractmethod
    def _faults_of_parts(self) -> Iterator[str]:
        """What is wrong with what this service alone has, one line each."""

    def _notes_of_parts(self) -> Iterator[str]:
        """What a person should know and no reason to call the service unwell, one line each."""
        return iter(())

    async def _start_queues(self, config_of: Callable[[str], ServiceBusConfig]) -> None:
        for entry in self._settings.queues:
            queue = ServiceBusQueue(config_of(entry.name), self._ring)
            await queue.start()
            self._queues[entry.name] = queue
            self._on_stop(f"the queue {entry.name}", queue.stop)

    async def _start_reports(self, config_of: Callable[[str], ServiceBusConfig]) -> ServiceBusReports | None:
        """The queue that pods of several items report to; None: there is none."""
        name = self._settings.reports.queue
        if name is None:
            return None
        reports = ServiceBusReports(config_of(name), self._ring)
        await reports.start()
        self._reports[name] = reports
        self._on_stop(f"the queue {name}", reports.stop)
        return reports

    def _policy(self, settings: Settings) -> Policy:
        """What the reconciler decides under."""
        return settings.policy()

    async def _start_cycles(self, ports: Ports, *, host: str, port: int) -> None:
        settings = self._settings
        if self._event_file is not None:
            for event, at, facts in self._event_file.latest():
                self._history(event, at, facts)
                self._showback(event, at, facts)
        self._reconciler = Reconciler(self._policy(settings), ports)
        self._on_stop("the reconciler", self._reconciler.close)
        self._loop = CycleLoop(
            self._reconciler,
            pause_min=settings.timing.cycle_pause_min,
            stuck_after=settings.timing.cycle_stuck_after,
        )
        answers = Answers(self._reconciler, self._history, self._showback, self._ring)
        sources = Sources(
            self._status,
            self._health,
            self._liveness,
            self._readiness,
            self._metrics_page,
            questions={"/api/explain": answers.explain, "/api/budgets": answers.budgets, "/api/report": answers.report},
            acts={"/api/budgets/top-ups": answers.top_up, "/api/plan": answers.plan},
        )
        app = make_app(sources, probed_from_outside=not names_this_machine(host))
        self._web = await self._stack.enter_async_context(WebServer(app, host=host, port=port))

    def follow(self, folder: Path, reread: Callable[[], Examination]) -> None:
        """Lets :meth:`run` take over what the configuration comes to say; it is read again by ``reread``."""
        self._reloader = Reloader(folder, reread, self._adopt, self._clock_of_events, self._events)
        self._stack.enter_context(on_hangup(self._reloader.ring))

    def _adopt(self, settings: Settings) -> Adopted:
        """Takes other settings over, from the next cycle on; where it cannot, says why, and nothing changes."""
        if self._reconciler is None:
            return Adopted(("the service has not been started",))
        try:
            reader = message_reader(settings, self._clock_of_events.now)
        except BadConfiguration as error:
            return Adopted(error.mistakes)
        refused = changes_that_need_a_restart(self._settings, settings, local=self.LOCAL)
        if refused:
            return Adopted(refused)
        changes = what_changed(self._settings, settings)
        self._reconciler.adopt(self._policy(settings), reader)
        self._settings = settings
        self._ring()
        return Adopted(changes=changes)

    async def run(self, stop: asyncio.Event) -> None:
        """Cycles until ``stop`` is set; a cycle that does not end in time after that is cut off."""
        if self._loop is None:
            raise RuntimeError("the service has not been started")
        loop, patience = self._loop, self._settings.timing.stop_timeout.total_seconds()
        async with asyncio.TaskGroup() as group:
            cycles = group.create_task(loop.run(), name="cycles")
            following = group.create_task(self._reloader.run(), name="configuration") if self._reloader else None
            await stop.wait()
            if following is not None:
                following.cancel()
            log.info("service.stopping", patience_seconds=patience)
            loop.stop()
            _, unfinished = await asyncio.wait({cycles}, timeout=patience)
            if unfinished:
                log.warning("cycle.cut_off", after_seconds=patience)
                cycles.cancel()

    def _ring(self) -> None:
        if self._loop is not None:
            self._loop.ring()

    def _on_stop(self, what: str, stop: Callable[[], Awaitable[None]]) -> None:
        patience = self._settings.timing.stop_timeout.total_seconds()

        async def bounded() -> None:
            try:
                async with asyncio.timeout(patience):
                    await stop()
            except TimeoutError:
                log.warning("stop.took_too_long", what=what, after_seconds=patience)
            except Exception:  # the others must be stopped all the same
                log.exception("stop.failed", what=what)

        self._stack.push_async_callback(bounded)

    # --- how it is doing --------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._reconciler.status() if self._reconciler is not None else {}
        if self._loop is not None:
            status["cycle"] = {**status.get("cycle", {}), "seconds_last": self._loop.seconds_last}
        queues = {}
        for name, queue in {**self._queues, **self._reports}.items():
            health = queue.health()
            lock = self._settings.service_bus.lock_duration
            queues[name] = {
                "alive": health.alive,
                "held": health.held,
                "refused": health.refused,
                "notes": notes_of_running(health.lock_seen, health.is_partitioned, lock),
            }
        faults = [*self._faults(), *self._notes_of_parts()]
        if self._reloader is not None:
            status["configuration"] = self._reloader.status()
            if self._reloader.refusal is not None:  # told, and no reason to call a service unwell that works as before
                faults.append(self._reloader.refusal.sentence)
        return {**status, "queues": queues, "faults": faults, "dispatcher": __version__}

    def _metrics_page(self) -> tuple[bytes, str]:
        self._metrics.observe(self._status())
        return self._metrics.render()

    def _faults(self) -> Iterator[str]:
        if self._loop is not None:
            yield from self._loop.faults()
        yield from self._faults_of_parts()
        for name, queue in {**self._queues, **self._reports}.items():
            for fault in queue.health().faults:
                yield f"queue {name}: {fault}"
        if self._event_file is not None and self._event_file.fault:
            yield f"event log: {self._event_file.fault} ({self._event_file.failures} events were not written)"

    def _health(self) -> Health:
        return Health(tuple(self._faults()), {"events_not_told": self._events.failures})

    def _liveness(self) -> Health:
        # Whatever a restart cannot mend (a refused key, a full disk, a cycle that breaks off) is for the other two.
        faults = list(self._loop.stuck()) if self._loop is not None else []
        for name, queue in {**self._queues, **self._reports}.items():
            faults += [f"queue {name}: {what}" for what in queue.health().stuck]
        return Health(tuple(faults))

    def _readiness(self) -> Health:
        faults = list(self._faults())
        if self._loop is None or not self._loop.completed:
            faults.append("the first cycle has not ended yet")
        leading = self._reconciler is not None and bool(self._reconciler.status().get("leading"))
        return Health(tuple(faults), {"leading": leading})


async def run_service(
    make: Callable[[Settings, Path], Service],
    settings: Settings,
    config_folder: Path,
    started: Callable[[str], None],
    reread: Callable[[], Examination] | None = None,
) -> None:
    """Runs a service until SIGTERM or SIGINT. ``reread``: how the configuration is read again when it changes.

    Raises DispatcherError for what keeps it from starting.
    """
    stop = asyncio.Event()
    with until_signalled(stop):
        async with make(settings, config_folder) as service:
            if reread is not None:
                service.follow(config_folder, reread)
            started(service.url)
            await service.run(stop)
