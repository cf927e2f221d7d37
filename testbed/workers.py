"""Runs the programs of pods for real: what a kubelet would run in a container runs here as a process of this machine.

    async with Workers(plane, "work", working_dir):
        ...  # pods of that namespace that are told `run-seconds: never` run their command and end as it ends

KWOK plays the phases: a pod is Running until its process has ended, which is then told to KWOK as exit code and end. A
pod that is deleted takes its process with it. Of the container it knows command, args, env and ConfigMaps as volumes,
whose mount paths are replaced in the environment by folders of this machine. Knows nothing of what the programs do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.api import ApiError
from testbed.behaviour import told
from testbed.control_plane import ControlPlane

LOOK_EVERY_SECONDS = 0.1
LOG_BYTES_MAX = 64 * 1024
_INDEX = "batch.kubernetes.io/job-completion-index"


class Workers:
    """Processes for the pods of one namespace, while the block lasts."""

    def __init__(self, plane: ControlPlane, namespace: str, working_dir: Path) -> None:
        self._plane = plane
        self._namespace = namespace
        self._working_dir = working_dir
        self._folder = tempfile.TemporaryDirectory(prefix="burst-workers-")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="workers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._task, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        for uid in list(self._processes):
            self._kill(uid)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._folder.cleanup()

    async def _run(self) -> None:
        while True:
            pods = await self._plane.api.get(f"/api/v1/namespaces/{self._namespace}/pods")
            there = {pod["metadata"]["uid"]: pod for pod in pods["items"]}
            for uid, pod in there.items():
                running = pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
                if running and uid not in self._running:
                    self._running[uid] = asyncio.create_task(self._play(pod), name=pod["metadata"]["name"])
            for uid in list(self._processes):
                if uid not in there or there[uid]["status"].get("phase") != "Running" or _is_deleted(there[uid]):
                    self._kill(uid)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _kill(self, uid: str) -> None:
        process = self._processes.get(uid)
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _play(self, pod: dict[str, Any]) -> None:
        """One pod, from its start to its end."""
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        container = pod["spec"]["containers"][0]
        environment = await self._environment(pod, container)
        words: list[str] = [*container["command"], *container.get("args", ())]
        program, rest = words[0], words[1:]
        process = await asyncio.create_subprocess_exec(
            sys.executable if program == "python" else program,
            *rest,
            cwd=self._working_dir,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes[uid] = process
        output, _ = await process.communicate()
        del self._processes[uid]
        code = process.returncode if process.returncode is not None and process.returncode >= 0 else 137
        try:
            if code:
                text = output[-LOG_BYTES_MAX:].decode(errors="replace")
                await self._plane.write_log(self._namespace, metadata["name"], text)
            annotations = told(run_seconds=0, exit_code=code)
            path = f"/api/v1/namespaces/{self._namespace}/pods/{metadata['name']}"
            await self._plane.api.patch(path, {"metadata": {"annotations": annotations}})
        except ApiError as error:
            if error.status != 404:  # deleted meanwhile
                raise

    async def _environment(self, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, str]:
        folders = await self._mounted(pod, container)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self._folder.name}
        for variable in container.get("env", ()):
            value = str(variable.get("value", ""))
            environment[variable["name"]] = folders.get(value, value)
        environment["JOB_COMPLETION_INDEX"] = pod["metadata"]["annotations"][_INDEX]
        return environment

    async def _mounted(self, pod: dict[str, Any], container: dict[str, Any]) -> dict[str, str]:
        """Mount paths, and the folders that stand for them."""
        names = {
            each["name"]: each["configMap"]["name"] for each in pod["spec"].get("volumes", ()) if "configMap" in each
        }
        folders = {}
        for mount in container.get("volumeMounts", ()):
            name = names[mount["name"]]
            folder = Path(self._folder.name) / pod["metadata"]["uid"] / mount["name"]
            folder.mkdir(parents=True)
            config_map = await self._plane.api.get(f"/api/v1/namespaces/{self._namespace}/configmaps/{name}")
            for key, text in (config_map.get("data") or {}).items():
                (folder / key).write_text(text, encoding="utf-8")
            folders[mount["mountPath"]] = str(folder)
        return folders


def _is_deleted(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]
