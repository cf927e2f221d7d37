"""Least privilege: with exactly the rights that are written down everything works; one verb less is missed at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from kube_kit import Kube, a_job, config_for, kube, ref

from dispatcher.cluster import KubernetesConfig, KubernetesLease, ServerClock, check
from dispatcher.cluster.rights import RIGHTS, Use, Where, rules, uses
from dispatcher.errors import BadConfiguration
from dispatcher.ports import Answer, ObjectRef
from testbed.api_proxy import ApiProxy, Seen
from testbed.control_plane import ControlPlane

ACCOUNT = "dispatcher"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def grant(plane: ControlPlane, own: str, tasks: str, *, without: Use | None = None) -> None:
    """The account of the own namespace may do what is written down, but for one verb."""
    for where, namespace in ((Where.OWN, own), (Where.TASKS, tasks), (Where.CLUSTER, "")):
        name = f"{ACCOUNT}-{where}-{own}"
        wanted = [_less(rule, without, namespace) for rule in rules(where, records_too=where is Where.OWN)]
        kind = "ClusterRole" if where is Where.CLUSTER else "Role"
        folder = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": own}
        role = {"metadata": {"name": name}, "rules": [rule for rule in wanted if rule["verbs"]]}
        await plane.api.post(f"{folder}/{kind.lower()}s", role)
        binding = {
            "metadata": {"name": name},
            "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        }
        await plane.api.post(f"{folder}/{kind.lower()}bindings", binding)


def _less(rule: dict[str, Any], without: Use | None, namespace: str) -> dict[str, Any]:
    if without is None or without.namespace != namespace or without.right.full_resource not in rule["resources"]:
        return rule
    return {**rule, "verbs": [verb for verb in rule["verbs"] if verb != without.verb]}


async def account(plane: ControlPlane, own: str, tasks: str, proxy: ApiProxy) -> KubernetesConfig:
    """A configuration under the account's own token, through the proxy."""
    token = await plane.create_token(own, ACCOUNT)
    kubeconfig = plane.write_kubeconfig(f"account-{own}", token, server=proxy.url)
    return replace(config_for(plane, own, namespaces=(tasks,)), kubeconfig=kubeconfig)


async def everything(it: Kube, tasks: str) -> None:
    """One of each act and look."""
    lease = KubernetesLease(it.api, it.config, ServerClock(), "me")
    assert await lease.acquire()
    version = await it.store.write_ledger({"epoch": 1}, None)
    await it.store.write_ledger({"epoch": 2}, version)
    assert await it.store.read_ledger() is not None
    (created,) = await it.store.create_records([("burst-b-1", {"0.json": "{}"}, {})])
    assert created.record is not None
    answer, _ = await it.store.replace_annotations("burst-b-1", created.record.version, {"a": "1"})
    assert answer is Answer.DONE
    assert len(await it.store.list_records()) == 1
    assert await it.store.get_record("burst-b-1") is not None
    job = await it.launch(a_job(tasks, retries=3, completions=2, exit_code=1))
    pod = await it.pod("Failed")
    await it.cluster.log_tail(ref(pod), 100)
    assert await it.cluster.delete_pods([ref(pod)]) == [Answer.DONE]
    assert await it.cluster.get_job(job.name) is not None
    await it.cluster.list_all()
    assert (await it.cluster.headroom()).nodes
    assert await it.cluster.delete_jobs([ref(job)]) == [Answer.DONE]
    assert await it.store.delete_record(ObjectRef("burst-b-1", created.record.uid)) is Answer.DONE
    assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]
    await lease.release()


def verb_of(seen: Seen, own: str, tasks: str) -> tuple[str, str, str] | None:
    """Namespace, resource and verb of a request, as a Role would name them; None for what everybody may."""
    found = re.fullmatch(r"/api(?:s/[^/]+)?/v1(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(log))?", seen.path)
    if found is None or found[2] == "selfsubjectaccessreviews":
        return None
    namespace, resource, name, subresource = found[1] or "", found[2], found[3], found[4]
    if subresource:
        resource = f"{resource}/{subresource}"
    if seen.method == "GET":
        verb = "get" if name else "watch" if seen.is_watch else "list"
    else:
        delete = "delete" if name else "deletecollection"
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": delete}[seen.method]
    assert namespace in (own, tasks, "")
    if resource == "pods" and verb in ("list", "watch"):
        namespace = ""  # the right for the whole cluster covers it
    return namespace, resource, verb


@pytest.fixture
async def places(control_plane: ControlPlane, namespace: str) -> Any:
    """The own namespace, and one with tasks."""
    tasks = await control_plane.create_namespace()
    yield namespace, tasks
    await control_plane.clear_namespace(tasks)


async def test_with_the_rights_that_are_written_down_everything_works_and_none_of_them_is_idle(
    control_plane: ControlPlane, places: tuple[str, str], proxy: ApiProxy
) -> None:
    own, tasks = places
    config = await account(control_plane, own, tasks, proxy)
    await grant(control_plane, own, tasks)
    async with kube(config, started=False) as it:
        await control_plane._wait(lambda: _is_granted(it), "the rights")
        await check(it.api, it.config)
        await it.cluster.start()
        await everything(it, tasks)
    used = {verb_of(seen, own, tasks) for seen in proxy.seen} - {None}
    written = {(use.namespace, use.right.full_resource, use.verb) for use in uses(config)}
    # A record is in the own namespace only where its task is not known any more.
    spare = {(own, "configmaps", verb) for verb in ("patch", "delete")}
    assert used <= written
    assert written - used <= spare


async def _is_granted(it: Kube) -> bool:
    try:
        await check(it.api, it.config)
    except BadConfiguration:
        return False
    return True


def every_verb() -> Iterator[tuple[int, str]]:
    for number, right in enumerate(RIGHTS):
        for verb in right.verbs:
            yield number, verb


@pytest.mark.parametrize(("number", "verb"), list(every_verb()))
async def test_one_verb_less_is_told_at_the_start_by_name(
    control_plane: ControlPlane, places: tuple[str, str], proxy: ApiProxy, number: int, verb: str
) -> None:
    own, tasks = places
    right = RIGHTS[number]
    namespace = {Where.OWN: own, Where.TASKS: tasks, Where.CLUSTER: ""}[right.where]
    missing = Use(namespace, right, verb)
    config = await account(control_plane, own, tasks, proxy)
    await grant(control_plane, own, tasks, without=missing)
    async with kube(config, started=False) as it:

        async def all_others_are_there() -> bool:
            # Roles take effect a moment after they are written.
            try:
                await check(it.api, it.config)
            except BadConfiguration as error:
                return all(f"may not {verb} {right.full_resource}" in line for line in error.mistakes)
            return False

        await control_plane._wait(all_others_are_there, "the other rights")


async def test_what_must_not_be_done_is_refused_and_the_text_names_the_right(
    control_plane: ControlPlane, places: tuple[str, str], proxy: ApiProxy
) -> None:
    own, tasks = places
    config = await account(control_plane, own, tasks, proxy)
    create = next(use for use in uses(config) if use.right.resource == "jobs" and use.verb == "create")
    await grant(control_plane, own, tasks, without=create)
    async with kube(config, started=False) as it:
        (refused,) = await it.cluster.create_jobs([a_job(tasks)])
        # An item is not given up for what an operator has to mend.
        assert (refused.answer, refused.later) == (Answer.REFUSED, True)
        assert 'cannot create resource "jobs"' in refused.text
