"""A mutating admission webhook on loopback, as meshes, policy engines and queueing controllers have them."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from testbed.control_plane import ControlPlane
from tests.identities import a_certificate

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
Patch = Sequence[dict[str, Any]]


@dataclass
class Webhook:
    """What it does to our Jobs (it is handed the request; may be changed at any time), and what it was asked so far."""

    patch: Callable[[dict[str, Any]], Patch]
    reviews: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rehearsals(self) -> int:
        """How many of them were dry runs."""
        return sum(bool(each.get("dryRun")) for each in self.reviews)

    async def answer(self, request: web.Request) -> web.Response:
        """One admission review."""
        review = await request.json()
        asked = review["request"]
        self.reviews.append(asked)
        changes = list(self.patch(asked)) if asked["object"]["metadata"].get("name", "").startswith("burst-") else []
        patch = base64.b64encode(json.dumps(changes).encode()).decode()
        response = {"uid": asked["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})


@asynccontextmanager
async def a_webhook(
    plane: ControlPlane,
    namespace: str,
    folder: Path,
    patch: Callable[[dict[str, Any]], Patch],
) -> AsyncIterator[Webhook]:
    """A webhook that is asked about every new Job of the namespace, while the block lasts."""
    files, webhook = a_certificate(folder), Webhook(patch)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files.certificate, files.key)
    app = web.Application()
    app.router.add_post("/mutate", webhook.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    port = runner.addresses[0][1]
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    hook = {
        "name": "mutate.example.com",
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/mutate",
            "caBundle": base64.b64encode(files.certificate.read_bytes()).decode(),
        },
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 10,
    }
    await plane.api.post(CONFIGURATIONS, {"metadata": {"name": namespace}, "webhooks": [hook]})
    try:
        await plane._wait(lambda: _is_asked(plane, namespace, webhook), "the webhook")
        webhook.reviews.clear()
        yield webhook
    finally:
        await plane.api.delete(f"{CONFIGURATIONS}/{namespace}")
        await runner.cleanup()


async def _is_asked(plane: ControlPlane, namespace: str, webhook: Webhook) -> bool:
    """Configurations take effect a moment after they are written."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1.37"}]}
    job = {"metadata": {"generateName": "asked-"}, "spec": {"suspend": True, "template": {"spec": pod}}}
    made = await plane.api.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    await plane.api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/{made['metadata']['name']}")
    return bool(webhook.reviews)
