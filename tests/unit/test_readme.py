"""What is written for people is true: programs, commands, targets and links are there, and no machine shows through."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dispatcher.cli import app

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
FOR_PEOPLE = (README, ROOT / "CHANGELOG.md")
LINKING = (README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md")))

ABSOLUTE = r"(?<![\w./~-])"
"""Before a path that begins at the root of the machine, not within another path or an address."""
INDEX_HOSTS_BACKWARDS = ("gro.ipyp", "gro.detsohnohtyp")
FORBIDDEN = {
    # Put together from pieces, so that this file does not hold them itself.
    "a path of some machine": ABSOLUTE + "/(?:" + "wo" + "rk|ro" + "ot)/",
    "a folder beside the repository": r"\.\./" + "sha" + "red",
    "the name of a machine": r"\bfa" + "rm-",
    "a package index": "|".join(
        (*(re.escape(host[::-1]) for host in INDEX_HOSTS_BACKWARDS), "index-url[ =]+" + "http")
    ),
}


def code_of(document: Path) -> Iterator[str]:
    """What a document shows as code, a line each: blocks that are fenced or indented, and spans within sentences."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^    (.+)$", prose, re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def make_targets(document: Path) -> set[str]:
    return {target for line in code_of(document) for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z0-9-]*)", line)}


def command_lines(document: Path) -> list[str]:
    """What follows the program's name, up to a pipe or the next command."""
    found = (re.search(r"(?:^|[\s/])dispatcher ([a-z][^|;&#]*)", line) for line in code_of(document))
    return [match[1].strip() for match in found if match]


def links(document: Path) -> list[str]:
    """The relative ones, without the place within the file."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def _within(path: Path, names: set[str]) -> bool:
    return any(part in names or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts)


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():  # an unpacked archive: all but what git would ignore
        ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()}
        files = (path for path in ROOT.rglob("*") if path.is_file())
        return [path for path in files if not _within(path, ignored)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30)
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


# --- what the documents say -----------------------------------------------------------------------------------------


def test_the_producer_in_the_readme_is_the_example_word_for_word() -> None:
    (shown,) = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert shown == (ROOT / "examples/producer.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", FOR_PEOPLE, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    there = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert make_targets(document) <= there


def test_every_make_target_that_the_readme_needs_is_found_in_it() -> None:
    assert {"demo", "run", "test", "help"} <= make_targets(README)


@pytest.mark.parametrize("document", FOR_PEOPLE, ids=lambda path: path.name)
def test_every_command_that_is_named_exists_and_takes_its_options(document: Path) -> None:
    lines = command_lines(document)
    assert lines
    for line in lines:
        command: Any = typer.main.get_command(app)
        words = line.split()
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"{document.name}: there is no `dispatcher {line}`"
            command = command.commands[words.pop(0)]
        takes = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= takes, f"{document.name}: `dispatcher {line}`"


@pytest.mark.parametrize("document", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    assert [target for target in links(document) if not (document.parent / target).exists()] == []


def test_the_readme_links_to_what_one_reads_next() -> None:
    assert {"docs/architecture.md", "CHANGELOG.md", "examples/README.md"} <= set(links(README))


# --- what no file may say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_of_the_repository_names_what_is_only_on_some_machine(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not a text
        numbered = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(ROOT)}:{number}: {what}" for number, line in numbered if pattern.search(line)]
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a path of some machine", "see /wo" + "rk/x"),
        ("a path of some machine", 'open("/ro' + 'ot/.x")'),
        ("a folder beside the repository", "../sha" + "red/x"),
        ("the name of a machine", "on fa" + "rm-1"),
        *(("a package index", f"see {host[::-1]}/x") for host in INDEX_HOSTS_BACKWARDS),
        ("a package index", "--index-url " + "http" + "://localhost/simple"),
    ],
)
def test_what_is_forbidden_would_be_found(what: str, line: str) -> None:
    assert re.search(FORBIDDEN[what], line)


@pytest.mark.parametrize("line", ["sb://127.0.0.1:5690/wo" + "rk/x", "queues/wo" + "rk/", "a net" + "wo" + "rk/x"])
def test_a_queue_in_an_address_is_no_path_of_a_machine(line: str) -> None:
    assert not re.search(FORBIDDEN["a path of some machine"], line)
