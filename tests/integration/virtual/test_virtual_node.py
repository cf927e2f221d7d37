"""The real connector and the stand-in for ACI together: Jobs, the bill, addresses, groups that leak, code that runs."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from virtual_kit import NEVER, Here, container, job, spec

from testbed.virtual import VirtualNode
from testbed.waiting import until


@pytest.fixture
def here(virtual_node: VirtualNode, virtual_namespace: str) -> Here:
    return Here(virtual_node, virtual_namespace)


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_node_is_registered_as_the_add_on_registers_it(virtual_node: VirtualNode) -> None:
    node = await virtual_node.plane.api.get("/api/v1/nodes/virtual-node-aci-linux")
    assert node["metadata"]["labels"] == {
        "alpha.service-controller.kubernetes.io/exclude-balancer": "true",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.azure.com/managed": "false",
        "kubernetes.io/hostname": "virtual-node-aci-linux",
        "kubernetes.io/os": "linux",
        "kubernetes.io/role": "agent",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        "type": "virtual-kubelet",
    }
    assert node["spec"]["taints"] == [{"key": "virtual-kubelet.io/provider", "value": "azure", "effect": "NoSchedule"}]
    capacity = node["status"]["allocatable"]
    assert (capacity["cpu"], capacity["memory"], capacity["pods"]) == ("10k", "4Ti", "5k")
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.25.0-vk-azure-aci-1.6.4"


async def test_a_job_of_20_pods_completes_and_its_bill_is_its_run_times_to_the_second(here: Here) -> None:
    await here.create_job(job("twenty", 20, spec(container(run_seconds=3))))
    status = await here.ended("twenty")
    assert {each["type"] for each in status["conditions"]} == {"SuccessCriteriaMet", "Complete"}
    assert (status["succeeded"], status["completedIndexes"]) == (20, "0-19")

    bill = await here.virtual.aci.bill()
    lines = {line["uid"]: line for line in bill["groups"]}
    assert len(lines) == 20
    for pod in await here.pods():
        line = lines[pod["metadata"]["uid"]]
        ((start, stop),) = line["spans"]
        state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        # Kubernetes tells whole seconds; the pull before the start is paid too, and was quick.
        assert 3 <= (when(stop) - when(start)).total_seconds() < 4
        assert line["seconds"] == math.ceil((when(stop) - when(start)).total_seconds()) == 4
        assert abs((when(state["finishedAt"]) - when(stop)).total_seconds()) < 1
        assert 3 <= (when(state["finishedAt"]) - when(state["startedAt"])).total_seconds() <= 4
    rate = Decimal(bill["usd_per_vcpu_second"]) + Decimal(bill["usd_per_gb_second"])
    assert Decimal(bill["usd"]) == 20 * 4 * rate

    await here.delete_job("twenty")
    await here.no_groups()
    assert Decimal((await here.virtual.aci.bill())["usd"]) == 20 * 4 * rate


async def test_a_failed_index_is_failed_and_its_exit_code_is_lost(here: Here) -> None:
    await here.create_job(job("some", 4, spec(container(run_seconds=0, exit_code_2=42))))
    status = await here.ended("some")
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,1,3", "2")
    (failed,) = [pod for pod in await here.pods() if pod["status"]["phase"] == "Failed"]
    state = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (0, "Completed")


async def test_memory_is_billed_as_the_connector_cuts_it(here: Here) -> None:
    await here.create_pod("one", spec(container(cpu="250m", memory="2Gi", run_seconds=0)))
    await here.in_phase("one", "Succeeded")
    line = await here.bill_of("one")
    assert (line["cpu"], line["memory_gb"]) == ("0.25", "2.1")


async def test_logs_are_read_through_the_api_server(here: Here) -> None:
    await here.create_pod("one", spec(container(run_seconds=NEVER, log="one\ntwo\nthree\n")))
    await here.in_phase("one", "Running")
    assert (await here.virtual.plane.kubectl("logs", "-n", here.name, "one")).split() == ["one", "two", "three"]
    assert (await here.virtual.plane.kubectl("logs", "-n", here.name, "one", "--tail=1")).split() == ["three"]


async def test_a_deleted_pod_is_gone_before_its_group_which_is_paid_until_it_stops(here: Here) -> None:
    await here.virtual.aci.change_options(delete_seconds=10, stop_seconds=3)
    await here.create_pod("one", spec(container(run_seconds=NEVER)))
    await here.in_phase("one", "Running")
    await here.delete_pod("one")
    await here.gone("one")
    (group,) = (await here.virtual.aci.look())["groups"]
    assert group["provisioning_state"] == "Deleting"
    await here.no_groups()
    (deleted,) = [each for each in await here.virtual.aci.requests() if each["verb"] == "DELETE"][:1]
    ((_, stop),) = (await here.bill_of("one"))["spans"]
    assert 0 <= (when(stop) - when(deleted["at"])).total_seconds() - 3 < 0.1


async def test_a_full_subnet_refuses_and_an_address_comes_back_late(here: Here) -> None:
    await here.virtual.aci.reset(subnet="10.240.0.0/27", release_seconds=1000)
    await here.create_job(job("fills", 27, spec(container(run_seconds=NEVER))))

    async def full() -> bool | None:
        return True if (await here.virtual.aci.statistics())["now"]["addresses"] == 27 else None

    await until(full, "a full subnet")
    await here.create_pod("late", spec())
    late = await here.in_phase("late", "Failed")
    assert late["status"]["reason"] == "ProviderFailed"
    assert "ERROR CODE: SubnetIsFull" in late["status"]["message"]
    await here.delete_job("fills")
    await here.no_groups()
    # Every group is gone, and every address is still taken.
    await here.create_pod("later", spec())
    await here.in_phase("later", "Failed")
    statistics = await here.virtual.aci.statistics()
    assert (statistics["now"]["addresses"], statistics["now"]["groups"]) == (27, 0)
    assert statistics["peak"]["addresses"] == statistics["limit"]["addresses"] == 27


async def test_deletes_beyond_their_rate_wait_and_are_paid_meanwhile(here: Here) -> None:
    await here.virtual.aci.reset(deletes_per_5_minutes=1, rate_scale=20)  # one in 15 s
    await here.create_job(job("two", 2, spec(container(run_seconds=NEVER))))

    async def running() -> bool | None:
        return True if (await here.virtual.aci.statistics())["now"]["metered"] == 2 else None

    await until(running, "two groups")
    await here.delete_job("two")
    await here.no_groups()
    first, last = sorted(line["seconds"] for line in (await here.virtual.aci.bill())["groups"])
    assert last - first >= 10
    assert (await here.virtual.aci.statistics())["peak"]["deletes"][0] == 1


async def test_a_group_that_survives_its_delete_runs_on_and_is_billed_without_a_pod(here: Here) -> None:
    await here.virtual.aci.add_fault("survives_delete")
    await here.create_pod("leaks", spec(container(run_seconds=NEVER)))
    await here.in_phase("leaks", "Running")
    await here.delete_pod("leaks")
    await here.gone("leaks")
    (group,) = await here.virtual.aci.groups()
    assert group["tags"]["PodName"] == "leaks"
    assert group["tags"]["NodeName"] == "virtual-node-aci-linux"
    line = await here.bill_of("leaks")
    assert (line["metered"], line["survived_delete"]) == (True, True)
    later = await until(lambda: _billed_more(here, line["seconds"]), "a bill that grows")
    assert later["metered"]


async def _billed_more(here: Here, seconds: int) -> dict[str, Any] | None:
    line = await here.bill_of("leaks")
    return line if line["seconds"] > seconds else None


async def test_a_create_that_timed_out_at_azure_leaves_a_failed_pod_and_a_group_that_runs(here: Here) -> None:
    await here.virtual.aci.add_fault("accepted_but_503")
    await here.create_pod("both", spec(container(run_seconds=NEVER)))
    pod = await here.in_phase("both", "Failed")
    assert pod["status"]["reason"] == "ProviderFailed"
    assert "ERROR CODE: ServerTimeout" in pod["status"]["message"]
    group = await here.group_look("both", lambda each: each["state"] == "Running", "running")
    assert group["metered"]
    await here.delete_pod("both")
    await here.no_groups()


async def test_a_refused_pod_that_may_restart_stays_pending_while_its_group_runs_and_bills(here: Here) -> None:
    await here.virtual.aci.add_fault("no_capacity", times=1)
    await here.create_pod("hidden", spec(container(run_seconds=NEVER), restartPolicy="OnFailure"))
    await here.group_look("hidden", lambda each: each["metered"], "running")
    await here.read_again("hidden", 3)
    (pod,) = await here.pods()
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Pending", "ProviderFailed")


async def test_a_short_throttling_is_waited_out_by_the_connector_itself(here: Here) -> None:
    await here.virtual.aci.add_fault("throttled", seconds=2, times=1)
    await here.create_pod("waits", spec(container(run_seconds=0)))
    await here.in_phase("waits", "Succeeded")
    refused, granted = [each for each in await here.virtual.aci.requests() if each["verb"] == "PUT"]
    assert (refused["code"], granted["status"]) == ("ResourceRequestsThrottled", 201)
    assert (when(granted["at"]) - when(refused["at"])).total_seconds() >= 2


async def test_while_the_connector_is_dead_groups_run_on_and_are_billed(here: Here) -> None:
    await here.create_pod("alone", spec(container(run_seconds=12)))
    await here.in_phase("alone", "Running")
    here.virtual.stop_connector()
    try:
        await here.group_look("alone", lambda each: each["state"] == "Succeeded", "its end")
        (pod,) = await here.pods()
        assert pod["status"]["phase"] == "Running"
    finally:
        await here.virtual.start_connector()
    await here.in_phase("alone", "Succeeded")
    assert (await here.bill_of("alone"))["seconds"] == 13


async def test_a_reader_of_azure_sees_groups_and_usage_and_may_do_nothing(here: Here) -> None:
    aci = here.virtual.aci
    await here.create_pod("seen", spec(container(run_seconds=NEVER)))
    await here.in_phase("seen", "Running")
    (group,) = await aci.groups()
    assert "instanceView" not in group["properties"]  # as Azure's own lists are
    one = await aci.request("GET", f"{aci.groups_path}/{group['name']}")
    assert one["properties"]["containers"][0]["properties"]["instanceView"]["currentState"]["state"] == "Running"
    usages = await aci.request(
        "GET",
        f"/subscriptions/{aci.options.subscription}/providers/Microsoft.ContainerInstance/locations/eastus/usages",
    )
    assert {each["name"]["value"]: each["currentValue"] for each in usages["value"]} == {
        "ContainerGroups": 1, "StandardCores": 1,
    }  # fmt: skip
    with pytest.raises(RuntimeError, match="AuthorizationFailed"):
        await aci.request("DELETE", f"{aci.groups_path}/{group['name']}")
