"""Requests that go wrong between the adapter and a real API server: what is answered is what has happened."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from kube_kit import a_job, config_for, kube, ref

from dispatcher.errors import Deposed, DispatcherError, LookFailed, OutcomeUnknown
from dispatcher.ports import Answer, ObjectRef
from testbed.api_proxy import ApiProxy, Fault
from testbed.control_plane import ControlPlane

JOBS = "/jobs$"
JOB = "/jobs/[^/]+$"
RECORDS = "/configmaps$"
RECORD = "/configmaps/burst-[^/]+$"
LEDGER = "/configmaps/[^/]+-ledger$"


# --- Jobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.TIMED_OUT])
async def test_a_create_whose_answer_is_lost_finds_the_job_that_it_made(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, fault: Fault
) -> None:
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        proxy.inject(fault, method="POST", path=JOBS, times=1)
        (created,) = await it.cluster.create_jobs([a_job(namespace)])
        assert (created.answer, created.already) == (Answer.DONE, True)
        assert created.job is not None
        assert created.job.annotations["burst-dispatcher.io/record-uid"] == "r"


@pytest.mark.parametrize(
    ("fault", "happened"),
    [(Fault.LOST_ANSWER, True), (Fault.TIMED_OUT, True), (Fault.NOT_SENT, False), (Fault.BROKEN, False)],
)
async def test_a_create_that_is_never_answered_is_unknown_and_a_look_shows_what_became_of_it(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, fault: Fault, happened: bool
) -> None:
    async with kube(config_for(control_plane, namespace, proxy, tries_max=1)) as it:
        proxy.inject(fault, method="POST", path=JOBS)
        (created,) = await it.cluster.create_jobs([a_job(namespace)])
        assert (created.answer, created.job) == (Answer.UNKNOWN, None)
        proxy.clear()
        assert (await it.cluster.get_job("burst-b-1") is not None) is happened


@pytest.mark.parametrize("fault", [Fault.TOO_MANY, Fault.UNAVAILABLE])
async def test_a_server_that_asks_to_wait_is_waited_for(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, fault: Fault
) -> None:
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        proxy.inject(fault, method="POST", path=JOBS, times=2, seconds=1)
        began = time.monotonic()
        (created,) = await it.cluster.create_jobs([a_job(namespace)])
        assert (created.answer, created.already) == (Answer.DONE, False)
        assert proxy.fired[fault] == 2
        if fault is Fault.TOO_MANY:
            assert time.monotonic() - began >= 2


async def test_a_server_that_goes_on_refusing_for_want_of_room_leaves_the_create_to_be_tried_later(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy, tries_max=2)) as it:
        proxy.inject(Fault.TOO_MANY, method="POST", path=JOBS, seconds=1)
        (created,) = await it.cluster.create_jobs([a_job(namespace)])
        assert created.answer is not Answer.DONE
        assert created.later
        assert await it.cluster.get_job("burst-b-1") is None


async def test_a_conflict_on_a_create_is_not_taken_for_a_job_that_exists(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        await it.launch(a_job(namespace, run_seconds="never"))  # what counts is the reason, though there is one
        proxy.inject(Fault.CONFLICT, method="POST", path=JOBS)
        (created,) = await it.cluster.create_jobs([a_job(namespace)])
        assert (created.answer, created.already) == (Answer.UNKNOWN, False)


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.NOT_SENT, Fault.BROKEN, Fault.TOO_MANY])
async def test_a_job_is_released_whatever_step_of_it_is_spoilt(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, method: str, fault: Fault
) -> None:
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        job = await it.launch(a_job(namespace, run_seconds="never"))
        proxy.inject(fault, method=method, path=JOB, times=1)
        (answer,) = await it.cluster.release_jobs([ref(job)])
        assert proxy.fired[fault] == 1
        assert answer is Answer.DONE
        await it.until(lambda: job.name in it.gone)
        assert await it.cluster.get_job(job.name) is None


async def test_a_job_that_others_change_all_the_time_is_released_all_the_same(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy)) as it:
        job = await it.launch(a_job(namespace, run_seconds="never"))
        proxy.inject(Fault.CONFLICT, method="PATCH", path=JOB, times=3)
        assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]
        await it.until(lambda: job.name in it.gone)


async def test_finalizers_of_others_are_left_to_them(control_plane: ControlPlane, namespace: str) -> None:
    async with kube(config_for(control_plane, namespace)) as it:
        made = a_job(namespace, run_seconds="never")
        made["metadata"]["finalizers"].insert(0, "example.com/theirs")
        job = await it.launch(made)
        assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job.name}"
        assert (await control_plane.api.get(path))["metadata"]["finalizers"] == ["example.com/theirs"]
        assert await it.cluster.release_jobs([ref(job)]) == [Answer.DONE]


async def test_a_look_that_is_not_answered_concludes_nothing(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy, tries_max=2)) as it:
        proxy.inject(Fault.NOT_SENT, path=JOB)
        with pytest.raises(LookFailed):
            await it.cluster.get_job("burst-none-1")


async def test_a_list_that_breaks_off_is_thrown_away_as_a_whole(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy, page_size=2, tries_max=2)) as it:
        names = {(await it.launch(a_job(namespace, f"n{number}", run_seconds="never"))).name for number in range(5)}
        await it.until(lambda: set(it.jobs) == names)
        proxy.inject(Fault.BROKEN, method="GET", path=JOBS, after=2)
        with pytest.raises(LookFailed):
            await it.cluster.list_all()
        assert proxy.fired[Fault.BROKEN] >= 1
        proxy.clear()
        await it.look()
        assert not it.gone
        assert {job.name for job in (await it.cluster.list_all()).jobs} == names


async def test_a_log_that_cannot_be_had_is_empty(control_plane: ControlPlane, namespace: str, proxy: ApiProxy) -> None:
    async with kube(config_for(control_plane, namespace, proxy, tries_max=1)) as it:
        await it.launch(a_job(namespace, exit_code=1))
        pod = await it.pod("Failed")
        proxy.inject(Fault.BROKEN, path="/log$")
        assert await it.cluster.log_tail(ref(pod), 100) == ""
        proxy.clear()
        await control_plane.write_log(namespace, pod.name, "line one\nthe last line ü\n")
        assert (await it.cluster.log_tail(ref(pod), 14)).endswith("last line ü\n")


# --- ledger and records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.TIMED_OUT, Fault.NOT_SENT, Fault.BROKEN, Fault.TOO_MANY])
async def test_a_ledger_write_that_nobody_knows_of_is_doomed_by_the_next_leaders(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, fault: Fault
) -> None:
    config = config_for(control_plane, namespace, proxy, tries_max=2)
    async with kube(config, started=False) as it, kube(config_for(control_plane, namespace), started=False) as rival:
        version = await it.store.write_ledger({"epoch": 1}, None)
        proxy.inject(fault, method="PUT", path=LEDGER, times=2)
        with pytest.raises(OutcomeUnknown):
            await it.store.write_ledger({"epoch": 1, "more": True}, version)
        stands = await rival.store.read_ledger()
        assert stands is not None
        await rival.store.write_ledger({"epoch": 2}, stands.version)
        proxy.clear()
        with pytest.raises(Deposed):
            await it.store.write_ledger({"epoch": 1, "more": True}, version)


async def test_a_ledger_that_is_too_large_is_refused_before_it_is_sent(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy), started=False) as it:
        before = len(proxy.seen)
        with pytest.raises(DispatcherError, match="1048576 bytes that a ConfigMap holds"):
            await it.store.write_ledger({"entries": "ü" * 600_000}, None)
        assert len(proxy.seen) == before


@pytest.mark.parametrize(("fault", "written"), [(Fault.LOST_ANSWER, True), (Fault.NOT_SENT, False)])
async def test_a_ruling_without_an_answer_is_unknown_and_is_read_back(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, fault: Fault, written: bool
) -> None:
    async with kube(config_for(control_plane, namespace, proxy), started=False) as it:
        (created,) = await it.store.create_records([("burst-b-1", {"0.json": "{}"}, {"rulings": "none"})])
        assert created.record is not None
        proxy.inject(fault, method="PATCH", path=RECORD, times=1)
        answer, _ = await it.store.replace_annotations("burst-b-1", created.record.version, {"rulings": "done"})
        assert answer is Answer.UNKNOWN
        stands = await it.store.get_record("burst-b-1")
        assert stands is not None
        assert stands.annotations == {"rulings": "done" if written else "none"}
        again, _ = await it.store.replace_annotations("burst-b-1", created.record.version, {"rulings": "dead"})
        assert again is (Answer.CONFLICT if written else Answer.DONE)


async def test_a_record_whose_create_was_not_answered_is_found(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    async with kube(config_for(control_plane, namespace, proxy), started=False) as it:
        proxy.inject(Fault.LOST_ANSWER, method="POST", path=RECORDS, times=1)
        (created,) = await it.store.create_records([("burst-b-1", {"0.json": "{}"}, {"a": "1"})])
        assert (created.answer, created.already) == (Answer.DONE, True)
        assert created.record is not None
        assert (created.record.data, created.record.annotations) == ({"0.json": "{}"}, {"a": "1"})


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
async def test_a_record_is_deleted_whatever_step_of_it_is_spoilt(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy, method: str
) -> None:
    async with kube(config_for(control_plane, namespace, proxy), started=False) as it:
        (created,) = await it.store.create_records([("burst-b-1", {"0.json": "{}"}, {})])
        assert created.record is not None
        proxy.inject(Fault.LOST_ANSWER, method=method, path=RECORD, times=1)
        answer = await it.store.delete_record(ObjectRef("burst-b-1", created.record.uid))
        assert answer is Answer.DONE
        assert await it.store.get_record("burst-b-1") is None


async def test_a_record_keeps_its_data_and_stays_readable_when_a_person_deletes_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with kube(config_for(control_plane, namespace), started=False) as it:
        (created,) = await it.store.create_records([("burst-b-1", {"0.json": "{}"}, {"a": "1"})])
        assert created.record is not None
        await control_plane.kubectl("delete", "configmap", "burst-b-1", "-n", namespace, "--wait=false")
        stands = await it.store.get_record("burst-b-1")
        assert stands is not None
        assert (stands.marked_for_deletion, stands.data) == (True, {"0.json": "{}"})
        answer, version = await it.store.replace_annotations("burst-b-1", stands.version, {"a": "2"})
        assert answer is Answer.DONE, version
        patch = {"data": {"0.json": "tampered"}}
        with pytest.raises(RuntimeError, match="immutable"):
            await control_plane.api.patch(f"/api/v1/namespaces/{namespace}/configmaps/burst-b-1", patch)


async def test_all_pages_of_records_are_listed_and_those_of_others_are_not(
    control_plane: ControlPlane, namespace: str
) -> None:
    config = config_for(control_plane, namespace, records_page_size=3)
    other = config_for(control_plane, namespace, instance="another")
    async with kube(config, started=False) as it, kube(other, started=False) as neighbour:
        wanted = {f"burst-b-{number}" for number in range(10)}
        await it.store.create_records([(name, {"0.json": "{}"}, {}) for name in sorted(wanted)])
        await neighbour.store.create_records([("burst-z-1", {"0.json": "{}"}, {})])
        await it.store.write_ledger({"epoch": 1}, None)
        assert {record.name for record in await it.store.list_records()} == wanted


async def test_a_request_takes_no_longer_than_it_may(
    control_plane: ControlPlane, namespace: str, proxy: ApiProxy
) -> None:
    config = config_for(
        control_plane, namespace, proxy, request_timeout=timedelta(seconds=1), patience=timedelta(seconds=3)
    )
    async with kube(config, started=False) as it:
        proxy.inject(Fault.SLOW, path=JOB, seconds=30)
        began = time.monotonic()
        with pytest.raises(LookFailed, match="TimeoutError"):
            await it.cluster.get_job("burst-b-1")
        assert time.monotonic() - began < 15
