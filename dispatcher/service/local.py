"""The whole dispatcher on one machine, in one process: broker, cluster, queue adapters, reconciler, HTTP service.

Decides the order in which they start and stop. Pods are processes of their own: they run on while the service is down,
and the next one finds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dispatcher.core.jobs import ReportsTo
from dispatcher.core.policy import Policy
from dispatcher.embedded.broker import Broker, BrokerError
from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.embedded.processes.cluster import ProcessCluster
from dispatcher.errors import DispatcherError
from dispatcher.ports import Ports
from dispatcher.queue.replies import ServiceBusOutcomes
from dispatcher.service.access import BrokerAccess
from dispatcher.service.assembly import Service
from dispatcher.service.data_dir import DataDir, RunningFacts
from dispatcher.service.wiring import (
    RandomIds,
    SystemClock,
    broker_config,
    cluster_config,
    message_reader,
    report_access,
)
from dispatcher.settings import Settings
from dispatcher.settings.checks import search_path
from dispatcher.telemetry import EventFile

HOST = "127.0.0.1"


class LocalService(Service):
    """Everything started, while the block lasts. ``run`` returns when it is told to stop."""

    LOCAL = True

    def __init__(self, settings: Settings, config_folder: Path) -> None:
        self._config_folder = config_folder
        self._data_dir = DataDir(settings.local.data_dir)
        self._clock = SystemClock()
        self._broker: Broker | None = None
        super().__init__(settings, self._clock, EventFile(self._data_dir.event_log))

    async def _start(self) -> None:
        stack, settings = self._stack, self._settings
        stack.enter_context(self._data_dir)
        if self._event_file is not None:
            stack.callback(self._event_file.close)
        # Pods find `python` as the dispatcher does: the interpreter that it runs in comes first on their PATH.
        os.environ["PATH"] = search_path()
        store = ObjectStore(self._data_dir.object_store)
        await store.open()
        self._on_stop("the object store", store.close)
        broker = Broker(
            broker_config(
                settings, self._data_dir.broker_journal, self._data_dir.broker_key(), self._data_dir.report_key()
            )
        )
        try:
            await broker.start()
        except BrokerError as error:
            raise DispatcherError(f"the embedded broker cannot start: {error}") from error
        self._broker = broker
        if settings.reports.queue is not None:
            self._data_dir.let_report(
                report_access(broker.connection_string, settings.reports.queue, self._data_dir.report_key())
            )
        self._on_stop("the broker", broker.stop)
        cluster = ProcessCluster(
            cluster_config(settings, self._config_folder, self._data_dir.path), store, self._clock, self._ring
        )
        await cluster.start()
        self._on_stop("the cluster", cluster.stop)
        access = BrokerAccess(settings, self._config_folder, connection_string=lambda: broker.connection_string)
        await self._start_queues(access.queue)
        reports = await self._start_reports(access.queue)
        outcomes = ServiceBusOutcomes(access.queue, self._ring)
        self._on_stop("the outcomes", outcomes.stop)
        lease = EmbeddedLease(store, self._clock)
        self._on_stop("the lease", lease.release)
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
            reports=reports,
            account=cluster if settings.policy().virtual_node is not None else None,
        )
        await self._start_cycles(ports, host=HOST, port=settings.local.web_port)
        facts = RunningFacts(self.url, broker.connection_string, tuple(self._queues))
        self._data_dir.announce(facts)

    def _policy(self, settings: Settings) -> Policy:
        """Pods are processes of this machine: what lets them report is a file of the data directory."""
        to = ReportsTo(folder=str(self._data_dir.reports_folder))
        return replace(settings.policy(), reports_to=to if settings.reports.queue is not None else None)

    def _faults_of_parts(self) -> Iterator[str]:
        if self._broker is not None and not self._broker.health.serving:
            yield f"broker: {self._broker.health.problem}"
