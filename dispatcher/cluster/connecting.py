"""From a configuration to an API server that will do: credentials, version, rights.

Decides where credentials come from (the pod's own service account, or a kubeconfig outside a cluster) and that what is
missing is told at start, every right in a line of its own. Knows nothing of what is done with the connection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from dispatcher.cluster import paths
from dispatcher.cluster.api import Api, NoAnswer
from dispatcher.cluster.clock import ServerClock
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.cluster.rights import Use, uses
from dispatcher.cluster.versions import fault_of
from dispatcher.cluster.writing import each
from dispatcher.errors import BadConfiguration, DispatcherError

log = structlog.get_logger(__name__)

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_WATCHES_PER_NAMESPACE = 2


def own_namespace() -> str:
    """The namespace that this process runs in; ``default`` outside a cluster."""
    named = os.environ.get("POD_NAMESPACE")
    if named:
        return named
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"


async def connect(config: KubernetesConfig, clock: ServerClock) -> Api:
    """The API server, ready to be asked; nothing was sent yet. Raises BadConfiguration."""
    settings = Configuration()
    try:
        if config.kubeconfig is None:
            load: Any = load_incluster_config
            load(client_configuration=settings)
        else:
            if not config.kubeconfig.is_file():
                raise BadConfiguration([f"kubernetes.kubeconfig: {config.kubeconfig} is no file; correct the path"])
            read: Any = load_kube_config
            await read(
                config_file=str(config.kubeconfig),
                context=config.context,
                client_configuration=settings,
                persist_config=False,
            )
    except ConfigException as error:
        where = "kubernetes.kubeconfig"
        remedy = "run inside a cluster, or name a kubeconfig" if config.kubeconfig is None else "correct the file"
        raise BadConfiguration([f"{where}: no credentials for a cluster ({error}); {remedy}"]) from error
    # Every watch holds a connection of its own.
    watches = _WATCHES_PER_NAMESPACE * len(config.namespaces) + 2
    settings.connection_pool_maxsize = config.requests_at_once + watches
    settings.retries = None
    return Api(ApiClient(settings), config, clock)


async def check(api: Api, config: KubernetesConfig) -> None:
    """Asks what the server is and what we may do there. Raises DispatcherError or BadConfiguration."""
    try:
        reply = await api.send("GET", paths.VERSION)
        if not reply.ok:
            raise DispatcherError(f"the API server will not have us: {reply.status} {reply.text}")
        fault = fault_of(reply.body)
        if fault is not None:
            raise DispatcherError(fault)
        missing = await missing_rights(api, config)
    except NoAnswer as error:
        raise DispatcherError(f"the API server does not answer: {error}") from error
    if missing:
        raise BadConfiguration([f"kubernetes: may not {use}; add it to the service account's Role" for use in missing])
    log.info("cluster.connected", version=reply.body.get("gitVersion"), namespaces=list(config.namespaces))


async def missing_rights(api: Api, config: KubernetesConfig) -> list[Use]:
    """Rights that we need and do not have. Raises NoAnswer."""
    wanted = list(uses(config))
    allowed = await each(wanted, lambda use: _allowed(api, use))
    return [use for use, may in zip(wanted, allowed, strict=True) if not may]


async def _allowed(api: Api, use: Use) -> bool:
    attributes = {
        "namespace": use.namespace,
        "verb": use.verb,
        "group": use.right.group,
        "resource": use.right.resource,
        "subresource": use.right.subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    reply = await api.send("POST", paths.ACCESS_REVIEWS, body=body)
    if not reply.ok:
        raise NoAnswer(f"POST {paths.ACCESS_REVIEWS}: {reply.status} {reply.text}")
    return bool((reply.body.get("status") or {}).get("allowed"))
