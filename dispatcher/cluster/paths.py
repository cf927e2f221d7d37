"""Where things are in the Kubernetes API, and how ours are told from others'.

Decides paths, labels and selectors. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.core.jobs import LABEL_JOB, LABEL_MANAGED_BY

MANAGED_BY = "burst-dispatcher"
LABEL_INSTANCE = "burst-dispatcher.io/instance"
LABEL_KIND = "burst-dispatcher.io/kind"
RECORD = "record"
LEDGER = "ledger"

NODES = "/api/v1/nodes"
ALL_PODS = "/api/v1/pods"
VERSION = "/version"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def jobs(namespace: str, name: str = "") -> str:
    """The Jobs of a namespace, or one of them."""
    return _in(f"/apis/batch/v1/namespaces/{namespace}/jobs", name)


def pods(namespace: str, name: str = "") -> str:
    """The pods of a namespace, or one of them."""
    return _in(f"/api/v1/namespaces/{namespace}/pods", name)


def config_maps(namespace: str, name: str = "") -> str:
    """The ConfigMaps of a namespace, or one of them."""
    return _in(f"/api/v1/namespaces/{namespace}/configmaps", name)


def leases(namespace: str, name: str = "") -> str:
    """The Leases of a namespace, or one of them."""
    return _in(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", name)


def _in(collection: str, name: str) -> str:
    return f"{collection}/{name}" if name else collection


def labels(instance: str, **more: str) -> dict[str, str]:
    """What everything of ours carries."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_INSTANCE: instance, **more}


def ours(instance: str) -> dict[str, str]:
    """The query for what is ours."""
    return {"labelSelector": f"{LABEL_INSTANCE}={instance}"}


def pods_of_job(instance: str, job: str) -> dict[str, str]:
    """The query for the pods of one of our Jobs."""
    return {"labelSelector": f"{LABEL_INSTANCE}={instance},{LABEL_JOB}={job}"}


def records_of(instance: str) -> dict[str, str]:
    """The query for our records."""
    return {"labelSelector": f"{LABEL_INSTANCE}={instance},{LABEL_KIND}={RECORD}"}


def pods_of_others(instance: str) -> dict[str, str]:
    """The query for pods of others that take room on a node."""
    return {
        "labelSelector": f"{LABEL_INSTANCE}!={instance}",
        "fieldSelector": "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed",
    }


def marked_as_ours(manifest: Mapping[str, Any], instance: str) -> dict[str, Any]:
    """A Job's manifest with our labels on the Job and on its pods. Raises KeyError or TypeError where it is no Job."""
    template = manifest["spec"]["template"]
    pod_metadata = template.get("metadata") or {}
    metadata = {**manifest["metadata"], "labels": {**(manifest["metadata"].get("labels") or {}), **labels(instance)}}
    marked = {
        **template,
        "metadata": {**pod_metadata, "labels": {**(pod_metadata.get("labels") or {}), **labels(instance)}},
    }
    return {**manifest, "metadata": metadata, "spec": {**manifest["spec"], "template": marked}}
