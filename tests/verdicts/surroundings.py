"""What templates take for granted: Secrets, ConfigMaps, volumes and accounts that must be there for them to be tried.

Decides their contents. A claim is bound by hand, as a disk that is there already would be, because it is the connector
that is asked and not a provisioner.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from testbed.control_plane import ControlPlane

PRIVATE_REGISTRY = "contoso.azurecr.io"
CLAIMS = {"05-claim": "managed-disk", "29-statefulset": "pgdata-database-0"}
"""Which template mounts which claim."""
_CORE = "/api/v1/namespaces"


async def create(plane: ControlPlane, namespace: str, template: str) -> None:
    """The namespace, and in it all that the template may refer to."""
    await plane.create_namespace(namespace)
    core = f"{_CORE}/{namespace}"
    await plane.api.post(f"{core}/serviceaccounts", {"metadata": {"name": "worker"}})
    await plane.api.post(f"{core}/configmaps", {"metadata": {"name": "app"}, "data": {"app.conf": "colour = blue\n"}})
    # The cluster's own certificate authority, which every namespace has; each pod's token volume refers to it.
    authority = plane.ca_file.read_text(encoding="utf-8")
    await plane.api.post(
        f"{core}/configmaps", {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": authority}}
    )
    login = {"username": "puller", "password": "secret", "auth": _base64("puller:secret")}
    secrets: dict[str, tuple[str, dict[str, str]]] = {
        "contoso-registry": (
            "kubernetes.io/dockerconfigjson",
            {".dockerconfigjson": json.dumps({"auths": {PRIVATE_REGISTRY: login}})},
        ),
        "storage-key": ("Opaque", {"azurestorageaccountname": "reports", "azurestorageaccountkey": _base64("key")}),
        "database": ("Opaque", {"password": "secret"}),
    }
    for name, (kind, data) in secrets.items():
        await plane.api.post(f"{core}/secrets", {"metadata": {"name": name}, "type": kind, "stringData": data})
    if claim := CLAIMS.get(template):
        await _bound_claim(plane, namespace, claim)


async def _bound_claim(plane: ControlPlane, namespace: str, claim: str) -> None:
    volume = f"{namespace}-{claim}"
    size = {"storage": "10Gi"}
    made: dict[str, Any] = {
        "metadata": {"name": volume},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": claim},
            "csi": {"driver": "disk.csi.azure.com", "volumeHandle": volume},
        },
    }
    await plane.api.post("/api/v1/persistentvolumes", made)
    claimed: dict[str, Any] = {
        "metadata": {"name": claim, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": {"requests": size},
        },
    }
    path = f"{_CORE}/{namespace}/persistentvolumeclaims"
    await plane.api.post(path, claimed)
    await plane.api.patch(f"{path}/{claim}/status", {"status": {"phase": "Bound", "capacity": size}})


async def remove(plane: ControlPlane, namespace: str, template: str) -> None:
    """What keeps running goes, and so does the volume, which belongs to no namespace."""
    for kind in ("deployments", "statefulsets", "daemonsets"):
        path = f"/apis/apps/v1/namespaces/{namespace}/{kind}"
        for found in (await plane.api.get(path))["items"]:
            await plane.api.delete(f"{path}/{found['metadata']['name']}", propagationPolicy="Background")
    await plane.clear_namespace(namespace)
    if claim := CLAIMS.get(template):
        await plane.api.delete(f"/api/v1/persistentvolumes/{namespace}-{claim}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
