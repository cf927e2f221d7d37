"""The dispatcher as a service in a cluster: Azure Service Bus, the Kubernetes API, HTTP.

Decides the order in which parts start and stop. Any number of replicas may run: one leads, the others watch and wait.
What is missing (credentials, rights, a version that will do) is told at start in lines that a person can act on.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from dispatcher.azure import ContainerGroups
from dispatcher.cluster import (
    ConfigMapStore,
    KubernetesCluster,
    KubernetesLease,
    ServerClock,
    check,
    connect,
)
from dispatcher.ports import Ports
from dispatcher.queue.replies import ServiceBusOutcomes
from dispatcher.service.access import BrokerAccess
from dispatcher.service.account import AccountAccess
from dispatcher.service.assembly import Service
from dispatcher.service.wiring import RandomIds, all_at_once, kubernetes_config, message_reader, namespace_of_record
from dispatcher.settings import Settings
from dispatcher.telemetry import EventFile


class KubernetesService(Service):
    """Everything started, while the block lasts. ``run`` returns when it is told to stop."""

    def __init__(self, settings: Settings, config_folder: Path) -> None:
        self._config_folder = config_folder
        self._clock = ServerClock()
        self._cluster: KubernetesCluster | None = None
        self._access: BrokerAccess | None = None
        self._account: ContainerGroups | None = None
        log_file = settings.service.event_log
        super().__init__(settings, self._clock, EventFile(log_file) if log_file is not None else None)

    async def _start(self) -> None:
        settings = self._settings
        if self._event_file is not None:
            self._stack.callback(self._event_file.close)
        access = BrokerAccess(settings, self._config_folder, self._events.emit)
        self._access = access
        self._on_stop("the way to the broker", access.close)
        config = kubernetes_config(settings, self._config_folder)
        api = await connect(config, self._clock)
        self._on_stop("the connections to the API server", api.close)
        await check(api, config)
        cluster = KubernetesCluster(api, config, self._ring)
        await cluster.start()
        self._cluster = cluster
        self._on_stop("the cluster", cluster.stop)
        await self._start_queues(access.queue)
        reports = await self._start_reports(access.queue)
        outcomes = ServiceBusOutcomes(access.queue, self._ring)
        self._on_stop("the outcomes", outcomes.stop)
        lease = KubernetesLease(api, config, self._clock, identity())
        self._on_stop("the lease", lease.release)
        ports = Ports(
            queues=self._queues,
            cluster=cluster,
            store=ConfigMapStore(api, config, namespace_of_record(lambda: self._settings, config.namespace)),
            lease=lease,
            clock=self._clock,
            ids=RandomIds(),
            events=self._events,
            read_message=message_reader(settings, self._clock.now),
            outcomes=outcomes,
            reports=reports,
            account=await self._start_account(),
            together=all_at_once,
            clock_fault=self._clock.fault,
        )
        await self._start_cycles(ports, host=settings.service.web_host, port=settings.service.web_port)

    async def _start_account(self) -> ContainerGroups | None:
        """What Azure itself says, where the settings give a way to it and there is a virtual node."""
        settings = self._settings
        if settings.azure is None or settings.virtual_node is None:
            return None
        access = AccountAccess(settings, self._config_folder)
        self._on_stop("the way to Azure", access.close)
        self._account = access.groups(self._clock.now, self._ring)
        await self._account.start()
        self._on_stop("the container groups", self._account.stop)
        return self._account

    def _notes_of_parts(self) -> Iterator[str]:
        # Work goes on without it: charges are upper bounds then.
        if self._account is not None:
            for each in self._account.faults():
                yield f"azure: {each}"

    def _faults_of_parts(self) -> Iterator[str]:
        fault = self._clock.fault()
        if fault is not None:
            yield f"clock: {fault}"
        if self._cluster is not None:
            for each in self._cluster.faults():
                yield f"cluster: {each}"
        if self._access is not None:
            yield from self._access.faults()


def identity() -> str:
    """Who this process is to other replicas: the pod's name, and a part that is new with each start."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"
