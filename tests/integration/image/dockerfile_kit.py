"""A Dockerfile as instructions, and their execution in an empty tree without a container engine.

Decides what is executed as it stands (COPY with .dockerignore, ENV, WORKDIR, RUN, the entrypoint's user) and what is
put on a list instead. Paths of the image become paths below a root; each stage begins with an empty one at the same
place, as a virtual environment knows its own path.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN_SECONDS_MAX = 600
PLACES = re.compile(r"(?<![\w/.$-])/(opt|src|wheels)\b")
NEEDS_AN_IMAGE = ("groupadd", "useradd", "pip uninstall")
"""What changes the base image itself: there is none here, and the machine is left alone."""


@dataclass(frozen=True)
class Instruction:
    """One of them, with its stage."""

    stage: int
    word: str
    value: str


@dataclass(frozen=True)
class Dockerfile:
    """All of them, in order."""

    instructions: tuple[Instruction, ...]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """Comments, empty lines and continued lines are resolved; heredocs are not known."""
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
        text = re.sub(r"\\\n", " ", "\n".join(lines))
        stage, found = -1, []
        for line in filter(None, map(str.strip, text.splitlines())):
            word, _, value = line.partition(" ")
            stage += word.upper() == "FROM"
            found.append(Instruction(stage, word.upper(), re.sub(r"\s+", " ", value.strip())))
        return cls(tuple(found))

    def of(self, word: str, stage: int | None = None) -> list[str]:
        """The values of one kind, of one stage or of all."""
        return [each.value for each in self.instructions if each.word == word and stage in (None, each.stage)]

    @property
    def last(self) -> int:
        """The stage that is the result."""
        return self.instructions[-1].stage


class Context:
    """What .dockerignore lets through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        lines = (folder / ".dockerignore").read_text(encoding="utf-8").splitlines()
        self._rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def sends(self, path: Path) -> bool:
        """The last rule that matches the path or a folder above it decides."""
        parts = path.relative_to(self.folder).parts
        above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        sent = True
        for rule in self._rules:
            pattern, keeps = rule.removeprefix("!"), rule.startswith("!")
            if any(fnmatch.fnmatchcase(each, pattern) or _anywhere(each, pattern) for each in above):
                sent = keeps
        return sent

    def files(self, source: str) -> Iterator[tuple[Path, Path]]:
        """Files below a source, each with its path as seen from the source's own place."""
        start = self.folder / source
        for path in sorted(start.rglob("*") if start.is_dir() else [start]):
            if path.is_file() and self.sends(path):
                yield path, path.relative_to(start if start.is_dir() else start.parent)


def _anywhere(path: str, pattern: str) -> bool:
    return pattern.startswith("**/") and fnmatch.fnmatchcase(path.rpartition("/")[2], pattern.removeprefix("**/"))


def _is_for_everybody(program: Path) -> bool:
    """Whether another user may run it: nothing on its way is closed."""
    return all(folder.stat().st_mode & 0o001 for folder in (program.resolve(), *program.resolve().parents))


def _python() -> Path:
    """The one that runs this; or the system's, of the same version, where that one is closed to the image's user."""
    own, system = Path(sys._base_executable), Path("/usr/bin/python3")  # type: ignore[attr-defined]
    if _is_for_everybody(own) or not system.exists():
        return own
    script = "import ensurepip, sys; print(sys.version_info[:2])"
    said = subprocess.run([system, "-c", script], capture_output=True, text=True, timeout=60, check=False).stdout
    return system if said.strip() == str(sys.version_info[:2]) else own


@dataclass
class Tree:
    """The image as far as it can be made here."""

    dockerfile: Dockerfile
    context: Context
    home: Path
    """A folder of its own that every user may look into."""
    env: dict[str, str] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)
    user: str = ""
    python: Path = field(default_factory=lambda: _python())
    _names: dict[str, Path] = field(default_factory=dict)
    _cwd: Path = Path()

    @property
    def root(self) -> Path:
        """What stands for / in the present stage."""
        return self.home / "root"

    def make(self) -> None:
        """Executes everything. Raises RuntimeError with what a command said."""
        name = ""
        for each in self.dockerfile.instructions:
            if each.word == "FROM":
                if self.root.exists():
                    self.root.rename(self.home / f"stage-{each.stage - 1}")
                    self._names[name] = self.home / f"stage-{each.stage - 1}"
                name = each.value.partition(" AS ")[2]
                self._begin()
                self.not_run.append(f"FROM {each.value}")
            elif each.word == "ENV":
                for pair in shlex.split(each.value):
                    key, _, value = pair.partition("=")
                    self.env[key] = self.inside(value).replace("$PATH", self.env["PATH"])
            elif each.word == "WORKDIR":
                self._cwd = Path(self.inside(each.value)) if PLACES.match(each.value) else self.root
                self._cwd.mkdir(parents=True, exist_ok=True)
            elif each.word == "COPY":
                self._copy(shlex.split(each.value))
            elif each.word == "RUN" and not any(what in each.value for what in NEEDS_AN_IMAGE):
                self._run(each.value)
            elif each.word == "USER" and os.geteuid() == 0 and _is_for_everybody(self.python):
                self.user = each.value
            elif each.word not in ("ENTRYPOINT", "CMD"):
                self.not_run.append(f"{each.word} {each.value}")

    def inside(self, text: str) -> str:
        """Paths of the image, as they are here."""
        return PLACES.sub(lambda found: f"{self.root}{found[0]}", text)

    def _begin(self) -> None:
        self.root.mkdir()
        programs = self.root / "usr-bin"
        programs.mkdir()
        # What the base image brings is its Python; one of this machine stands in for it.
        (programs / "python").symlink_to(self.python)
        self.env = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8"}
        self._cwd = self.root

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        if sources[0].startswith("--from="):
            stage = self._names[sources.pop(0).removeprefix("--from=")]
            (source,) = sources
            shutil.copytree(stage / source.lstrip("/"), self.inside(target), symlinks=True)
            return
        for source in sources:
            into = Path(self.inside(target)) if target.startswith("/") else self._cwd / target
            sent = list(self.context.files(source))
            if not sent:
                raise RuntimeError(f"COPY {source}: nothing of it is sent")
            for path, inner in sent:
                (into / inner).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into / inner)

    def _run(self, command: str) -> None:
        # What pip has fetched before need not be fetched again; in an image it would only take room.
        # Nor is bytecode written, which takes longer than all the rest.
        env = {key: value for key, value in self.env.items() if key != "PIP_NO_CACHE_DIR"} | {"PIP_NO_COMPILE": "1"}
        env["PIP_CACHE_DIR"] = str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pip")
        env |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_INDEX", "PIP_CERT"))}
        env |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        env["HOME"] = str(Path.home())  # where pip is told which index to ask
        ran = subprocess.run(
            ["sh", "-euc", self.inside(command)],
            cwd=self._cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        if ran.returncode != 0:
            raise RuntimeError(f"RUN {command}\n{ran.stdout}{ran.stderr}")

    def start(self, words: list[str], *, cwd: Path) -> subprocess.Popen[str]:
        """A command of the image, as its user where we may become it, with the image's environment and no more."""
        become: dict[str, Any] = {}
        if self.user:
            uid, gid = map(int, self.user.split(":"))
            become = {"user": uid, "group": gid, "extra_groups": []}
        program = shutil.which(words[0], path=self.env["PATH"])
        if program is None:
            raise RuntimeError(f"{words[0]} is not on the image's PATH")
        return subprocess.Popen(
            [program, *words[1:]],
            cwd=cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **become,
        )
