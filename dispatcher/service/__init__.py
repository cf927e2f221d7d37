"""The composition root: settings become objects, objects are started in order, run, and are taken down again.

    data_dir   the folder of a local service: one service at a time, and how others find it
    wiring     settings -> the configurations of the rooms
    loop       one cycle after another: bell, pauses, watchdog
    assembly   what both services share
    local      everything on this machine, in one process
    kubernetes the service in a cluster

Decides what is connected to what. Nothing here decides about work, money or messages.
"""

from dispatcher.service.assembly import run_service
from dispatcher.service.kubernetes import KubernetesService
from dispatcher.service.local import LocalService

__all__ = ["KubernetesService", "LocalService", "run_service"]
