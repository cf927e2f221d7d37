"""The demo: a burst of real work on this machine, from an empty folder to a verdict.

Decides the demo's scale (small subnet, small budget, short times, so that holds, spillover and retries are all to be
seen within minutes) and the order: configuration, service, burst, waiting, judge. The service is the ordinary one in a
process of its own; the burst and the judge are the scripts in examples/, which know nothing of the dispatcher's inside.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from dispatcher.errors import BadConfiguration, DispatcherError
from dispatcher.render import dead_lettered, held_summary, status_line
from dispatcher.running import NotReachable, RunningService, find_service, get_json_now
from dispatcher.settings import load, merged

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDED = ("config/dispatcher.yaml", "config/tasks.yaml", "examples/demo_burst.py", "examples/demo_summary.py")
_REPLY_QUEUE = "outcomes"
_START_SECONDS = 60.0
_STOP_SECONDS = 45.0
_SCRIPT_SECONDS = 180.0
_POLL_SECONDS = 0.5
_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Scale:
    """All knobs of the demo. What is small here is small so that it is felt."""

    items: int = 240
    seed: int = 1
    budget_usd: str = "0.0030"
    """Enough for all that the burst costs, and less than what all of it would reserve at once."""
    tenant_budget_usd: str = "0.0004"
    """One tenant's own: about one pod at a time, so that this tenant is held while the others go on."""
    subnet: str = "10.240.0.0/28"
    """Eleven addresses."""
    node_cpu: str = "1"
    node_memory: str = "4Gi"
    release_hold: str = "4s"
    address_release_lag: str = "3s"
    start_delay: str = "1s"
    tail: str = "5s"
    linger: str = "500ms"
    spill_after: str = "1s"
    item_timeout: str = "20s"
    start_deadline: str = "20s"
    batch_size_max: int = 8
    parallelism_max: int = 16
    retry_delay: str = "2s"
    job_backoff: str = "1s"
    """The Job controller's first wait before a retry; Kubernetes' own is ten times as long."""
    creates: int = 5000
    """The virtual node's limits on creates and deletes: out of the way."""
    seconds_max: float = 270.0
    """After so long the demo is judged as it stands."""

    @classmethod
    def scaled(cls, *, items: int, seed: int, budget_usd: str | None, subnet: str | None) -> Scale:
        """The demo's own scale, but for what was asked for."""
        usual = cls(items=items, seed=seed)
        seconds = usual.seconds_max * max(1.0, items / usual.items)
        budget = budget_usd or f"{float(usual.budget_usd) * max(1.0, items / 240):.4f}"
        return cls(items=items, seed=seed, budget_usd=budget, subnet=_cidr(subnet or usual.subnet), seconds_max=seconds)

    def dispatcher_settings(self) -> dict[str, Any]:
        """What differs from the delivered dispatcher.yaml."""
        return {
            "virtual_node": {
                "subnet": self.subnet,
                "release_hold": self.release_hold,
                "tail": self.tail,
                "creates_per_5min": self.creates,
                "creates_per_hour": self.creates,
                "deletes_per_5min": self.creates,
                "deletes_per_hour": self.creates,
            },
            "budgets": [
                {"name": "demo", "scope": "all", "window": "day", "limit_usd": self.budget_usd},
                {
                    "name": "demo-initech",
                    "scope": "tenant",
                    "tenant": "initech",
                    "window": "hour",
                    "limit_usd": self.tenant_budget_usd,
                },
            ],
            "retry": {"delay_min": self.retry_delay, "delay_max": "10s"},
            "timing": {"lock_hold_max": "3s", "sweep_every": "30s"},
            "local": {
                "web_port": 0,
                "broker_port": 0,
                "working_dir": str(CHECKOUT),
                "job_backoff_min": self.job_backoff,
                "nodes": {"count": 1, "cpu": self.node_cpu, "memory": self.node_memory},
                "virtual_node": {"start_delay": self.start_delay, "address_release_lag": self.address_release_lag},
            },
        }

    def task_settings(self, output: Path) -> dict[str, Any]:
        """What differs from the delivered tasks, in each of them."""
        return {
            "env": {"BURST_DEMO_OUTPUT": str(output / "artifacts"), "BURST_RUN_LOG": str(output / "runs.jsonl")},
            "linger": self.linger,
            "spill_after": self.spill_after,
            "item_timeout": self.item_timeout,
            "start_deadline": self.start_deadline,
            "batch_size_max": self.batch_size_max,
            "parallelism_max": self.parallelism_max,
        }


class Demo:
    """One run of the demo."""

    def __init__(self, scale: Scale, output: Path, *, keep: bool = False, console: Console | None = None) -> None:
        self._scale = scale
        self._output = output.resolve()
        self._keep = keep
        self._console = console or Console(stderr=True)
        self._config = self._output / "config"
        self._data = self._output / "local-data"
        self._log = self._output / "service.log"

    def run(self) -> int:
        """From an empty folder to the judge's exit code. Raises DispatcherError for what prevents one."""
        _check_checkout()
        self._clear()
        self._write_config()
        began = time.monotonic()
        with self._service() as service:
            self._say(f"The service runs at {service.url}; its log is {self._log}.")
            secret = service.connection_string_file.read_text(encoding="utf-8").strip()
            self._script("demo_burst.py", *self._burst_arguments(secret))
            self._say(f"Sent {self._scale.items} work items of two tasks; five of them cannot work.")
            settled = self._watch(service.url, until=began + self._scale.seconds_max)
            if not settled:
                self._say(f"Not all items were settled within {self._scale.seconds_max:.0f} s; judging as it stands.")
            code = self._script("demo_summary.py", *self._summary_arguments(secret), check=False)
        self._say(f"Everything is in {self._output}; the artifacts of the work are in {self._output / 'artifacts'}.")
        return code

    # --- before -----------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """A folder that another demo made is emptied; any other that is not empty is left alone."""
        if self._output.exists() and any(self._output.iterdir()):
            if not (self._output / ".demo").exists():
                raise BadConfiguration([f"--output: {self._output} is not empty and not a demo's; choose another"])
            if _still_runs(self._data):
                raise BadConfiguration([f"--output: a service runs on {self._data}; stop it, or choose another"])
            shutil.rmtree(self._output)
        (self._output / "artifacts").mkdir(parents=True)
        (self._output / ".demo").touch()
        (self._output / "runs.jsonl").touch()

    def _write_config(self) -> None:
        delivered = yaml.safe_load((CHECKOUT / "config/dispatcher.yaml").read_text(encoding="utf-8"))
        tasks = yaml.safe_load((CHECKOUT / "config/tasks.yaml").read_text(encoding="utf-8"))
        changed = merged(delivered, self._scale.dispatcher_settings())
        per_task = self._scale.task_settings(self._output)
        tasks["tasks"] = [merged(task, per_task) for task in tasks["tasks"]]
        self._config.mkdir()
        for name, content in (("dispatcher.yaml", changed), ("tasks.yaml", tasks)):
            head = (
                f"# Written by `dispatcher demo` from config/{name}, scaled so that every limit is felt in minutes.\n"
            )
            text = head + yaml.safe_dump(content, sort_keys=False, width=110)
            (self._config / name).write_text(text, encoding="utf-8")
        load(self._config, local=True)

    # --- the service ------------------------------------------------------------------------------------------------

    @contextmanager
    def _service(self) -> Iterator[RunningService]:
        command = [sys.executable, "-m", "dispatcher", "run", "--local"]
        command += ["--config", str(self._config), "--data-dir", str(self._data)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BURST_")}
        with self._log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            yield self._started(process)
        finally:
            if self._keep and process.poll() is None:
                self._say(f"The service goes on as process {process.pid}: dispatcher status --data-dir {self._data}")
            else:
                self._end(process)

    def _started(self, process: subprocess.Popen[bytes]) -> RunningService:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if process.poll() is not None:
                raise DispatcherError(
                    f"the service ended while starting: {_last_line(self._log)} (all of it: {self._log})"
                )
            try:
                return find_service(self._data)
            except NotReachable:
                time.sleep(0.1)
        raise DispatcherError(f"the service has not started within {_START_SECONDS:.0f} s; its log is {self._log}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._say(f"The service did not stop within {_STOP_SECONDS:.0f} s and is ended; its log is {self._log}.")
            process.kill()
            process.wait(10)

    # --- the scripts ------------------------------------------------------------------------------------------------

    def _script(self, name: str, *arguments: str, check: bool = True) -> int:
        command = [sys.executable, str(CHECKOUT / "examples" / name), *arguments]
        sys.stdout.flush()
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if check else None, timeout=_SCRIPT_SECONDS,
            check=False,
        )  # fmt: skip
        if check and ended.returncode != 0:
            raise DispatcherError(f"examples/{name} ended with {ended.returncode}; what it said is above")
        return ended.returncode

    def _burst_arguments(self, secret: str) -> list[str]:
        scale = self._scale
        return [
            "--connection-string", secret, "--items", str(scale.items), "--seed", str(scale.seed),
            "--reply-to", _REPLY_QUEUE, "--out", str(self._output / "burst.json"),
        ]  # fmt: skip

    def _summary_arguments(self, secret: str) -> list[str]:
        output = self._output
        return [
            "--connection-string", secret, "--burst", str(output / "burst.json"),
            "--artifacts", str(output / "artifacts"), "--run-log", str(output / "runs.jsonl"),
            "--events", str(self._data / "events.jsonl"), "--outcomes", _REPLY_QUEUE,
            "--out", str(output / "summary.json"),
        ]  # fmt: skip

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _watch(self, url: str, until: float) -> bool:
        """Shows how it goes until all items are settled, or the time is over; whether they were."""
        show = _Bars(self._console, self._scale.items) if self._console.is_terminal else _Lines(self._console)
        with show:
            while time.monotonic() < until:
                status = get_json_now(url, "/api/status")
                show.update(status)
                # Entries stay until every address is free again and every second is charged.
                if _settled(status) >= self._scale.items and not status.get("open_entries"):
                    return True
                time.sleep(_POLL_SECONDS)
        return False

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)


class _Bars:
    """Progress on a terminal: what is settled, where attempts run, what is held and why."""

    def __init__(self, console: Console, items: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._done: TaskID = self._progress.add_task("done", total=items)
        self._dead: TaskID = self._progress.add_task("dead-lettered", total=items)
        self._live = Live(console=console, transient=False, auto_refresh=False)

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)

    def update(self, status: Mapping[str, Any]) -> None:
        """Shows the present state."""
        items = status.get("items") or {}
        self._progress.update(self._done, completed=int(items.get("done") or 0))
        self._progress.update(self._dead, completed=dead_lettered(items))
        running = _running_by_placement(status)
        where = ", ".join(f"{count} on the {place.replace('_', ' ')}" for place, count in sorted(running.items()))
        lines = [
            f"in flight      {where or 'nothing'}",
            f"waiting        {items.get('backlog', 0)}{': ' + held if (held := held_summary(status)) else ''}",
            *(f"budget         ${_usd(b, 'spent')} spent, ${_usd(b, 'reserved')} reserved of ${_usd(b, 'limit')}"
              f"  {b.get('budget', '')}"
              for b in status.get("budgets") or []),
            "subnet         {in_use} of {usable} addresses".format(**{"in_use": "-", "usable": "-", **status["subnet"]})
            if status.get("subnet") else "",
        ]  # fmt: skip
        self._live.update(Group(self._progress, Text("\n".join(line for line in lines if line))), refresh=True)


class _Lines:
    """Progress in a pipe or a log: a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._next = 0.0
        self._last = ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: Any) -> None:
        if self._last:
            self._print()

    def update(self, status: Mapping[str, Any]) -> None:
        """Prints the present state, if the last line is old enough."""
        self._last = status_line(status)
        if time.monotonic() >= self._next:
            self._print()

    def _print(self) -> None:
        now = time.monotonic()
        self._console.print(f"{now - self._began:6.1f} s  {self._last}", highlight=False, soft_wrap=True, markup=False)
        self._next, self._last = now + _LINE_SECONDS, ""


def _cidr(subnet: str) -> str:
    """A subnet by its prefix length alone (27, /27) lies where the demo's own does."""
    length = subnet.removeprefix("/")
    return f"10.240.0.0/{length}" if length.isdigit() else subnet


def _settled(status: Mapping[str, Any]) -> int:
    items = status.get("items") or {}
    return int(items.get("done") or 0) + dead_lettered(items)


def _running_by_placement(status: Mapping[str, Any]) -> dict[str, int]:
    running: dict[str, int] = {}
    for attempt in status.get("attempts") or []:
        left = int(attempt.get("items") or 0) - int(attempt.get("done") or 0)
        place = str(attempt.get("placement"))
        running[place] = running.get(place, 0) + max(left, 0)
    return running


def _usd(account: Mapping[str, Any], kind: str) -> str:
    return f"{float(account.get(f'{kind}_usd') or 0):.4f}"


def _check_checkout() -> None:
    missing = [name for name in NEEDED if not (CHECKOUT / name).exists()]
    if missing:
        raise BadConfiguration(
            [f"demo: {', '.join(missing)} not found in {CHECKOUT}; run the demo from a checkout of the project"]
        )


def _still_runs(data_dir: Path) -> bool:
    try:
        os.kill(find_service(data_dir).pid, 0)
    except (NotReachable, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"
