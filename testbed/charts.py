"""Helm, the real one, as a test or a bench runs it: time-bounded, with nothing of the user's own Helm about it.

Decides the environment and what a failure is called. Knows nothing of any chart.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testbed.binary import HELM, ensure_binary

HELM_SECONDS_MAX = 120.0
"""Rendering takes half a second; an upgrade that waits for pods may take some on a busy machine."""


class HelmSaid(RuntimeError):
    """Helm ended with another code than 0; the text is all that it said."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm with a folder of its own, and a cluster where a kubeconfig is given."""

    binary: Path
    home: Path
    kubeconfig: Path | None = None

    @classmethod
    def at(cls, home: Path, kubeconfig: Path | None = None) -> Helm:
        """Built first where it is missing. Raises CannotBuild."""
        return cls(ensure_binary(HELM), home, kubeconfig)

    def run(self, *arguments: str | Path) -> str:
        """What it printed. Raises HelmSaid, and subprocess.TimeoutExpired after two minutes."""
        own = {f"HELM_{what}_HOME": str(self.home / what.lower()) for what in ("CACHE", "CONFIG", "DATA")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        # Without a cluster it must not find one by chance.
        cluster = {"KUBECONFIG": str(self.kubeconfig or self.home / "none")}
        ran = subprocess.run(
            [str(self.binary), *map(str, arguments)],
            env={**kept, **own, **cluster},
            capture_output=True,
            text=True,
            timeout=HELM_SECONDS_MAX,
            check=False,
        )
        if ran.returncode != 0:
            raise HelmSaid((ran.stdout + ran.stderr).strip())
        return ran.stdout
