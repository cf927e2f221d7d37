"""Settings -> the configurations of the rooms, and the few small things that the core asks the world for.

Decides which setting goes where. Starts nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from dispatcher.cluster import KubernetesConfig, own_namespace
from dispatcher.core.records import task_of
from dispatcher.core.units import Resources
from dispatcher.core.work import WorkItem
from dispatcher.embedded.broker import AccessPolicy, BrokerConfig, QueueConfig, Right
from dispatcher.embedded.processes.config import NodeConfig, ProcessClusterConfig, VirtualNodeConfig
from dispatcher.errors import LookFailed
from dispatcher.ports import Message
from dispatcher.queue import QueueRules, TaskTable, to_item
from dispatcher.settings import Settings
from dispatcher.settings.checks import working_dir

T = TypeVar("T")
BATCH_ID_LENGTH = 10
"""36^10 ids: of a million batches, one in ten thousand such services would see the same one twice."""
_BATCH_ID_LETTERS = string.ascii_lowercase + string.digits
REPLY_DUPLICATES_WINDOW = timedelta(minutes=10)
"""An outcome may be sent twice after a crash; the local broker swallows the second."""
BROKER_KEY_NAME = "RootManageSharedAccessKey"
REPORTS_KEY_NAME = "workers"
"""The local broker's key that pods report with."""


class SystemClock:
    """The time of this machine, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)


class RandomIds:
    """Names that were never used before."""

    def batch_id(self) -> str:
        """A new batch id, as long as names of container groups leave room for."""
        return "".join(secrets.choice(_BATCH_ID_LETTERS) for _ in range(BATCH_ID_LENGTH))


async def all_at_once(acts: Sequence[Callable[[], Awaitable[T]]]) -> Sequence[T]:
    """Acts side by side, each to its end; then what failed is raised, doubt before what was merely not read."""
    results = await asyncio.gather(*(act() for act in acts), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise min(failures, key=lambda failure: isinstance(failure, LookFailed))
    return [result for result in results if not isinstance(result, BaseException)]


def message_reader(settings: Settings, now: Callable[[], datetime]) -> Callable[[str, Message], WorkItem]:
    """What a message of a queue asks for. Raises BadMessage for one that can never become work."""
    table = TaskTable.of(entry.task() for entry in settings.tasks)
    rules = queue_rules(settings)

    def read(queue: str, message: Message) -> WorkItem:
        return to_item(message, queue, table, rules[queue], now())

    return read


def queue_rules(settings: Settings) -> Mapping[str, QueueRules]:
    """What may come from each queue."""
    return {
        queue.name: QueueRules(
            tasks=frozenset(queue.tasks),
            tenants=queue.tenants,
            priority_max=queue.priority_max,
            item_bytes_max=settings.service_bus.item_bytes_max,
            reply_to=frozenset(queue.reply_to),
        )
        for queue in settings.queues
    }


def reply_queues(settings: Settings) -> list[str]:
    """The queues that outcomes may be sent to, each once."""
    return list(dict.fromkeys(name for queue in settings.queues for name in queue.reply_to))


def report_access(connection_string: str, queue: str, key: str) -> str:
    """What pods of this machine report with: it opens one queue, for sending alone."""
    given = dict(part.split("=", 1) for part in connection_string.split(";") if part)
    given |= {"SharedAccessKeyName": REPORTS_KEY_NAME, "SharedAccessKey": key, "EntityPath": queue}
    return ";".join(f"{name}={value}" for name, value in given.items())


def broker_config(settings: Settings, journal: Path, key: str, report_key: str) -> BrokerConfig:
    """The embedded broker, with the queues that the settings name."""
    bus, reports = settings.service_bus, settings.reports.queue
    policies: tuple[AccessPolicy, ...] = ()
    if reports is not None:
        policies = (AccessPolicy(REPORTS_KEY_NAME, report_key, frozenset({Right.SEND}), reports),)
    return BrokerConfig(
        queues=tuple(
            QueueConfig(
                queue.name,
                lock_duration=bus.lock_duration,
                max_delivery_count=bus.max_delivery_count,
                time_to_live=bus.time_to_live,
                dead_letter_expired=bus.dead_letter_expired,
                duplicate_detection_window=bus.duplicate_detection_window or None,
            )
            for queue in settings.queues
        )
        + tuple(
            QueueConfig(name, duplicate_detection_window=REPLY_DUPLICATES_WINDOW) for name in reply_queues(settings)
        )
        + (() if reports is None else (_report_queue(reports, settings),)),
        access_policies=policies,
        port=settings.local.broker_port,
        shared_access_keys={BROKER_KEY_NAME: key},
        journal_path=journal,
    )


def _report_queue(name: str, settings: Settings) -> QueueConfig:
    bus = settings.service_bus
    return QueueConfig(
        name,
        lock_duration=bus.lock_duration,
        max_delivery_count=bus.max_delivery_count,
        duplicate_detection_window=REPLY_DUPLICATES_WINDOW,
    )


def kubernetes_config(settings: Settings, config_folder: Path) -> KubernetesConfig:
    """The cluster, and what in it is ours. The lease's times keep the proportions of client-go's (15 s, 10 s, 2 s)."""
    given = settings.kubernetes
    namespaces = dict.fromkeys((*(task.namespace for task in settings.tasks), *given.former_namespaces))
    return KubernetesConfig(
        namespace=given.namespace or own_namespace(),
        namespaces=tuple(namespaces),
        instance=given.instance,
        kubeconfig=None if given.kubeconfig is None else config_folder / given.kubeconfig,
        context=given.context,
        requests_per_second=given.requests_per_second,
        request_timeout=given.request_timeout,
        patience=given.request_timeout * 2.5,
        relist_every=given.relist_every,
        lease_duration=given.lease_duration,
        lease_renew_deadline=given.lease_duration * 2 / 3,
        lease_retry=given.lease_duration * 2 / 15,
        lease_kept_for=settings.timing.cycle_stuck_after,
    )


def namespace_of_record(settings: Callable[[], Settings], otherwise: str) -> Callable[[Mapping[str, str]], str]:
    """Where the pods of a record's task will look for it; a task that is not known any more has no pods to come."""

    def of(annotations: Mapping[str, str]) -> str:
        task = task_of(annotations)
        return next((each.namespace for each in settings().tasks if each.name == task), otherwise)

    return of


def cluster_config(settings: Settings, config_folder: Path, data_dir: Path) -> ProcessClusterConfig:
    """The embedded cluster: its nodes, and a virtual node that refuses what Azure would."""
    nodes = settings.local.nodes
    room = Resources(nodes.cpu, nodes.memory)
    return ProcessClusterConfig(
        folder=data_dir,
        nodes=tuple(NodeConfig(f"node-{number}", room, nodes.pods_max) for number in range(nodes.count)),
        virtual_node=_virtual_node_config(settings),
        work_dir=working_dir(config_folder, settings.local),
        backoff_first=settings.local.job_backoff_min,
    )


def _virtual_node_config(settings: Settings) -> VirtualNodeConfig | None:
    policy, local = settings.policy().virtual_node, settings.local.virtual_node
    if policy is None:
        return None

    def or_as_told(of_local: int | None, told: int) -> int:
        return told if of_local is None else of_local

    return VirtualNodeConfig(
        subnet_prefix=policy.subnet_prefix,
        groups_max=or_as_told(local.groups_max, policy.groups_max),
        cpu_millis_max=or_as_told(local.cores_max, policy.cores_max) * 1000,
        creates_per_5_min=or_as_told(local.creates_per_5min, policy.creates_per_5min),
        creates_per_hour=or_as_told(local.creates_per_hour, policy.creates_per_hour),
        deletes_per_5_min=or_as_told(local.deletes_per_5min, policy.deletes_per_5min),
        deletes_per_hour=or_as_told(local.deletes_per_hour, policy.deletes_per_hour),
        start_delay=local.start_delay,
        address_release_lag=local.address_release_lag,
    )
