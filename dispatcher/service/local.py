"""The whole dispatcher on one machine, in one process: broker, cluster, queue adapters, reconciler, HTTP service.

Decides the order in which they start and stop, and that stopping takes a bounded time. What is wrong with any of them
shows in the health in one line. Pods are processes of their own: they run on while the service is down, and the next
one finds them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from dispatcher import __version__
from dispatcher.embedded.broker import Broker, BrokerError
from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes.cluster import ProcessCluster
from dispatcher.errors import DispatcherError
from dispatcher.ports import Ports
from dispatcher.queue.config import ServiceBusConfig
from dispatcher.queue.replies import ServiceBusOutcomes
from dispatcher.queue.service_bus import ServiceBusQueue
from dispatcher.reconciler import Reconciler
from dispatcher.service.data_dir import DataDir, RunningFacts
from dispatcher.service.loop import CycleLoop
from dispatcher.service.signals import until_signalled
from dispatcher.service.wiring import (
    RandomIds,
    SystemClock,
    broker_config,
    cluster_config,
    message_reader,
    queue_config,
)
from dispatcher.settings import Settings
from dispatcher.settings.checks import search_path
from dispatcher.telemetry import EventFile, EventHub, LoggedEvents, Metrics
from dispatcher.web import Health, Sources, WebServer, make_app

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"


class LocalService:
    """Everything started, while the block lasts. ``run`` returns when it is told to stop."""

    def __init__(self, settings: Settings, config_folder: Path) -> None:
        self._settings = settings
        self._config_folder = config_folder
        self._data_dir = DataDir(settings.local.data_dir)
        self._stack = AsyncExitStack()
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._event_file = EventFile(self._data_dir.event_log)
        self._events = EventHub(self._clock, self._event_file, self._metrics, LoggedEvents())
        self._queues: dict[str, ServiceBusQueue] = {}
        self._broker: Broker | None = None
        self._reconciler: Reconciler | None = None
        self._loop: CycleLoop | None = None
        self._web: WebServer | None = None

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
        except BrokerError as error:
            await self._stack.aclose()
            raise DispatcherError(f"the embedded broker cannot start: {error}") from error
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        stack, settings = self._stack, self._settings
        stack.enter_context(self._data_dir)
        stack.callback(self._event_file.close)
        # Pods find `python` as the dispatcher does: the interpreter that it runs in comes first on their PATH.
        os.environ["PATH"] = search_path()
        store = ObjectStore(self._data_dir.object_store)
        await store.open()
        self._on_stop("the object store", store.close)
        broker = Broker(broker_config(settings, self._data_dir.broker_journal, self._data_dir.broker_key()))
        await broker.start()
        self._broker = broker
        self._on_stop("the broker", broker.stop)
        cluster = ProcessCluster(
            cluster_config(settings, self._config_folder, self._data_dir.path), store, self._clock, self._ring
        )
        await cluster.start()
        self._on_stop("the cluster", cluster.stop)
        for entry in settings.queues:
            queue = ServiceBusQueue(
                queue_config(entry.name, lambda: broker.connection_string, self._settings.service_bus.lock_duration),
                self._ring,
            )
            await queue.start()
            self._queues[entry.name] = queue
            self._on_stop(f"the queue {entry.name}", queue.stop)
        outcomes = ServiceBusOutcomes(
            lambda name: ServiceBusConfig(queue=name, connection_string=lambda: broker.connection_string), self._ring
        )
        self._on_stop("the outcomes", outcomes.stop)
        lease = EmbeddedLease(store, self._clock)
        self._on_stop("the lease", lease.release)
        policy = settings.policy()
        ports = Ports(
            queues=self._queues,
            cluster=cluster,
            store=EmbeddedLedgerStore(store),
            lease=lease,
            clock=self._clock,
            ids=RandomIds(),
            events=self._events,
            read_message=message_reader(settings, self._clock.now),
            outcomes=outcomes,
            account=cluster if policy.virtual_node is not None else None,
        )
        self._reconciler = Reconciler(policy, ports)
        self._on_stop("the reconciler", self._reconciler.close)
        self._loop = CycleLoop(
            self._reconciler,
            pause_min=settings.timing.cycle_pause_min,
            stuck_after=settings.timing.cycle_stuck_after,
        )
        sources = Sources(self._status, self._health, self._readiness, self._metrics_page)
        self._web = await stack.enter_async_context(
            WebServer(make_app(sources), host=HOST, port=settings.local.web_port)
        )
        facts = RunningFacts(self._web.url, broker.connection_string, tuple(self._queues))
        self._data_dir.announce(facts)

    async def run(self, stop: asyncio.Event) -> None:
        """Cycles until ``stop`` is set; a cycle that does not end in time after that is cut off."""
        if self._loop is None:
            raise RuntimeError("the service has not been started")
        loop, patience = self._loop, self._settings.timing.stop_timeout.total_seconds()
        async with asyncio.TaskGroup() as group:
            cycles = group.create_task(loop.run(), name="cycles")
            await stop.wait()
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
        for name, queue in self._queues.items():
            health = queue.health()
            queues[name] = {"alive": health.alive, "held": health.held, "refused": health.refused}
        return {**status, "queues": queues, "faults": list(self._faults()), "dispatcher": __version__}

    def _metrics_page(self) -> tuple[bytes, str]:
        self._metrics.observe(self._status())
        return self._metrics.render()

    def _faults(self) -> Iterator[str]:
        if self._loop is not None:
            yield from self._loop.faults()
        if self._broker is not None and not self._broker.health.serving:
            yield f"broker: {self._broker.health.problem}"
        for name, queue in self._queues.items():
            for fault in queue.health().faults:
                yield f"queue {name}: {fault}"
        if self._event_file.fault:
            yield f"event log: {self._event_file.fault} ({self._event_file.failures} events were not written)"

    def _health(self) -> Health:
        return Health(tuple(self._faults()), {"events_not_told": self._events.failures})

    def _readiness(self) -> Health:
        faults = list(self._faults())
        if self._loop is None or not self._loop.completed:
            faults.append("the first cycle has not ended yet")
        elif self._reconciler is not None and not self._reconciler.status().get("leading"):
            faults.append("another dispatcher leads")
        return Health(tuple(faults))


async def run_local(settings: Settings, config_folder: Path, started: Callable[[str], None]) -> None:
    """Runs the service until SIGTERM or SIGINT. Raises DispatcherError for what keeps it from starting."""
    stop = asyncio.Event()
    with until_signalled(stop):
        async with LocalService(settings, config_folder) as service:
            started(service.url)
            await service.run(stop)
