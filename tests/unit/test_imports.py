"""Imports point one way: cli -> service | simulator -> reconciler -> stages -> memory -> ports -> core."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dispatcher"

CORE_STDLIB = {
    "__future__", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum", "functools", "hashlib",
    "itertools", "json", "math", "re", "types", "typing", "zoneinfo",
}  # fmt: skip
"""What a pure room may use: nothing of it reads a clock, draws a number, logs or touches the world."""
CLOCKS = {"now", "utcnow", "today"}

EDGES = ("queue", "cluster", "azure", "embedded", "web", "settings", "telemetry")
WHAT_EDGES_SHARE = ("core", "errors", "ports", "connection_string")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "core": (),
    "errors": (),
    "connection_string": (),
    "ports": ("core",),
    "memory": ("core", "ports"),
    "explaining": ("core", "memory"),
    "stages": ("core", "errors", "ports", "memory"),
    "reconciler": ("core", "errors", "ports", "memory", "stages", "explaining"),
    "simulator": (
        "core", "errors", "ports", "memory", "stages", "explaining", "reconciler",
        "embedded.limits", "embedded.processes.controller", "embedded.processes.manifests",
    ),
    "service": ("core", "errors", "ports", "explaining", "reconciler", *EDGES),
    **dict.fromkeys(EDGES, WHAT_EDGES_SHARE),
    "judge": ("core",),
    "settings": (*WHAT_EDGES_SHARE, "judge"),
    "running": ("core", "errors"),
    "render": ("core",),
    "report_page": (),
    "worker": (),
    "client": ("core", "errors", "ports", "queue", "settings"),
    "enqueue": ("core", "errors", "ports", "client", "queue"),
    "dead_letters": ("core", "errors", "ports", "queue"),
    "releasing": ("core", "errors", "ports", "queue"),
    "demo": ("core", "errors", "settings", "running", "render"),
    "cli": (
        "core", "errors", "judge", "explaining", "service", "simulator", "running", "render", "report_page", "client",
        "enqueue", "dead_letters", "releasing", "demo", "worker", *EDGES,
    ),
}  # fmt: skip
"""Every room, and the rooms that it may know beside itself. A room that is not here has no place yet."""

PURE_HELPERS = ("embedded.limits", "embedded.processes.controller", "embedded.processes.manifests")
"""What the simulator borrows from the embedded cluster: decisions without I/O."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), ast.parse(path.read_text(encoding="utf-8"))


def path_of(module: str) -> Path:
    folder = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Absolute names of everything that is imported anywhere in the module, functions included."""
    full = ["dispatcher", *module.split(".")] if module else ["dispatcher"]
    package = full if path_of(module).name == "__init__.py" else full[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def own_imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Those of the product itself, without its name in front."""
    for name in imports(module, tree):
        if name.startswith("dispatcher."):
            yield name.removeprefix("dispatcher.")


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


ALL = dict(modules())
CORE = [module for module in ALL if within(module, "core")]


@pytest.mark.parametrize("module", [module for module in ALL if module not in ("", "__main__")])
def test_imports_point_one_way(module: str) -> None:
    room = module.split(".")[0]
    assert room in MAY_IMPORT, f"the room {room} has no place in the order of imports"
    allowed = (room, "__version__", *MAY_IMPORT[room])
    wrong = [name for name in own_imports(module, ALL[module]) if not any(within(name, other) for other in allowed)]
    assert wrong == []


@pytest.mark.parametrize("module", ALL)
def test_the_product_knows_nothing_of_its_tests_and_their_counterparts(module: str) -> None:
    apart = [name for name in imports(module, ALL[module]) if name.split(".")[0] in ("testbed", "tests", "bench")]
    assert apart == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_only_itself_and_what_is_pure_in_the_standard_library(module: str) -> None:
    foreign = {
        name
        for name in imports(module, ALL[module])
        if not name.startswith("dispatcher.core") and name.split(".")[0] not in CORE_STDLIB
    }
    assert foreign == set()


@pytest.mark.parametrize("module", CORE)
def test_time_is_an_argument_in_the_core(module: str) -> None:
    calls = [node.func for node in ast.walk(ALL[module]) if isinstance(node, ast.Call)]
    asked = [ast.unparse(call) for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS]
    assert asked == []


@pytest.mark.parametrize("module", CORE)
def test_money_is_never_a_float_in_the_core(module: str) -> None:
    floats = [
        ast.unparse(node)
        for node in ast.walk(ALL[module])
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float" and isinstance(node.ctx, ast.Load))
    ]
    # A tenant's share of what is in flight orders lanes; it is no quantity.
    assert floats == (["float"] if module == "core.plan" else [])


@pytest.mark.parametrize("module", PURE_HELPERS)
def test_what_the_simulator_borrows_of_the_embedded_cluster_is_pure(module: str) -> None:
    foreign = {
        name
        for name in imports(module, ALL[module])
        if not name.startswith(("dispatcher.core", "dispatcher.embedded.processes.manifests"))
        and name.split(".")[0] not in CORE_STDLIB
    }
    assert foreign == set()
