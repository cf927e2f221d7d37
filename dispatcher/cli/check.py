"""``dispatcher check-config``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.app import app
from dispatcher.cli.shared import ConfigDir, Exit, JsonOption, broker_access, say, told
from dispatcher.core.words import counted
from dispatcher.errors import LookFailed
from dispatcher.running import NotReachable
from dispatcher.settings import Settings, examine
from dispatcher.settings.sizing import worst_day

if TYPE_CHECKING:  # behind these is the SDK, which takes a while to import
    from dispatcher.queue.seen import Expected, Finding
    from dispatcher.service.access import BrokerAccess

_WORDS = {"mistake": "", "warning": "warning: ", "fine": "fine: ", "unseen": "cannot be seen: "}
_UNREACHED = "the broker does not answer"


@app.command("check-config")
@told
def check_config(
    config: ConfigDir = Path("config"),
    local: Annotated[bool, typer.Option("--local", help="Check what local mode needs too, such as programs.")] = False,
    server: Annotated[
        bool,
        typer.Option(
            "--server",
            help="Connect to the broker too, and look at every queue; and to the cluster, where one is named or this "
            "runs in it, and ask whether it would take the Jobs; and to Azure, where the settings have the section "
            "azure. Nothing there is changed.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell every mistake in the configuration at once: where it is, what is wrong, and the remedy."""
    examined = examine(config, local=local)
    seen = _looked(examined.settings, config, local) if server and examined.settings is not None else {}
    azure = _account(examined.settings, config) if server and not local and examined.settings is not None else None
    jobs = refused_jobs(examined.settings, config) if server and not local and examined.settings is not None else {}
    wrong = [each for found in seen.values() for each in found if each.level == "mistake"]
    refused = sum(map(len, jobs.values()))
    if as_json:
        content: dict[str, object] = {
            "ok": examined.settings is not None and not wrong and not refused and not (azure and azure[0]),
            "mistakes": [mistake.to_json() for mistake in examined.mistakes],
            "warnings": [warning.to_json() for warning in examined.warnings],
        }
        if examined.settings is not None:
            day = worst_day(examined.settings)
            content["worst_day"] = day.to_json() if day else None
        if server:
            content["queues"] = {
                queue: [{"level": each.level, "text": each.text} for each in found] for queue, found in seen.items()
            }
        if jobs:
            content["jobs"] = jobs
        if azure is not None:
            content["azure"] = {"mistakes": azure[0], "found": azure[1]}
        print(json.dumps(content, indent=2))
    else:
        for mistake in examined.mistakes:
            print(mistake)
        for warning in examined.warnings:
            print(f"warning: {warning}")
        for queue, found in seen.items():
            for each in found:
                print(f"queue {queue}: {_WORDS[each.level]}{each.text}")
        if azure is not None:
            for text in azure[0]:
                print(f"azure: {text}")
            for text in azure[1]:
                print(f"azure: {_WORDS['fine']}{text}")
        for title, said in jobs.items():
            for line in said:
                print(f"{title}: {line}; correct the task as the API server says")
    if examined.settings is None:
        say(f"{counted(len(examined.mistakes), 'mistake')} in {config}")
        raise typer.Exit(Exit.USAGE)
    if wrong:
        say(f"{counted(len(wrong), 'mistake')} at the broker")
        unreached = all(each.text.startswith(_UNREACHED) for each in wrong)
        raise typer.Exit(Exit.NOT_REACHABLE if unreached else Exit.FAILED)
    if refused:
        say(f"{counted(refused, 'mistake')} at the API server")
        raise typer.Exit(Exit.FAILED)
    if azure is not None and azure[0]:
        say(f"{counted(len(azure[0]), 'mistake')} at Azure")
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        tasks, queues = len(examined.settings.tasks), len(examined.settings.queues)
        day = worst_day(examined.settings)
        if day is not None:
            say(day.sentence)
        say(f"{config} is fine: {counted(queues, 'queue')}, {counted(tasks, 'task')}")


def _looked(settings: Settings, config: Path, local: bool) -> Mapping[str, Sequence[Finding]]:
    """What every queue shows of itself."""

    async def look() -> Mapping[str, Sequence[Finding]]:
        access = broker_access(settings, config, local=local)
        try:
            expected = _expected(settings)
            answers = await asyncio.gather(*(_findings(access, name, each) for name, each in expected.items()))
            return dict(zip(expected, answers, strict=True))
        finally:
            await access.close()

    return asyncio.run(look())


def _account(settings: Settings, config: Path) -> tuple[list[str], list[str]] | None:
    """What is wrong with reading container groups, and what was found; None: the settings do not ask for it."""
    if settings.azure is None:
        return None
    from dispatcher.service.account import AccountAccess

    async def ask() -> tuple[list[str], list[str]]:
        access = AccountAccess(settings, config)
        try:
            return await access.probe()
        finally:
            await access.close()

    return asyncio.run(ask())


def refused_jobs(settings: Settings, config: Path) -> dict[str, list[str]]:
    """What the API server would refuse of the Jobs of every task; nothing where there is no cluster to ask."""
    from dispatcher.cluster import ServerClock, connect
    from dispatcher.cluster.api import NoAnswer
    from dispatcher.cluster.dry_run import refusals
    from dispatcher.service.wiring import kubernetes_config
    from dispatcher.settings.pod_checks import jobs_of

    if settings.kubernetes.kubeconfig is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        return {}

    async def ask() -> dict[str, list[str]]:
        api = await connect(kubernetes_config(settings, config), ServerClock())
        try:
            return {
                title: [f"{field}: {said}" for field, said in await refusals(api, job, job["metadata"]["namespace"])]
                for title, job in jobs_of(settings)
            }
        except NoAnswer as error:
            raise NotReachable(f"the API server does not answer: {error}") from error
        finally:
            await api.close()

    return asyncio.run(ask())


async def _findings(access: BrokerAccess, name: str, expected: Expected) -> Sequence[Finding]:
    from dispatcher.queue.probing import look_at
    from dispatcher.queue.seen import Finding, Level, findings

    try:
        seen = await look_at(access.queue(name), receives=expected.receives)
    except LookFailed as error:
        return [Finding(Level.MISTAKE, f"{_UNREACHED}: {error}")]
    return list(findings(seen, expected))


def _expected(settings: Settings) -> dict[str, Expected]:
    from dispatcher.queue.seen import Expected

    bus = settings.service_bus
    replies = {name for queue in settings.queues for name in queue.reply_to}
    expected = Expected(bus.lock_duration, bus.max_delivery_count, bus.time_to_live)
    reports = settings.reports.queue
    return {
        **({reports: expected} if reports is not None else {}),
        **{queue.name: replace(expected, sends=queue.name in replies) for queue in settings.queues},
        **{
            name: replace(expected, sends=True, receives=False)
            for name in sorted(replies - {queue.name for queue in settings.queues})
        },
    }
