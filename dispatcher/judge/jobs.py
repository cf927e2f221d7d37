"""Rules about Jobs: restarts, retries, deadlines, and what is left behind.

Decides nothing about levels; those are the profile's.
"""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.judge.findings import CONNECTOR, JOB_DOCS, Effect, Found, rule
from dispatcher.judge.workloads import Workload, mapping, sequence, text, whole


@rule(
    "restart-policy",
    says="another restart policy than Never",
    effect=Effect.DIFFERS,
    remedy="write restartPolicy: Never, and let the Job retry",
    source=CONNECTOR + ": with OnFailure or Always a refused create leaves the pod Pending for ever, even if it runs",
)
def _restart(work: Workload) -> Iterator[Found]:
    policy = text(work.spec.get("restartPolicy")) or "Always"
    if work.kind in ("Pod", "Job", "CronJob") and policy != "Never":
        yield Found(work.at("restartPolicy"), f"{policy}: a refused create is never told, and a group may run unseen")


@rule(
    "pod-failure-policy",
    says="a pod failure policy",
    effect=Effect.IGNORED,
    remedy="take it out; use backoffLimitPerIndex",
    source=CONNECTOR
    + ": exit codes are lost; with it a deleted pod is replaced only when it has ended, which it never does",
)
def _failure_policy(work: Workload) -> Iterator[Found]:
    if mapping(work.job).get("podFailurePolicy"):
        yield Found(f"{work.job_path}.podFailurePolicy", "its rules cannot match: every exit code reads 0")


@rule(
    "pod-replacement-policy",
    says="replacement of failed pods only",
    effect=Effect.PENDING,
    remedy="take podReplacementPolicy out",
    source=CONNECTOR + ": a deleted pod never reaches a final phase, so that no other follows",
)
def _replacement(work: Workload) -> Iterator[Found]:
    if mapping(work.job).get("podReplacementPolicy") == "Failed":
        yield Found(f"{work.job_path}.podReplacementPolicy", "a deleted pod is never replaced")


@rule(
    "backoff-shared",
    says="one retry limit for all pods of a Job",
    effect=Effect.DIFFERS,
    remedy="use completionMode: Indexed with backoffLimitPerIndex",
    source=JOB_DOCS + ": a refused create counts as a failed pod, and the limit ends every other pod with it",
)
def _backoff(work: Workload) -> Iterator[Found]:
    job = mapping(work.job)
    completions = whole(job.get("completions")) or whole(job.get("parallelism")) or 1
    if work.job is not None and completions > 1 and job.get("backoffLimitPerIndex") is None:
        limit = whole(job.get("backoffLimit"))
        path = f"{work.job_path}.backoffLimit"
        yield Found(path, f"{6 if limit is None else limit} failures of any of its {completions} pods end them all")


@rule(
    "deadline-missing",
    says="a Job without a deadline",
    effect=Effect.DIFFERS,
    remedy="set activeDeadlineSeconds on the Job, and let the program end by itself before",
    source=JOB_DOCS + "; " + CONNECTOR + ": a pod that cannot start stays Pending for up to 30 minutes, or for ever",
)
def _deadline(work: Workload) -> Iterator[Found]:
    if work.job is not None and not whole(work.job.get("activeDeadlineSeconds")):
        yield Found(
            f"{work.job_path}.activeDeadlineSeconds", "is missing: nothing ends a pod that hangs or never starts"
        )


@rule(
    "finished-kept",
    says="finished pods that are kept",
    effect=Effect.DIFFERS,
    remedy="set ttlSecondsAfterFinished to 60 or less, once logs and results are safe elsewhere",
    source=CONNECTOR + ": a group keeps its address and its place in the quota until the pod is deleted",
)
def _kept(work: Workload) -> Iterator[Found]:
    if work.job is not None and work.job.get("ttlSecondsAfterFinished") is None:
        yield Found(f"{work.job_path}.ttlSecondsAfterFinished", "is missing: finished pods hold addresses and quota")


@rule(
    "parallelism",
    says="more pods at once than the quotas allow by default",
    effect=Effect.DIFFERS,
    remedy="lower it, put several items into one pod, or have the quotas raised",
    source="Azure's defaults: 100 container groups a region, 100 creates in 5 minutes, 300 in an hour",
)
def _parallelism(work: Workload) -> Iterator[Found]:
    most = work.limits.counts.get("groups_usual")
    key = "replicas" if work.job is None else "parallelism"
    holder = work.job if work.job is not None else mapping(work.document.get("spec"))
    wanted = whole(holder.get(key)) if work.kind != "Pod" else None
    if most is not None and wanted is not None and wanted > most:
        path = f"{work.job_path}.{key}" if work.job is not None else f"spec.{key}"
        yield Found(path, f"{wanted} at once, and a region gives {most} container groups by default")


@rule(
    "elastic-work",
    says="a Job whose pods share one queue of work",
    effect=Effect.DIFFERS,
    remedy="set completions, or make sure that every pod can end by itself",
    source=JOB_DOCS + ": without completions the Job is done when one pod has succeeded",
)
def _elastic(work: Workload) -> Iterator[Found]:
    job = work.job
    if job is None or job.get("completions") is not None:
        return
    if (whole(job.get("parallelism")) or 1) > 1 and not sequence(mapping(job.get("successPolicy")).get("rules")):
        yield Found(f"{work.job_path}.completions", "is missing: no new pod starts once one of them has succeeded")
