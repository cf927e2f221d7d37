"""What a command has to work with between two runs: queues, records and lease, of a data directory or of a cluster.

For commands that put things in order between two runs. Decides nothing: nothing is received, launched or watched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from dispatcher.cluster import ConfigMapStore, KubernetesLease, ServerClock, connect
from dispatcher.embedded.broker import Broker, BrokerError
from dispatcher.embedded.lease import EmbeddedLease
from dispatcher.embedded.ledger_store import EmbeddedLedgerStore
from dispatcher.embedded.objects import ObjectStore
from dispatcher.errors import DispatcherError
from dispatcher.ports import Lease, LedgerStore
from dispatcher.service.access import BrokerAccess
from dispatcher.service.data_dir import DataDir
from dispatcher.service.kubernetes import identity
from dispatcher.service.wiring import SystemClock, broker_config, kubernetes_config, namespace_of_record
from dispatcher.settings import Settings

__all__ = ["Offline", "open_beside_service", "open_cluster", "open_data_dir"]


@dataclass(frozen=True, slots=True)
class Offline:
    """What there is to work with."""

    access: BrokerAccess
    store: LedgerStore | None
    """Where claims are; None where they cannot be read."""
    lease: Lease | None
    """None where a service runs and holds it, or where there is none to be had."""
    lease_takes: timedelta = timedelta(0)
    """How long the lease of a leader that died takes to run out."""

    def __repr__(self) -> str:
        return "Offline()"


@asynccontextmanager
async def open_data_dir(settings: Settings) -> AsyncIterator[Offline]:
    """Holds the folder while the block lasts, so that no service can start on it.

    Raises BadConfiguration if one runs on it, and DispatcherError where there is nothing or it cannot be opened.
    """
    folder = DataDir(settings.local.data_dir)
    if not folder.broker_journal.exists():
        raise DispatcherError(f"{folder.path} holds no queues: name the folder of a local service with --data-dir")
    with folder:
        store = ObjectStore(folder.object_store)
        await store.open()
        try:
            keys = folder.broker_key(), folder.report_key()
            config = replace(broker_config(settings, folder.broker_journal, *keys), port=0)
            try:
                async with Broker(config) as broker:
                    lease = EmbeddedLease(store, SystemClock())
                    try:
                        access = BrokerAccess(settings, Path(), connection_string=lambda: broker.connection_string)
                        yield Offline(access, EmbeddedLedgerStore(store), lease)
                    finally:
                        await lease.release()
            except BrokerError as error:
                raise DispatcherError(f"the queues of {folder.path} cannot be opened: {error}") from error
        finally:
            await store.close()


@asynccontextmanager
async def open_beside_service(settings: Settings, access: BrokerAccess) -> AsyncIterator[Offline]:
    """The same while a service runs on the folder: its broker, its records, and no lease.

    What is done with it the service does not know of.
    """
    store = ObjectStore(DataDir(settings.local.data_dir).object_store)
    await store.open()
    try:
        yield Offline(access, EmbeddedLedgerStore(store), None)
    finally:
        await store.close()


@asynccontextmanager
async def open_cluster(settings: Settings, config_folder: Path, access: BrokerAccess) -> AsyncIterator[Offline]:
    """The records and the lease of the cluster that the settings name.

    Raises BadConfiguration without credentials for one.
    """
    clock = ServerClock()
    config = kubernetes_config(settings, config_folder)
    api = await connect(config, clock)
    try:
        lease = KubernetesLease(api, config, clock, identity())
        try:
            store = ConfigMapStore(api, config, namespace_of_record(lambda: settings, config.namespace))
            yield Offline(access, store, lease, config.lease_duration + config.lease_retry)
        finally:
            await lease.release()
    finally:
        await api.close()
