"""The testbed's binaries (control plane, virtual node, Helm): built with Go from ``testbed/<name>``, once a machine.

Decides under which key a built binary counts as this one (sources, pinned modules, Go's version, build flags), and that
two who need it at the same time build it once. Knows nothing of what is done with it. The cache is outside the
checkout, at ``$XDG_CACHE_HOME/burst-dispatcher/<name>`` (``~/.cache`` where that is not set).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

SOURCES = Path(__file__).parent
BUILD_SECONDS_MAX = 45 * 60.0
"""The longest a build may take; on two busy cores six minutes or more."""
DOWNLOAD_SECONDS_MAX = 15 * 60.0
"""The longest the modules (0.8 GB) may take to arrive."""
LINE_EVERY_SECONDS = 30.0
"""How often progress is told where there is no terminal."""
UNUSED_DAYS_MAX = 30.0
"""Binaries of other versions that nobody asked for in this time are removed: each has 60 to 140 MB."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A binary: a Go module of ours and its name, which is that of its folder too."""

    name: str
    title: str
    versioned: bool = False
    """Whether it is given the version of Kubernetes that its module pins."""

    @property
    def sources(self) -> Path:
        """The module's folder."""
        return SOURCES / self.name


CONTROL_PLANE = Recipe("controlplane", "Control plane", versioned=True)
VIRTUAL_NODE = Recipe("virtualnode", "Virtual node")
HELM = Recipe("helm", "Helm")


class CannotBuild(RuntimeError):
    """There is no binary and it cannot be built; the text says why and what to do."""


class Told(Protocol):
    """Where progress goes."""

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """Says what is being done, and how far it is."""
        ...


def kubernetes_version() -> str:
    """The version of Kubernetes that the module pins, such as ``v1.36.3``."""
    found = re.search(
        r"^\s*k8s\.io/kubernetes (v[\w.-]+)$",
        (CONTROL_PLANE.sources / "go.mod").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if not found:
        raise CannotBuild(f"{CONTROL_PLANE.sources / 'go.mod'} requires no k8s.io/kubernetes")
    return found[1]


def ensure_binary(recipe: Recipe = CONTROL_PLANE) -> Path:
    """The binary's path; builds it first where it is missing, with progress on stderr. Raises CannotBuild."""
    go, go_version = _go(recipe)
    home = _cache(recipe)
    path = home / _key(recipe, go_version) / recipe.name
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with _progress(recipe) as tell, _locked(home / "lock", tell):
            if not path.exists():  # whoever held the lock may have built it
                _build(recipe, go, path, tell)
                _remove_unused(home, path.parent)
    os.utime(path.parent)  # this is what "used" means
    return path


def _cache(recipe: Recipe) -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "burst-dispatcher" / recipe.name


# --- Go ---------------------------------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    # A toolchain that is too old is told, not replaced behind the user's back; a go.work above us is not ours.
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _go(recipe: Recipe) -> tuple[str, str]:
    """Go's path and version. Raises CannotBuild where it is missing or too old."""
    needed = re.search(r"^go (\d+)\.(\d+)", (recipe.sources / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if not needed:
        raise CannotBuild(f"{recipe.sources / 'go.mod'} names no version of Go")
    wanted, what = f"{needed[1]}.{needed[2]}", recipe.title.lower()
    go = shutil.which("go")
    if go is None:
        raise CannotBuild(
            f"The testbed's {what} is built with Go, and no go is on the PATH: install Go {wanted} or newer."
        )
    asked = [go, "env", "GOVERSION"]
    answer = subprocess.run(asked, env=_environment(), capture_output=True, text=True, timeout=60, check=False)
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout.strip())
    if not found:
        raise CannotBuild(
            f"{go} does not tell its version ({(answer.stdout + answer.stderr).strip()}): install Go {wanted}."
        )
    if (int(found[1]), int(found[2])) < (int(needed[1]), int(needed[2])):
        raise CannotBuild(
            f"The testbed's {what} needs Go {wanted} or newer, and {go} is {answer.stdout.strip()}: update it."
        )
    return go, answer.stdout.strip()


def _flags(recipe: Recipe) -> list[str]:
    if not recipe.versioned:
        return ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
    version = kubernetes_version()
    major, minor = version.removeprefix("v").split(".")[:2]
    # Without these /version reports v0.0.0-master. The two times are what makes the build the same on every machine.
    values: Mapping[str, str] = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    variables = " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())
    return ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {variables}"]


def _key(recipe: Recipe, go_version: str) -> str:
    digest = hashlib.sha256()
    for path in sorted((recipe.sources / "go.mod", recipe.sources / "go.sum", *recipe.sources.glob("*.go"))):
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes())
    digest.update("\0".join([go_version, *_flags(recipe)]).encode())
    return digest.hexdigest()[:16]


def _build(recipe: Recipe, go: str, path: Path, tell: Told) -> None:
    tell("downloading Go modules")
    _run(recipe, [go, "mod", "download"], DOWNLOAD_SECONDS_MAX)
    tell("counting packages")
    stale = ["-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"]
    listed = _run(recipe, [go, "list", *stale, *_flags(recipe), "."], DOWNLOAD_SECONDS_MAX)
    total = len(listed.split())
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / recipe.name
        command = [go, "build", "-v", *_flags(recipe), "-o", str(built), "."]
        # -v names each package on stderr as its compilation begins.
        with subprocess.Popen(
            command,
            cwd=recipe.sources,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                _follow(recipe, process, total, tell)
            except BaseException:
                process.kill()
                raise
        built.replace(path)


def _follow(recipe: Recipe, process: subprocess.Popen[str], total: int, tell: Told) -> None:
    assert process.stderr is not None  # noqa: S101 - it was asked for
    begun, said = 0, []
    ends = time.monotonic() + BUILD_SECONDS_MAX
    for line in process.stderr:
        if time.monotonic() > ends:
            raise CannotBuild(
                f"The build of the {recipe.title.lower()} took more than {BUILD_SECONDS_MAX / 60:.0f} minutes."
            )
        if re.fullmatch(r"[\w.~/-]+", line.strip()):
            begun += 1
            tell("compiling packages", begun, max(total, begun))
        else:
            said.append(line.rstrip())
    if process.wait() != 0:
        raise CannotBuild(f"The {recipe.title.lower()} could not be built; Go says:\n" + "\n".join(said[-20:]))


def _run(recipe: Recipe, command: list[str], seconds_max: float) -> str:
    try:
        ran = subprocess.run(
            command,
            cwd=recipe.sources,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"`{' '.join(command[:3])}` took more than {seconds_max / 60:.0f} minutes.") from None
    if ran.returncode != 0:
        tail = "\n".join(ran.stderr.splitlines()[-20:])
        raise CannotBuild(f"The {recipe.title.lower()} could not be built; `{' '.join(command[:3])}` says:\n{tail}")
    return ran.stdout


# --- one builder, and what it says ------------------------------------------------------------------------------------


@contextmanager
def _locked(path: Path, tell: Told) -> Iterator[None]:
    """The kernel gives the lock up when its holder dies, so that no stale one can be left."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another build")
            ends = time.monotonic() + BUILD_SECONDS_MAX
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends:
                        raise CannotBuild(
                            f"Another build has held {path} for too long: end it, then try again."
                        ) from None
                    time.sleep(0.5)
        yield


def _remove_unused(home: Path, used: Path) -> None:
    oldest = time.time() - UNUSED_DAYS_MAX * 86400
    for folder in home.iterdir():
        if folder.is_dir() and folder != used and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(recipe: Recipe) -> Iterator[Told]:
    title = f"{recipe.title} (built once a machine)"
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
            task = progress.add_task(title, total=None, count="")

            def show(what: str, done: int | None = None, total: int | None = None) -> None:
                count = f"{done} of {total}" if total else ""
                progress.update(task, description=f"{title}: {what}", completed=done or 0, total=total, count=count)

            yield show
        return

    last, last_what = 0.0, ""

    def line(what: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal last, last_what
        now = time.monotonic()
        if what != last_what or now - last >= LINE_EVERY_SECONDS:
            last, last_what = now, what
            print(f"{title}: {what}{f', {done} of {total}' if total else ''}", file=sys.stderr, flush=True)

    yield line
