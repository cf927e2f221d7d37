"""Manifests, as the API server would take them: a create that is validated and admitted, and stored nowhere.

Decides where each kind is created and what of a stored object has to be left out, so that what `kubectl get` printed
can be asked about too. Knows no rules of its own: what it returns, the server said.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from dispatcher.cluster.api import Api, Reply

_COLLECTIONS = {
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "Job": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "CronJob": "/apis/batch/v1/namespaces/{namespace}/cronjobs",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/daemonsets",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}
_OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences")
_OF_THE_JOB_CONTROLLER = (
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "job-name",
    "batch.kubernetes.io/job-name",
)


async def refusals(api: Api, document: Mapping[str, Any], namespace: str) -> list[tuple[str, str]]:
    """Field and reason of everything that the server would refuse; none: it would be taken. Raises NoAnswer.

    A name that is taken is no refusal: the manifest itself was found right.
    """
    body = as_new(document, namespace)
    path = _COLLECTIONS[str(body["kind"])].format(namespace=body["metadata"]["namespace"])
    reply = await api.send("POST", path, query={"dryRun": "All", "fieldValidation": "Strict"}, body=body)
    if reply.ok or reply.reason == "AlreadyExists":
        return []
    return _causes(reply)


def as_new(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """The object as it would be created: without what the server and its controllers have written into it."""
    body = deepcopy(dict(document))
    body.pop("status", None)
    metadata = {key: value for key, value in dict(body.get("metadata") or {}).items() if key not in _OF_THE_SERVER}
    metadata.setdefault("namespace", namespace)
    body["metadata"] = metadata
    spec = body.get("spec")
    if body.get("kind") == "Job" and isinstance(spec, dict) and not spec.get("manualSelector"):
        spec.pop("selector", None)
        template = spec.get("template")
        own = template.get("metadata") if isinstance(template, dict) else None
        if isinstance(own, dict) and isinstance(own.get("labels"), dict):
            own["labels"] = {key: value for key, value in own["labels"].items() if key not in _OF_THE_JOB_CONTROLLER}
    return body


def _causes(reply: Reply) -> list[tuple[str, str]]:
    details = reply.body.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    found = [
        (str(each.get("field") or "metadata.name"), str(each.get("message") or reply.text))
        for each in causes or ()
        if isinstance(each, Mapping)
    ]
    return found or [("the object", reply.text)]
