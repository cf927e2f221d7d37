"""The image: the rules for its Dockerfile, and its own lines carried out in an empty tree as far as that goes here."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dockerfile_kit import Context, Dockerfile, Tree

from dispatcher.settings.models import ServiceSettings

ROOT = Path(__file__).parents[3]
FILE = Dockerfile.read(ROOT / "Dockerfile")
BUILDERS = ("pip", "setuptools", "wheel", "hatchling", "pytest", "mypy", "ruff")
START_SECONDS_MAX = 60.0


def pinned(name: str) -> set[str]:
    """Packages of a lock, as ``name==version``."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?(==[^\s\\;]+)", text, re.MULTILINE)
    return {package + version for package, version in found}


# --- rules ------------------------------------------------------------------------------------------------------------


def test_the_base_is_named_by_its_exact_version_and_may_be_given_a_digest() -> None:
    (image,) = FILE.of("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", image)
    assert all(value.startswith("${PYTHON_IMAGE}") for value in FILE.of("FROM"))


def test_everything_that_is_installed_is_locked_with_hashes_and_nothing_is_compiled() -> None:
    assert not FILE.of("ADD")
    for command in FILE.of("RUN"):
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget|gcc|cc|make|git)\b", command), command
        for installed in re.findall(r"pip(?: --python \S+)? (?:install|wheel) [^&]*", command):
            locked = "--require-hashes" in installed and "--only-binary :all:" in installed
            assert locked or ("--no-index" in installed and "--no-deps" in installed), installed
    for name in ("runtime.txt", "build.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert "://" not in text, "a lock names no index"
        # One version of each everywhere: what the tests ran with is what the image has.
        assert pinned(name) <= pinned("dev.txt")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    direct = project.partition("dependencies = [")[2].partition("]\n")[0]
    wanted = {re.split(r"[\[>=]", each)[0] for each in re.findall(r'"([^"]+)"', direct)}
    assert wanted <= {each.partition("==")[0] for each in pinned("runtime.txt")}


def test_the_result_is_one_copied_folder_run_by_a_user_that_owns_nothing() -> None:
    assert FILE.of("COPY", FILE.last) == ["--from=build /opt/dispatcher /opt/dispatcher"]
    (user,) = FILE.of("USER", FILE.last)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes cannot tell whether a name is root"
    values = yaml.safe_load((ROOT / "helm" / "dispatcher" / "values.yaml").read_text(encoding="utf-8"))
    assert user.split(":")[0] == str(values["runAsUser"])
    words = [each.word for each in FILE.instructions if each.stage == FILE.last]
    assert not {"RUN", "COPY"} & set(words[words.index("USER") :])


def test_the_entrypoint_is_the_program_itself_so_that_signals_reach_it() -> None:
    (entrypoint,), (command,) = FILE.of("ENTRYPOINT"), FILE.of("CMD")
    assert json.loads(entrypoint) == ["dispatcher", "run"]
    assert json.loads(command) == ["--config", "/etc/burst-dispatcher"]
    assert FILE.of("STOPSIGNAL") == ["SIGTERM"]
    assert FILE.of("EXPOSE") == [str(ServiceSettings().web_port)]
    assert not any(re.search(r"(?i)secret|password|token|key", each) for each in (*FILE.of("ENV"), *FILE.of("ARG")))


def test_only_what_is_copied_is_sent() -> None:
    context = Context(ROOT)
    for value in FILE.of("COPY", 0):
        for source in value.split()[:-1]:
            assert list(context.files(source)), source
    for kept_back in (".git/config", ".venv/pyvenv.cfg", "local-data/connection-string", "tests/conftest.py"):
        assert not context.sends(ROOT / kept_back)
    assert not context.sends(ROOT / "dispatcher" / "core" / "__pycache__" / "plan.cpython-311.pyc")
    assert context.sends(ROOT / "dispatcher" / "core" / "plan.py")


# --- carried out ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with tempfile.TemporaryDirectory(prefix="burst-image-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # the image's user looks into it
        made = Tree(FILE, Context(ROOT), home)
        made.make()
        yield made


pytestmark = pytest.mark.timeout(600)


def test_what_could_not_be_carried_out_here_is_this_and_nothing_else(tree: Tree) -> None:
    words = [re.sub(r"\s.*", "", each) for each in tree.not_run]
    # To become another user takes root, and a Python that other users may run.
    assert [word for word in words if word != "USER" or tree.user] == [
        "ARG", "FROM", "FROM", "LABEL", "RUN", "EXPOSE", "STOPSIGNAL",
    ]  # fmt: skip
    (skipped,) = [each for each in tree.not_run if each.startswith("RUN")]
    assert "useradd --uid 10001" in skipped


def test_the_result_has_the_locked_packages_and_nothing_that_builds(tree: Tree) -> None:
    script = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    python = tree.root / "opt" / "dispatcher" / "bin" / "python"
    said = subprocess.run([python, "-c", script], env=tree.env, capture_output=True, text=True, check=True, timeout=60)
    found = {re.sub(r"[._-]+", "-", line.lower().partition("==")[0]) for line in said.stdout.split()}
    wanted = {re.sub(r"[._-]+", "-", each.partition("==")[0]) for each in pinned("runtime.txt")}
    assert found == wanted | {"burst-dispatcher"}
    assert not found & set(BUILDERS)
    assert [path.name for path in (tree.root / "opt").iterdir()] == ["dispatcher"]
    files = [path for path in (tree.root / "opt").rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 200 * 2**20, "the packages have grown out of proportion"
    (packages,) = (tree.root / "opt" / "dispatcher" / "lib").glob("python3.*/site-packages")
    assert (packages / "dispatcher" / "embedded" / "processes" / "wrapper.sh").is_file()
    assert not {"tests", "testbed", "bench", "examples"} & {path.name for path in packages.iterdir()}


def test_outside_of_a_cluster_the_entrypoint_says_what_is_missing(tree: Tree) -> None:
    folder = tree.home / "etc"
    folder.mkdir()
    _configure(folder)
    (entrypoint,), (command,) = FILE.of("ENTRYPOINT"), FILE.of("CMD")
    words = [
        *json.loads(entrypoint),
        *(word.replace("/etc/burst-dispatcher", str(folder)) for word in json.loads(command)),
    ]
    process = tree.start(words, cwd=folder)
    said, _ = process.communicate(timeout=START_SECONDS_MAX)
    assert process.returncode == 2, said
    assert "kubernetes.kubeconfig: no credentials for a cluster" in said
    assert "run inside a cluster, or name a kubeconfig" in said


def test_the_entrypoint_runs_the_service_writes_nothing_into_the_image_and_ends_on_sigterm(tree: Tree) -> None:
    before = _listing(tree.root)
    folder = tree.home / "local"
    folder.mkdir()
    _configure(folder)
    folder.chmod(0o777)  # the image's user keeps its data here, as on a mounted volume
    (entrypoint,) = FILE.of("ENTRYPOINT")
    told = ["--local", "--config", str(folder), "--data-dir", str(folder / "data"), "--web-port=0", "--broker-port=0"]
    process = tree.start([*json.loads(entrypoint), *told], cwd=folder)
    watchdog = threading.Timer(START_SECONDS_MAX, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        said = ""
        while "The dispatcher runs at" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=START_SECONDS_MAX)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 0, said + rest
    assert "The dispatcher has stopped." in rest
    assert _listing(tree.root) == before


def _listing(root: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in root.rglob("*")}


def _configure(folder: Path) -> None:
    task = {
        "name": "hello",
        "image": "any:1",
        "command": ["python", "-V"],
        "resources": {"cpu": "100m", "memory": "64Mi"},
    }
    queue = {"name": "work", "tasks": ["hello"]}
    settings = {
        "queues": [queue],
        "virtual_node": {"enabled": False},
        "service_bus": {"connection_string_file": str(folder / "connection-string")},
    }
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task]}), encoding="utf-8")
    connection = "Endpoint=sb://o.example/;SharedAccessKeyName=a;SharedAccessKey=bm90IGEga2V5"
    (folder / "connection-string").write_text(connection, encoding="utf-8")
