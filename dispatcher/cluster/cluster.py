"""The JobCluster of the Kubernetes API.

Decides the order of requests for each act and look, and what their replies amount to. What is known between looks is
the :mod:`mirror`'s. Manifests are created in the namespace that they name, with our instance's label on them.

Webhooks and policies of others may change a Job on its way. One that is paid for is sent for a rehearsal first (a dry
run) now and then for each kind of Job, so that one that would cost more than was set aside is never made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from dispatcher.cluster import paths, writing
from dispatcher.cluster.altered import broken_promises, is_paid
from dispatcher.cluster.api import METADATA_LIST, Api, NoAnswer
from dispatcher.cluster.clock import boottime
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.cluster.mirror import Mirror
from dispatcher.cluster.reading import job_seen
from dispatcher.core.jobs import LABEL_JOB
from dispatcher.core.observations import ClusterChanges, ClusterSeen, JobSeen, NodeHeadroom
from dispatcher.errors import DispatcherError, LookFailed
from dispatcher.ports import Answer, Created, ObjectRef

if TYPE_CHECKING:
    from dispatcher.ports import JobCluster

log = structlog.get_logger(__name__)

_LOG_LINES_MAX = 200
_LOG_BYTES_MAX = 1024 * 1024
"""Read of a log at most, to cut its end from."""
REHEARSED_FOR_SECONDS = 600.0
"""How long a rehearsal holds for Jobs of the same kind; and how long it is told that a Job was altered."""
_DRY_RUN = {"dryRun": "All"}


def _nobody_listens() -> None:
    return None


class KubernetesCluster:
    """Our Jobs in a Kubernetes cluster. ``start`` before use, then ``stop``; pods run on."""

    def __init__(self, api: Api, config: KubernetesConfig, on_news: Callable[[], None] = _nobody_listens) -> None:
        self._api = api
        self._config = config
        self._mirror = Mirror(api, config, on_news)
        self._rehearsing = asyncio.Lock()
        self._rehearsed: dict[str, float] = {}
        """When Jobs of a kind came through a rehearsal as they were sent."""
        self._altered: tuple[float, str] | None = None
        """The last Job of which others changed what a promise rests on."""

    async def start(self) -> None:
        """Lists and begins to watch. Raises DispatcherError where the first lists do not come in time."""
        self._mirror.start()
        try:
            async with asyncio.timeout(self._config.patience.total_seconds()):
                await self._mirror.wait_synced()
        except TimeoutError as error:
            missing = [each for each in self._mirror.reflectors if not each.synced]
            await self.stop()
            told = "; ".join(f"{each.path}: {each.last_error or 'no answer'}" for each in missing)
            raise DispatcherError(f"the cluster could not be read: {told}") from error

    async def stop(self) -> None:
        """Watches no more."""
        await self._mirror.stop()

    def faults(self) -> Iterator[str]:
        """What is wrong with seeing the cluster, or with what others do to our Jobs; a line each."""
        yield from self._mirror.faults()
        if self._altered is not None and boottime() - self._altered[0] < REHEARSED_FOR_SECONDS:
            yield self._altered[1]

    # --- acts -------------------------------------------------------------------------------------------------------

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Creates Jobs, each under its own name and for itself: one that is refused stops no other."""
        return await writing.each(manifests, self._create)

    async def _create(self, manifest: Mapping[str, Any]) -> Created:
        try:
            body = paths.marked_as_ours(manifest, self._config.instance)
            name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
        except (KeyError, TypeError) as error:
            return Created(Answer.REFUSED, text=f"the manifest is not a Job: {error!r} is missing")
        if namespace not in self._config.namespaces:
            text = f"namespace {namespace!r} is not one of those that this dispatcher looks after"
            return Created(Answer.REFUSED, text=text)
        altered = await self._rehearse(body) if is_paid(body) else None
        if altered is not None:
            return Created(Answer.REFUSED, text=altered, later=True)
        try:
            reply = await self._api.send("POST", paths.jobs(namespace), body=body)
            if reply.ok:
                self._tell_if_altered(body, reply.body, "was altered on its way")
                return Created(Answer.DONE, job_seen(reply.body))
            if reply.reason == "AlreadyExists":
                there = await writing.get(self._api, paths.jobs(namespace, name))
                # Gone between the two requests: what was there is no more, and this create did not happen.
                return Created(Answer.UNKNOWN) if there is None else Created(Answer.DONE, job_seen(there), already=True)
        except NoAnswer as error:
            log.warning("job.create_unanswered", job=name, error=str(error))
            return Created(Answer.UNKNOWN, text=str(error))
        if reply.doubtful or reply.status == 409:  # a 409 of another reason: an admission plugin met another writer
            return Created(Answer.UNKNOWN, text=reply.text)
        return Created(Answer.REFUSED, text=reply.text, later=writing.may_pass(reply))

    async def _rehearse(self, body: Mapping[str, Any]) -> str | None:
        """Why Jobs of this kind must not be made; None where they may, or where nothing could be learnt.

        A create that is refused for another reason will say so itself.
        """
        kind = _kind_of(body)
        async with self._rehearsing:
            if boottime() - self._rehearsed.get(kind, -REHEARSED_FOR_SECONDS) < REHEARSED_FOR_SECONDS:
                return None
            try:
                reply = await self._api.send(
                    "POST", paths.jobs(body["metadata"]["namespace"]), query=_DRY_RUN, body=body
                )
            except NoAnswer as error:
                log.warning("job.rehearsal_unanswered", job=body["metadata"]["name"], error=str(error))
                return None
            if not reply.ok:
                log.info("job.rehearsal_refused", job=body["metadata"]["name"], text=reply.text)
                return None
            told = self._tell_if_altered(body, reply.body, "is not made: it would be altered on its way")
            if told is None:
                self._rehearsed[kind] = boottime()
            return told

    def _tell_if_altered(self, sent: Mapping[str, Any], stored: Mapping[str, Any], what: str) -> str | None:
        changes = broken_promises(sent, stored)
        if not changes:
            return None
        name = sent["metadata"]["name"]
        told = (
            f"Job {name} {what} ({'; '.join(changes)}); exclude its namespace from the webhook or policy that does it"
        )
        self._altered = (boottime(), told)
        log.error("job.altered", job=name, changes=changes, made=stored["metadata"].get("uid"))
        return told

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks Jobs; our finalizer keeps them readable, and the Job controller makes no more pods for them."""

        async def mark(namespace: str, ref: ObjectRef) -> Answer:
            return await writing.mark(self._api, paths.jobs(namespace, ref.name), ref.uid, background=True)

        return await writing.each(refs, lambda ref: self._act(ref, self._place_of_job(ref.name), mark))

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks Jobs, deletes what is left of their pods, and takes our finalizer off."""

        async def let_go(namespace: str, ref: ObjectRef) -> Answer:
            path, pods = paths.jobs(namespace, ref.name), partial(self._delete_pods_of, namespace, ref.name)
            return await writing.let_go(self._api, path, ref.uid, background=True, once_marked=pods)

        return await writing.each(refs, lambda ref: self._act(ref, self._place_of_job(ref.name), let_go))

    async def _delete_pods_of(self, namespace: str, job: str) -> None:
        """All pods of a Job that makes no more, in one request.

        The garbage collector would do it too, with two requests for each pod. It does for those that are left here.
        """
        if not self._mirror.has_pods_of(job):
            return
        path, query = paths.pods(namespace), paths.pods_of_job(self._config.instance, job)
        try:
            reply = await self._api.send("DELETE", path, query=query, accept=METADATA_LIST)
        except NoAnswer as error:
            log.info("pods.left_to_the_collector", job=job, why=str(error))
            return
        if not reply.ok:
            log.warning("pods.left_to_the_collector", job=job, why=reply.text)

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Deletes pods by uid."""

        async def mark(namespace: str, ref: ObjectRef) -> Answer:
            return await writing.mark(self._api, paths.pods(namespace, ref.name), ref.uid)

        return await writing.each(refs, lambda ref: self._act(ref, self._place_of_pod(ref.uid), mark))

    async def _act(
        self, ref: ObjectRef, namespaces: Sequence[str], act: Callable[[str, ObjectRef], Awaitable[Answer]]
    ) -> Answer:
        """The act where the object is: NOT_FOUND only when none of the namespaces has it."""
        answer = Answer.NOT_FOUND
        for namespace in namespaces:
            answer = await act(namespace, ref)
            if answer is not Answer.NOT_FOUND:
                return answer
        return answer

    def _place_of_job(self, name: str) -> Sequence[str]:
        return self._places(self._mirror.namespace_of_job(name))

    def _place_of_pod(self, uid: str) -> Sequence[str]:
        return self._places(self._mirror.namespace_of_pod(uid))

    def _places(self, likely: str | None) -> Sequence[str]:
        """Where to look, the likely one first."""
        if likely is None:
            return self._config.namespaces
        return [likely, *(each for each in self._config.namespaces if each != likely)]

    # --- looks ------------------------------------------------------------------------------------------------------

    async def get_job(self, name: str) -> JobSeen | None:
        """The Job of that name, looked for in all namespaces of ours. Raises LookFailed."""
        for namespace in self._place_of_job(name):
            try:
                raw = await writing.get(self._api, paths.jobs(namespace, name))
            except NoAnswer as error:
                raise LookFailed(str(error)) from error
            if raw is not None:
                return job_seen(raw)
        return None

    async def list_all(self) -> ClusterSeen:
        """All our Jobs and pods; the watches go on from these lists. Raises LookFailed."""
        try:
            return await self._mirror.relist()
        except NoAnswer as error:
            raise LookFailed(str(error)) from error

    async def changes(self) -> ClusterChanges:
        """What was seen to change since the last call. Raises LookFailed while nothing was seen yet."""
        if not self._mirror.has_jobs_and_pods:
            raise LookFailed("Jobs and pods have not been listed yet")
        return self._mirror.take_changes()

    async def headroom(self) -> NodeHeadroom:
        """What is free on the real nodes, as far as seen. Raises LookFailed while nothing was seen yet."""
        if not self._mirror.knows_room:
            raise LookFailed("nodes and the pods on them have not been listed yet")
        return self._mirror.headroom()

    async def has_pod(self, namespace: str, pod: ObjectRef) -> bool:
        """Whether that pod is there, whoever made it. Asked by a list of one, which needs no further right.

        Raises LookFailed.
        """
        query = {"fieldSelector": f"metadata.name={pod.name}", "limit": "1"}
        try:
            reply = await self._api.send("GET", paths.pods(namespace), query=query)
        except NoAnswer as error:
            raise LookFailed(str(error)) from error
        if not reply.ok:
            raise LookFailed(f"pod {namespace}/{pod.name}: {reply.status} {reply.text}")
        return any(each["metadata"]["uid"] == pod.uid for each in reply.body.get("items") or ())

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """The end of a pod's log; empty where there is none, or it cannot be had now."""
        namespace = self._mirror.namespace_of_pod(pod.uid)
        if namespace is None:
            return ""
        query = {"tailLines": str(min(_LOG_LINES_MAX, bytes_max)), "limitBytes": str(_LOG_BYTES_MAX)}
        try:
            reply = await self._api.send("GET", f"{paths.pods(namespace, pod.name)}/log", query=query, accept="*/*")
        except NoAnswer as error:
            log.info("log.not_read", pod=pod.name, error=str(error))
            return ""
        if not reply.ok:
            log.info("log.not_read", pod=pod.name, error=reply.text)
            return ""
        return reply.plain[-bytes_max:].decode(errors="ignore") if bytes_max > 0 else ""


def _kind_of(job: Mapping[str, Any]) -> str:
    """What webhooks choose by: where it is, its labels but for its own name, what it runs and asks for."""
    pod = job["spec"]["template"]["spec"]
    labels = {name: value for name, value in job["metadata"]["labels"].items() if name != LABEL_JOB}
    runs = [(each.get("image"), each.get("resources")) for each in pod.get("containers") or ()]
    return json.dumps([job["metadata"]["namespace"], labels, runs, pod.get("nodeSelector")], sort_keys=True)


if TYPE_CHECKING:

    def _is_a_job_cluster(cluster: KubernetesCluster) -> JobCluster:
        return cluster
