"""The workers keep the contract of a pod: exit codes, one clear error line, run log, artifacts that appear whole."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pod
import pytest
from conftest import Workplace

AnItem = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(("task", "artifact"), [("thumbnail", "item-1.jpg"), ("report", "item-1.html")])
def test_a_run_leaves_one_artifact_named_by_the_item(
    workplace: Workplace, an_item: AnItem, task: str, artifact: str
) -> None:
    assert workplace.run(an_item(task)).returncode == 0
    assert [path.name for path in (workplace.output / task).iterdir()] == [artifact]


@pytest.mark.parametrize("task", ["thumbnail", "report"])
def test_a_second_run_leaves_the_same_bytes(workplace: Workplace, an_item: AnItem, task: str) -> None:
    workplace.run(an_item(task))
    (artifact,) = (workplace.output / task).iterdir()
    first = artifact.read_bytes()
    artifact.unlink()
    workplace.run(an_item(task), attempt=2)
    assert artifact.read_bytes() == first


def test_a_run_tells_its_start_and_its_end(workplace: Workplace, an_item: AnItem) -> None:
    workplace.run(an_item(), attempt=2)
    start, end = workplace.runs()
    told = {"item": "item-1", "sequence_number": 12, "task": "thumbnail", "attempt": 2, "batch": "b-1", "index": 3}
    assert start == {**told, "event": "start", "at": start["at"], "pid": start["pid"]}
    assert end == {**told, "event": "end", "ok": True, "at": end["at"], "pid": start["pid"]}
    assert start["at"] <= end["at"]


def test_work_that_cannot_be_done_ends_with_one_clear_line(workplace: Workplace, an_item: AnItem) -> None:
    done = workplace.run(an_item(photo="yeti"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no photograph named 'yeti' is shipped; there are: astronaut, brick")
    assert done.stderr.count("\n") == 1
    assert [line.get("ok") for line in workplace.runs()] == [None, False]
    assert not workplace.output.exists()


def test_a_flaky_item_fails_its_first_run_and_works_when_the_job_restarts_it(
    workplace: Workplace, an_item: AnItem
) -> None:
    runs = [workplace.run(an_item(flaky=True), attempt=1) for _ in range(3)]
    assert [run.returncode for run in runs] == [1, 0, 0]
    assert "marked flaky" in runs[0].stderr


def test_a_flaky_item_fails_its_first_run_and_works_in_the_next_attempt(workplace: Workplace, an_item: AnItem) -> None:
    assert [workplace.run(an_item(flaky=True), attempt).returncode for attempt in (1, 2)] == [1, 0]


def test_flaky_items_fail_once_each(workplace: Workplace, an_item: AnItem) -> None:
    codes = [workplace.run(an_item(flaky=True, id=id)).returncode for id in ("one", "two", "one", "two")]
    assert codes == [1, 1, 0, 0]


@pytest.mark.parametrize("variable", ["JOB_COMPLETION_INDEX", "BURST_BATCH", "BURST_DEMO_OUTPUT", "BURST_RUN_LOG"])
def test_a_missing_variable_is_named(workplace: Workplace, an_item: AnItem, variable: str) -> None:
    environment = workplace.environment(an_item())
    del environment[variable]
    with pytest.raises(pod.WorkError, match=f"{variable} is not set"):
        pod.Pod.from_environment(environment)


def test_a_missing_item_file_is_named(workplace: Workplace, an_item: AnItem) -> None:
    environment = {**workplace.environment(an_item()), "JOB_COMPLETION_INDEX": "4"}
    with pytest.raises(pod.WorkError, match=r"items/4\.json: No such file"):
        pod.Pod.from_environment(environment)


def test_an_item_file_without_params_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(json.dumps({"id": "a"}))
    with pytest.raises(pod.WorkError, match="is not a work item: KeyError"):
        pod.read_item(tmp_path / "0.json")


@pytest.mark.parametrize("item_id", ["", "..", "../../etc/passwd", "a/b", ".hidden", "ä", "x" * 101, "a\nb"])
def test_an_item_id_never_leaves_the_output_folder(item_id: str) -> None:
    stem = pod.file_stem(item_id)
    assert stem.startswith("id-")
    assert pod.SAFE_FILE_NAME.fullmatch(stem)


def test_different_item_ids_have_different_files() -> None:
    assert len({pod.file_stem(item_id) for item_id in ("a/b", "a/c", "a-b", "../a")}) == 4


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        pod.write_atomically(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_stopped_run_ends_quickly_and_says_so(workplace: Workplace, an_item: AnItem) -> None:
    script = (
        "import sys, signal, os; sys.path.insert(0, sys.argv[1])\n"
        "import pod\n"
        "def work(item):\n"
        "    print('working', flush=True)\n"
        "    signal.pause()\n"
        "pod.run_pod(work)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(pod.__file__).parent)],
        env=workplace.environment(an_item()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 143
    assert errors == "error: stopped by SIGTERM before the work was done\n"
    assert [line.get("ok") for line in workplace.runs()] == [None, False]
