"""``dispatcher release`` against a cluster: refused while a dispatcher leads, done when the last one has died."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from azure.servicebus import ServiceBusMessageState

from dispatcher.embedded.broker import Broker
from testbed.control_plane import ControlPlane
from tests.e2e.cluster_service import ClusterService, cluster_service
from tests.e2e.local_service import enqueue, left_on_queue
from tests.e2e.test_in_a_cluster import burst, leads, until


async def release(service: ClusterService, *options: str) -> tuple[int, str]:
    """Runs the command with the service's configuration; its exit code and all that it said."""
    command = [sys.executable, "-m", "dispatcher", "release", "--config", str(service.folder / "config"), *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_backlog_of_a_cluster_is_released_once_nobody_leads(
    control_plane: ControlPlane, broker: Broker, tmp_path: Path
) -> None:
    too_large = {"placements": ["node_pool"], "resources": {"cpu": "500", "memory": "100M"}}
    async with cluster_service(control_plane, tmp_path, broker.connection_string, task=too_large) as service:
        replica = service.replica()
        replica.start()
        await replica.ready()
        await leads(service)
        await enqueue(broker.connection_string, burst(6))

        async def all_are_deferred() -> bool:
            left = await left_on_queue(broker.connection_string)
            return len(left) == 6 and {each.state for each in left} == {ServiceBusMessageState.DEFERRED}

        await until(all_are_deferred, "what is held is deferred")
        code, said = await release(service, "--yes")
        assert (code, "a dispatcher leads" in said) == (1, True), said
        assert await all_are_deferred()
        replica.kill()
        code, said = await release(service)
        assert (code, "would release 6 messages" in said) == (0, True), said
        code, said = await release(service, "--yes")
        assert (code, "released 6 of 6 messages" in said) == (0, True), said
        left = await left_on_queue(broker.connection_string)
        assert {each.state for each in left} == {ServiceBusMessageState.ACTIVE}
        assert {each.application_properties[b"original_message_id"].decode() for each in left} == set(burst(6))
