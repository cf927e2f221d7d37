"""``dispatcher run`` and ``dispatcher demo``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.app import app
from dispatcher.cli.shared import ConfigDir, DataDirOption, Exit, fail, local_overrides, say, told, usable
from dispatcher.settings import Examination, examine
from dispatcher.telemetry.logs import configure_logs


@app.command()
@told
def run(
    local: Annotated[
        bool, typer.Option("--local", help="Broker, cluster and virtual node on this machine; nothing else is needed.")
    ] = False,
    config: ConfigDir = Path("config"),
    data_dir: DataDirOption = None,
    web_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port of the HTTP service; 0: any free one.")
    ] = None,
    broker_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port of the local broker; 0: any free one.")
    ] = None,
) -> None:
    """Run the dispatcher until it is told to stop (Ctrl-C or SIGTERM).

    Stopping ends receiving and leaves running pods alone; the next start finds them.
    """
    if local:
        overrides = local_overrides(data_dir=data_dir, web_port=web_port, broker_port=broker_port)
    elif data_dir is not None or broker_port is not None:
        fail("--data-dir and --broker-port belong to --local; in a cluster there is no such thing", Exit.USAGE)
    else:
        overrides = {"service": {"web_port": web_port}} if web_port is not None else {}
    settings = usable(examine(config, local=local, overrides=overrides))
    # Only here, since the SDKs behind it take a while to import and most commands do without.
    from dispatcher.service import KubernetesService, LocalService, run_service

    configure_logs(settings.service.log_level, settings.service.log_format)

    def started(url: str) -> None:
        files = f", its files are in {settings.local.data_dir}. Stop it with Ctrl-C." if local else "."
        say(f"The dispatcher runs at {url}{files}")

    def reread() -> Examination:
        return examine(config, local=local, overrides=overrides)

    asyncio.run(run_service(LocalService if local else KubernetesService, settings, config, started, reread))
    say("The dispatcher has stopped.")


@app.command()
@told
def demo(
    items: Annotated[int, typer.Option(min=12, max=10_000, help="How many work items.")] = 240,
    seed: Annotated[int, typer.Option(help="The same seed makes the same burst.")] = 1,
    budget_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="The budget of the demo; default: small enough to be felt.")
    ] = None,
    subnet: Annotated[
        str | None, typer.Option(metavar="CIDR", help="The virtual node's subnet; its prefix length is enough.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("demo-output"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running afterwards.")] = False,
) -> None:
    """Show the whole thing on this machine: a burst of real work, held, spilled over, retried, and judged.

    Takes a few minutes. Ends with 0 if an independent judge finds that everything holds.
    """
    from dispatcher.demo import Demo, Scale

    scale = Scale.scaled(items=items, seed=seed, budget_usd=budget_usd, subnet=subnet)
    raise typer.Exit(Demo(scale, output, keep=keep).run())
