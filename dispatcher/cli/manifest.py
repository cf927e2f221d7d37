"""``dispatcher check-manifest``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.cli.app import app
from dispatcher.cli.shared import Exit, JsonOption, fail, say, told
from dispatcher.core.words import counted
from dispatcher.judge import (
    RULES,
    BadProfile,
    Effect,
    Finding,
    Level,
    Profile,
    Unreadable,
    documents_of,
    findings_of,
    known_profiles,
    read_profile,
)
from dispatcher.judge.profiles import DEFAULT
from dispatcher.judge.workloads import TEMPLATE_AT, mapping
from dispatcher.running import NotReachable

STDIN = "-"
SERVER_RULE = "api-server"
"""What findings of the API server are called."""


@dataclass(slots=True)
class Judged:
    """What was found in one file."""

    file: str
    findings: list[Finding] = field(default_factory=list)
    documents: list[Mapping[str, Any]] = field(default_factory=list)
    """Those that were judged."""
    passed_over: list[str] = field(default_factory=list)
    """Objects that make no pods."""
    unreadable: str = ""


@app.command("check-manifest")
@told
def check_manifest(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="YAML files, of several documents each; - is stdin.")
    ] = None,
    placement: Annotated[
        str, typer.Option(metavar="PROFILE", help="Where it is to run: the name of a profile, or a YAML file.")
    ] = DEFAULT,
    namespace: Annotated[str, typer.Option(help="The namespace of objects that name none.")] = "default",
    server: Annotated[
        bool, typer.Option("--server", help="Ask the API server too, by a dry run: nothing is created.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="With --server: how to reach it. Default: $KUBECONFIG, or ~/.kube/config.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="With --server: a context of the kubeconfig.")] = None,
    list_rules: Annotated[bool, typer.Option("--rules", help="Print the rules of the placement instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell whether manifests fit the virtual node: Pod, Job, CronJob, Deployment, DaemonSet, StatefulSet.

    One line a finding: ERROR or WARNING, the rule, the object, the field, what is wrong, and the remedy.
    Exit codes: 0 it fits, perhaps with warnings; 1 something does not fit; 2 a file cannot be read; 3 the
    server does not answer.
    """
    profile = profile_named(placement)
    if list_rules:
        print_rules(profile, as_json)
        return
    if not files:
        fail("no file is named; name manifests, or - for stdin", Exit.USAGE)
    judged = [judge_file(each, profile, namespace) for each in files]
    if server:
        ask_server(judged, namespace, kubeconfig or default_kubeconfig(), context)
    elif kubeconfig is not None or context is not None:
        fail("--kubeconfig and --context say which server is asked; add --server", Exit.USAGE)
    if as_json:
        print(json.dumps(_as_json(judged, profile), indent=2))
    else:
        for each in judged:
            _print(each, many=len(judged) > 1)
    unread = [each for each in judged if each.unreadable]
    errors = sum(finding.level is Level.ERROR for each in judged for finding in each.findings)
    warnings = sum(len(each.findings) for each in judged) - errors
    if not as_json and not unread:
        fits = f"fits {profile.name}" if not errors else f"does not fit {profile.name}"
        objects = counted(sum(len(each.documents) for each in judged), "object")
        say(f"{objects} judged: {fits}, {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    if unread:
        raise typer.Exit(Exit.USAGE)
    if errors:
        raise typer.Exit(Exit.FAILED)


def profile_named(name: str) -> Profile:
    """A shipped profile by its name, or an operator's own by its file."""
    known = known_profiles()
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        fail(f"--placement: there is no profile {name!r}; known are {', '.join(known)}, or a YAML file", Exit.USAGE)
    try:
        return read_profile(path)
    except BadProfile as error:
        fail("\n".join(error.mistakes), Exit.USAGE)


def judge_file(path: Path, profile: Profile, namespace: str) -> Judged:
    """All objects of a file."""
    judged = Judged("stdin" if str(path) == STDIN else str(path))
    try:
        text = sys.stdin.read() if str(path) == STDIN else path.read_text(encoding="utf-8")
        documents = documents_of(text)
    except OSError as error:
        judged.unreadable = f"cannot be read ({error.strerror}); name a file that is there"
        return judged
    except UnicodeDecodeError:
        judged.unreadable = "is not UTF-8 text; save it as UTF-8"
        return judged
    except Unreadable as error:
        judged.unreadable = str(error)
        return judged
    for document in documents:
        found = findings_of(document, profile, namespace)
        if found is None:
            judged.passed_over.append(_title(document))
        else:
            judged.documents.append(document)
            judged.findings += found
    if not judged.documents:
        judged.unreadable = f"holds nothing that makes pods ({', '.join(judged.passed_over)}); known are " + ", ".join(
            TEMPLATE_AT
        )
    return judged


def default_kubeconfig() -> Path:
    """As kubectl finds it, where one file is named."""
    return Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").expanduser()


def ask_server(judged: Sequence[Judged], namespace: str, kubeconfig: Path, context: str | None) -> None:
    """Adds what the API server says of every object. Raises DispatcherError where it cannot be asked."""
    from dispatcher.cluster import KubernetesConfig, ServerClock, connect
    from dispatcher.cluster.api import NoAnswer
    from dispatcher.cluster.dry_run import refusals

    async def ask() -> None:
        clock = ServerClock()
        api = await connect(KubernetesConfig(namespace, (namespace,), kubeconfig=kubeconfig, context=context), clock)
        try:
            for each in judged:
                for document in each.documents:
                    said = await refusals(api, document, namespace)
                    each.findings += [_of_server(document, path, message) for path, message in said]
        except NoAnswer as error:
            raise NotReachable(f"the API server does not answer: {error}") from error
        finally:
            await api.close()

    asyncio.run(ask())


def _of_server(document: Mapping[str, Any], path: str, message: str) -> Finding:
    remedy = "correct it as the API server says"
    return Finding(
        Level.ERROR, SERVER_RULE, _title(document), path, message, remedy, Effect.FAILS, "dry run at the API server"
    )


def print_rules(profile: Profile, as_json: bool) -> None:
    """The rules that hold there, with their source."""
    rules = [(RULES[name], level) for name, level in profile.rules.items()]
    if as_json:
        entries = [
            {"rule": each.id, "level": level, "about": each.says, "effect": each.effect, "remedy": each.remedy,
             "source": each.source}
            for each, level in rules
        ]  # fmt: skip
        print(json.dumps(entries, indent=2))
        return
    for each, level in rules:
        print(f"{level.upper()} {each.id}: {each.says}; {each.effect}; {each.remedy} ({each.source})")


def _print(judged: Judged, *, many: bool) -> None:
    if judged.unreadable:
        say(f"error: {judged.file}: {judged.unreadable}")
    for finding in judged.findings:
        print(f"{judged.file}: {finding}" if many else finding)
    if not judged.unreadable:
        for each in judged.passed_over:
            say(f"{judged.file}: {each} makes no pods and was passed over")


def _as_json(judged: Sequence[Judged], profile: Profile) -> dict[str, Any]:
    return {
        "placement": profile.name,
        "fits": not any(
            each.unreadable or any(found.level is Level.ERROR for found in each.findings) for each in judged
        ),
        "files": [
            {
                "file": each.file,
                "unreadable": each.unreadable or None,
                "objects": len(each.documents),
                "passed_over": each.passed_over,
                "findings": [finding.to_json() for finding in each.findings],
            }
            for each in judged
        ],
    }


def _title(document: Mapping[str, Any]) -> str:
    return f"{document.get('kind')}/{mapping(document.get('metadata')).get('name') or '(no name)'}"
