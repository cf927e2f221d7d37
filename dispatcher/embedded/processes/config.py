"""What a person can set about the embedded cluster: its nodes, its virtual node and its patience.

Decides the defaults. Knows nothing of how they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dispatcher.core.jobs import BACKOFF_FIRST, BACKOFF_LONGEST
from dispatcher.core.units import Resources

HOST_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""What a worker gets of the dispatcher's own environment: enough to find programs, none of its secrets."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One simulated node of the node pool."""

    name: str = "node-0"
    allocatable: Resources | None = None
    """What its pods may request together; None: this machine's cores and the memory that is free at the start."""
    pods_max: int = 110


@dataclass(frozen=True, slots=True)
class VirtualNodeConfig:
    """The metered virtual node: the subnet, the quota and the rates that refuse, and how long things take there."""

    name: str = "virtual-node-aci-linux"
    location: str = "eastus"
    subnet_prefix: int = 24
    """The subnet's prefix length; five of its addresses are the platform's own."""
    groups_max: int = 100
    cpu_millis_max: int = 100_000
    creates_per_5_min: int = 100
    creates_per_hour: int = 300
    deletes_per_5_min: int = 100
    deletes_per_hour: int = 300
    start_delay: timedelta = timedelta(seconds=2)
    """From the create of a group to the start of its process."""
    pull_begins_after: timedelta = timedelta(seconds=0.5)
    """From the create of a group to the beginning of its image pull, which is when billing begins."""
    address_release_lag: timedelta = timedelta(seconds=5)
    """How long an address stays taken after its group is gone."""
    meter_kept: timedelta = timedelta(hours=1)
    """How long a group's times can be read after it is gone."""

    @property
    def addresses(self) -> int:
        """How many groups the subnet has addresses for."""
        return max(0, (1 << (32 - self.subnet_prefix)) - 5)


@dataclass(frozen=True, slots=True)
class ProcessClusterConfig:
    """Everything about the embedded cluster. ``folder`` holds one folder per pod, and nobody else's files."""

    folder: Path
    nodes: tuple[NodeConfig, ...] = (NodeConfig(),)
    virtual_node: VirtualNodeConfig | None = field(default_factory=VirtualNodeConfig)
    """None: there is none, and pods that want it wait for ever."""
    backoff_first: timedelta = BACKOFF_FIRST
    """The wait before an index's second pod; it doubles from there."""
    backoff_longest: timedelta = BACKOFF_LONGEST
    kill_grace: timedelta = timedelta(seconds=5)
    """From the polite signal to the one that cannot be ignored."""
    work_dir: Path | None = None
    """Where commands start, as an image's working directory; None: where the dispatcher was started."""
    host_environment: tuple[str, ...] = HOST_ENVIRONMENT
