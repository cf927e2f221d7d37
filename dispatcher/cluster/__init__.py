"""The Kubernetes API as the reconciler's cluster, store, lease and clock.

    config      what is ours, and for how long to wait
    connecting  credentials; the server's version and our rights there, told at start
    api         one request: paced, bounded, tried again as the server asks; the lines of a watch
    paths       where things are, and how ours are told from others'
    writing     create, delete, take a finalizer off: how a reply becomes an answer
    reflector   list, watch, list again: one kind of object kept in step
    mirror      what is known of Jobs, pods and nodes, and what has changed
    reading     raw objects -> what decisions need        failures   why a pod failed
    nodes       what is free on the real nodes            versions   which Kubernetes will do
    dry_run     what the API server would say of a manifest
    cluster     the JobCluster        store    the LedgerStore        lease    who leads
    clock       the API server's time                     rights     what we may do, as data

Decides how the ports' promises are kept on an API server that lags, drops, refuses and forgets to answer. Knows nothing
of items, money or queues.
"""

from dispatcher.cluster.clock import ServerClock
from dispatcher.cluster.cluster import KubernetesCluster
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.cluster.connecting import check, connect, own_namespace
from dispatcher.cluster.lease import KubernetesLease
from dispatcher.cluster.store import ConfigMapStore

__all__ = [
    "ConfigMapStore",
    "KubernetesCluster",
    "KubernetesConfig",
    "KubernetesLease",
    "ServerClock",
    "check",
    "connect",
    "own_namespace",
]
