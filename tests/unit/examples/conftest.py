"""Lets the tests of the examples import them the way they import each other: as scripts in one folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "tasks")]


@dataclass(frozen=True)
class Workplace:
    """A folder in which pods run: items, artifacts and the run log."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "artifacts"

    @property
    def run_log(self) -> Path:
        return self.root / "runs.jsonl"

    def environment(self, item: dict[str, Any], attempt: int = 1) -> dict[str, str]:
        """What the pod of this item is given."""
        items = self.root / "items"
        items.mkdir(exist_ok=True)
        (items / "3.json").write_text(json.dumps(item))
        return {
            **os.environ,
            "BURST_ITEMS_DIR": str(items),
            "JOB_COMPLETION_INDEX": "3",
            "BURST_BATCH": "b-1",
            "BURST_ATTEMPT": str(attempt),
            "BURST_DEMO_OUTPUT": str(self.output),
            "BURST_RUN_LOG": str(self.run_log),
        }

    def run(self, item: dict[str, Any], attempt: int = 1) -> "subprocess.CompletedProcess[str]":
        """Run one pod to its end."""
        script = EXAMPLES / "tasks" / f"{item['task']}.py"
        return subprocess.run(
            [sys.executable, str(script)],
            env=self.environment(item, attempt),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def runs(self) -> list[dict[str, Any]]:
        """The lines of the run log."""
        return [json.loads(line) for line in self.run_log.read_text().splitlines()]


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def an_item() -> Callable[..., dict[str, Any]]:
    """Builds the content of an item file, with one thing changed."""

    def build(task: str = "thumbnail", id: str = "item-1", **params: object) -> dict[str, Any]:
        defaults: dict[str, object] = {"photo": "coffee"} if task == "thumbnail" else {"country": "Kenya"}
        return {
            "id": id,
            "sequence_number": 12,
            "queue": "work",
            "task": task,
            "tenant": "acme",
            "attempt": 1,
            "params": {**defaults, **params},
        }

    return build
