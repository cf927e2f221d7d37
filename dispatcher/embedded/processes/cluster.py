"""The JobCluster of the embedded default: Jobs as processes of this machine, and the account of its virtual node.

Decides the order of things: what changes is written to the store first, then made so, then told. Knows the rules of
Jobs, nodes and groups only through :mod:`turns`. One task (the pump) takes the turns; acts from outside are turns of
their own under the same lock. Processes outlive the dispatcher: ``stop`` leaves them, ``start`` finds them again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from dispatcher.core.failures import FailureCause
from dispatcher.core.observations import AccountSeen, ClusterChanges, ClusterSeen, JobSeen, NodeHeadroom
from dispatcher.embedded.answers import Failed
from dispatcher.embedded.objects import ObjectStore, StoreWriteFailed
from dispatcher.embedded.processes.config import ProcessClusterConfig
from dispatcher.embedded.processes.controller import JobStatus, active
from dispatcher.embedded.processes.folders import PodFolders
from dispatcher.embedded.processes.keeping import Keeper
from dispatcher.embedded.processes.manifests import BadManifest, read_manifest
from dispatcher.embedded.processes.news import News
from dispatcher.embedded.processes.node_pool import measured, rooms
from dispatcher.embedded.processes.only_one import OnlyOne
from dispatcher.embedded.processes.pods import Ending, Job, Pod
from dispatcher.embedded.processes.processes import Processes, kill_strays
from dispatcher.embedded.processes.recovery import recover, sweep
from dispatcher.embedded.processes.starting import Answer as StartAnswer
from dispatcher.embedded.processes.starting import Starter
from dispatcher.embedded.processes.turns import (
    Ended,
    Fact,
    NotStarted,
    Rules,
    Started,
    World,
    records_needed,
    take_cluster_turn,
    taken_on_nodes,
)
from dispatcher.embedded.processes.virtual_node import Counters
from dispatcher.errors import DispatcherError, LookFailed, OutcomeUnknown
from dispatcher.ports import Answer, Created, ObjectRef

if TYPE_CHECKING:
    from dispatcher.ports import AciAccount, Clock, JobCluster

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 1.0
"""The longest sleep of the pump: the clock that is handed in may have been set meanwhile."""
_GATHER_S = 0.005
"""How long news wait for company: pods that start or end together make a few turns, not one each."""
_GONE_WITHIN_S = 10.0


def _nobody_listens() -> None:
    return None


class ProcessCluster:
    """A cluster on this machine. ``start`` before use; then ``stop``, or ``shut_down`` to end its pods as well."""

    def __init__(
        self,
        config: ProcessClusterConfig,
        store: ObjectStore,
        clock: Clock,
        on_news: Callable[[], None] = _nobody_listens,
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_news = on_news
        self._keeper = Keeper(store)
        self._folders = PodFolders(config.folder.absolute() / "pods")
        self._only_one = OnlyOne(config.folder.absolute() / "lock")
        self._rules = Rules(config, tuple(measured(node) for node in config.nodes), lambda: str(uuid.uuid4()))
        self._world = World()
        self._news = News()
        self._facts: list[Fact] = []
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._hands: ThreadPoolExecutor | None = None
        self._processes: Processes | None = None
        self._starter: Starter | None = None
        self._pump: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Future[Fact | None]] = set()
        self._vanished: set[str] = set()
        """Pods whose process is gone without a word; somebody looks after what is left of them."""
        self._ending = False
        self._leaving = False

    # --- its life ---

    async def start(self) -> None:
        """Takes the cluster over: finds processes again, reads how others ended, and goes on from there.

        Raises DispatcherError where another process runs this cluster, LookFailed where the store does not answer.
        """
        self._folders.path.mkdir(parents=True, exist_ok=True)
        await self._only_one.take()
        self._leaving = self._ending = False
        try:
            self._hands = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pods")
            self._processes = Processes(self._process_ended, self._config.kill_grace)
            self._starter = Starter(self._config, self._folders, self._keeper, self._clock, self._hands, self._started)
            self._world = await self._keeper.load()
            await self._recover()
            self._news.everything_is_new()
            await self._take_turn()
        except BaseException:
            await self.stop()
            raise
        self._pump = asyncio.create_task(self._run(), name="embedded-cluster")

    async def stop(self) -> None:
        """Lets go of everything; the pods' processes run on, and the next start finds them."""
        if self._pump is not None:
            self._leaving = True
            self._wake.set()
            await asyncio.wait({self._pump})  # a turn that is under way is finished; the store bounds how long it takes
            self._pump = None
        if self._starter is not None:
            await self._starter.stop()
            self._starter = None
        if self._chores:
            await asyncio.wait(self._chores)
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        if self._hands is not None:
            self._hands.shutdown(wait=True)
            self._hands = None
        self._only_one.give_up()

    async def shut_down(self) -> None:
        """Ends all pods' processes, waits until they are gone, and stops. Raises DispatcherError if some are left."""
        left: tuple[str, ...] = ()
        if self._processes is not None and self._starter is not None:
            self._ending = True
            await self._starter.stop()
            for uid in self._processes.running():
                self._processes.end(uid)
            patience = self._config.kill_grace.total_seconds() + _GONE_WITHIN_S
            until = asyncio.get_running_loop().time() + patience
            while len(self._processes) > 0 and asyncio.get_running_loop().time() < until:
                self._wake.clear()
                await _wait(self._wake, 0.5)
            left = self._processes.running()
        await self.stop()
        if left:
            raise DispatcherError(f"{len(left)} pods would not end: {', '.join(left[:5])}")

    # --- the port: acts ---

    async def create_jobs(self, manifests: Sequence[Mapping[str, Any]]) -> Sequence[Created]:
        """Creates Jobs, each under its own name. One that is refused stops no other."""
        async with self._turn:
            jobs = dict(self._world.jobs)
            made = [self._make(manifest, jobs) for manifest in manifests]
            failed = Failed()
            with failed:
                await self._keep(replace(self._world, jobs=jobs))
            self._wake.set()
        if failed.answer is None:
            return made
        answer, text = failed.answer, failed.text
        return [c if c.already or c.answer is Answer.REFUSED else Created(answer, text=text) for c in made]

    def _make(self, manifest: Mapping[str, Any], jobs: dict[str, Job]) -> Created:
        try:
            spec = read_manifest(manifest)
        except BadManifest as error:
            return Created(Answer.REFUSED, text=str(error))
        there = jobs.get(spec.name)
        if there is not None:
            return Created(Answer.DONE, self._seen(there), already=True)
        now = self._clock.now()
        job = Job(spec, manifest, str(uuid.uuid4()), now, JobStatus(started_at=now))
        jobs[spec.name] = job
        return Created(Answer.DONE, self._seen(job))

    async def delete_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks Jobs; one that does not carry our finalizer goes at once."""

        def mark(jobs: dict[str, Job], job: Job) -> None:
            if job.spec.kept_by_us:
                jobs[job.name] = replace(job, marked=True)
            else:
                del jobs[job.name]

        return await self._for_jobs(refs, mark)

    async def release_jobs(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Lets Jobs go, and what is left of their pods."""

        def drop(jobs: dict[str, Job], job: Job) -> None:
            del jobs[job.name]

        return await self._for_jobs(refs, drop)

    async def _for_jobs(self, refs: Sequence[ObjectRef], act: Callable[[dict[str, Job], Job], None]) -> list[Answer]:
        async with self._turn:
            jobs = dict(self._world.jobs)
            answers = []
            for ref in refs:
                job = jobs.get(ref.name)
                answers.append(_found(job, ref))
                if job is not None and job.uid == ref.uid:
                    act(jobs, job)
            return await self._keep_and_answer(replace(self._world, jobs=jobs), answers)

    async def delete_pods(self, refs: Sequence[ObjectRef]) -> Sequence[Answer]:
        """Marks pods; each goes when its process is gone."""
        async with self._turn:
            pods = dict(self._world.pods)
            by_name = {pod.name: pod for pod in pods.values()}
            answers = []
            for ref in refs:
                pod = by_name.get(ref.name)
                answers.append(_found(pod, ref))
                if pod is not None and pod.uid == ref.uid:
                    pods[pod.uid] = replace(pod, marked=True)
            return await self._keep_and_answer(replace(self._world, pods=pods), answers)

    async def _keep_and_answer(self, world: World, answers: list[Answer]) -> list[Answer]:
        failed = Failed()
        with failed:
            await self._keep(world)
        self._wake.set()
        if failed.answer is None:
            return answers
        return [failed.answer if answer is Answer.DONE else answer for answer in answers]

    # --- the port: looks ---

    async def get_job(self, name: str) -> JobSeen | None:
        """The Job of that name; None if there is none. Raises LookFailed."""
        self._check_alive()
        job = self._world.jobs.get(name)
        return None if job is None else self._seen(job)

    async def list_all(self) -> ClusterSeen:
        """All Jobs and pods. Raises LookFailed."""
        self._check_alive()
        jobs = tuple(self._seen(job) for job in self._world.jobs.values())
        return ClusterSeen(jobs, tuple(pod.seen() for pod in self._world.pods.values()))

    async def changes(self) -> ClusterChanges:
        """What changed since the last call; everything on the first. Raises LookFailed."""
        self._check_alive()
        return self._news.take(self._world, self._seen)

    async def headroom(self) -> NodeHeadroom:
        """What is free on each node. Raises LookFailed."""
        self._check_alive()
        return rooms(self._rules.nodes, taken_on_nodes(self._world.pods.values()))

    async def log_tail(self, pod: ObjectRef, bytes_max: int) -> str:
        """The end of a pod's log; empty where there is none."""
        if pod.uid not in self._world.pods or self._hands is None:
            return ""
        folder = self._folders.of(pod.uid)
        return await asyncio.get_running_loop().run_in_executor(self._hands, folder.log_tail, bytes_max)

    async def has_pod(self, namespace: str, pod: ObjectRef) -> bool:
        """Whether that pod is there; namespaces are all one here. Raises LookFailed."""
        self._check_alive()
        return pod.uid in self._world.pods

    async def look(self, wanted: Collection[str]) -> AccountSeen:
        """The virtual node's container groups, also for a while after they are gone. Raises LookFailed."""
        self._check_alive()
        now = self._clock.now()
        return AccountSeen(now, {uid: group.seen(now) for uid, group in self._world.meter.groups.items()})

    @property
    def counters(self) -> Counters:
        """What the virtual node was asked for so far."""
        return self._world.meter.counters

    def _seen(self, job: Job) -> JobSeen:
        pods = [p.for_the_controller() for p in self._world.pods.values() if p.job_uid == job.uid]
        live = not job.marked and job.status.condition is None
        uncounted = live and any(pod.ended and not pod.counted for pod in pods)
        return job.seen(active=active(pods), uncounted=uncounted)

    def _check_alive(self) -> None:
        if self._pump is None:
            raise LookFailed("the embedded cluster is not running")
        if self._pump.done():
            raise LookFailed(f"the embedded cluster broke down: {self._pump.exception()!r}")

    # --- the pump ---

    async def _run(self) -> None:
        try:
            while not self._leaving:
                self._wake.clear()
                sleep_s = await self._take_turn()
                if await _wait(self._wake, sleep_s):
                    await asyncio.sleep(_GATHER_S)
        except Exception:
            log.exception("cluster.broken")
            self._on_news()  # whoever looks now is told by LookFailed
            raise

    async def _take_turn(self) -> float:
        """One turn; how long nothing will happen by itself."""
        if self._ending:
            return _LOOK_AGAIN_S
        if self._parts()[1].broken:
            raise RuntimeError("the starter has ended before its time")
        async with self._turn:
            try:
                facts = tuple(self._facts)
                records = await self._keeper.records(records_needed(self._world))
                now = self._clock.now()
                world, again_at = take_cluster_turn(self._rules, self._world, facts, records, now)
                await self._keep(world)
            except (StoreWriteFailed, OutcomeUnknown, LookFailed) as error:
                log.warning("cluster.turn_not_kept", error=str(error))
                return _LOOK_AGAIN_S
            del self._facts[: len(facts)]
            self._make_it_so()
        if again_at is None:
            return _LOOK_AGAIN_S
        return min(max((again_at - self._clock.now()).total_seconds(), 0.0), _LOOK_AGAIN_S)

    async def _keep(self, world: World) -> None:
        """Writes a new world down, and only then lets it be seen."""
        old = self._world
        await self._keeper.keep(old, world)
        self._world = world
        if self._news.note(old, world):
            self._on_news()

    def _make_it_so(self) -> None:
        """Brings processes into line with what is written: starts, ends, and removes what is left of pods."""
        processes, starter = self._parts()
        for pod in self._world.pods.values():
            if pod.generation == 0 or pod.finished or pod.finished_at is not None:
                continue
            if pod.ending is not Ending.NOT:
                processes.end(pod.uid)
                starter.call_off(pod.uid)
            if not (pod.uid in processes or starter.has(pod.uid) or self._is_told_of(pod.uid)):
                job = self._world.jobs.get(pod.job)
                wanted = job is not None and job.uid == pod.job_uid and pod.ending is Ending.NOT
                starter.order(pod, job.spec if job is not None and wanted else None)
        for uid in self._news.take_forgotten_pods():
            self._chore(self._folders.of(uid).remove)

    def _is_told_of(self, uid: str) -> bool:
        return uid in self._vanished or any(fact.uid == uid for fact in self._facts)

    def _parts(self) -> tuple[Processes, Starter]:
        if self._processes is None or self._starter is None:
            raise RuntimeError("the embedded cluster is not started")
        return self._processes, self._starter

    # --- what the processes tell ---

    def _started(self, uid: str, answer: StartAnswer) -> None:
        if isinstance(answer, NotStarted):
            self._learn(answer)
            return
        self._learn(Started(uid, self._clock.now()))
        if answer is None:
            self._process_ended(uid)
        else:
            self._parts()[0].watch(uid, answer)

    def _process_ended(self, uid: str) -> None:
        end = self._end_of(uid)
        if end is not None:
            self._learn(end)
        else:
            self._vanished.add(uid)
            self._chore(self._look_after, uid)

    def _end_of(self, uid: str) -> Fact | None:
        outcome = self._folders.of(uid).outcome()
        return None if outcome is None else Ended(uid, outcome.at, outcome.code, outcome.stopped)

    def _look_after(self, uid: str) -> Fact:
        """A wrapper that wrote nothing down: killed, with or without the rest, or it never got its claim. Blocks."""
        kill_strays(uid)
        pod = self._world.pods.get(uid)
        at = self._clock.now()
        killed_early = pod is not None and pod.ending is not Ending.NOT
        if pod is not None and not killed_early and self._folders.of(uid).claim(pod.generation) is None:
            text = f"the wrapper could not write into {self._folders.of(uid).path}"
            return NotStarted(uid, at, "StartError", text, FailureCause.UNKNOWN)
        return self._end_of(uid) or Ended(uid, at, None)

    def _learn(self, fact: Fact) -> None:
        self._facts.append(fact)
        self._wake.set()

    def _chore(self, work: Callable[..., Fact | None], *args: object) -> None:
        """Something slow that is done aside; a fact that comes of it is learned."""
        if self._hands is None:
            raise RuntimeError("the embedded cluster is not started")
        chore = asyncio.get_running_loop().run_in_executor(self._hands, work, *args)
        self._chores.add(chore)
        chore.add_done_callback(self._chore_done)

    def _chore_done(self, chore: asyncio.Future[Fact | None]) -> None:
        self._chores.discard(chore)
        error = chore.exception()
        if error is not None:
            log.error("chore.failed", error=repr(error))
            return
        fact = chore.result()
        if fact is not None:
            self._vanished.discard(fact.uid)
            self._learn(fact)

    # --- after a restart ---

    async def _recover(self) -> None:
        processes, _ = self._parts()
        loop = asyncio.get_running_loop()
        for left in self._folders.unknown(self._world.pods):
            await loop.run_in_executor(self._hands, sweep, left)
        pods = dict(self._world.pods)
        for pod in self._world.pods.values():
            if pod.generation == 0 or pod.finished or pod.finished_at is not None:
                continue
            found = await loop.run_in_executor(
                self._hands, recover, pod, self._folders.of(pod.uid), self._clock.now()
            )  # fmt: skip
            self._facts.extend(found.facts)
            if found.process is not None:
                processes.watch(pod.uid, found.process)
            if found.start_again:
                pods[pod.uid] = replace(pod, generation=pod.generation + 1)
            log.info("pod.recovered", pod=pod.name, runs=found.process is not None, start_again=found.start_again)
        await self._keep(replace(self._world, pods=pods))


def _found(there: Job | Pod | None, ref: ObjectRef) -> Answer:
    if there is None:
        return Answer.NOT_FOUND
    return Answer.DONE if there.uid == ref.uid else Answer.CONFLICT


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came in time."""
    try:
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
            return await event.wait()
    except TimeoutError:
        return False


if TYPE_CHECKING:

    def _is_a_job_cluster(cluster: ProcessCluster) -> JobCluster:
        return cluster

    def _is_an_aci_account(cluster: ProcessCluster) -> AciAccount:
        return cluster
