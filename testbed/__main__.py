"""The testbed for a person: starts a control plane until Ctrl-C. With ``build`` it builds the binaries and no more.

Knows nothing of how either is done.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.console import Console

from testbed.binary import CONTROL_PLANE, HELM, VIRTUAL_NODE, CannotBuild, ensure_binary
from testbed.control_plane import ControlPlane, DidNotStart, Options, real_node, virtual_node
from testbed.virtual import VirtualNode

app = typer.Typer(add_completion=False, help="A real Kubernetes control plane on loopback, for trying things out.")
EXAMPLE = """apiVersion: batch/v1
kind: Job
metadata: {name: example}
spec:
  completionMode: Indexed
  completions: 5
  parallelism: 5
  backoffLimitPerIndex: 0
  template:
    metadata:
      annotations:
        testbed.burst-dispatcher.io/run-seconds: "10"
        testbed.burst-dispatcher.io/exit-code.3: "42"
    spec:
      restartPolicy: Never
      containers: [{name: worker, image: any}]
"""


@app.callback(invoke_without_command=True)
def up(
    context: typer.Context,
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="Real nodes; the virtual node comes on top.")] = 2,
    slow: Annotated[bool, typer.Option(help="Kubernetes' own request rates, as on a managed cluster.")] = False,
    aci: Annotated[
        bool, typer.Option(help="The virtual node is the real connector, in front of a stand-in for ACI.")
    ] = False,
) -> None:
    """Starts a control plane on loopback and tells how to use it; ends with Ctrl-C."""
    if context.invoked_subcommand is None:
        _reported(lambda: asyncio.run(_up(nodes, Options(controller_qps=None) if slow else Options(), aci)))


@app.command()
def build() -> None:
    """Builds what is missing of control plane, virtual node and Helm, and prints the paths."""
    _reported(lambda: print(*map(ensure_binary, (CONTROL_PLANE, VIRTUAL_NODE, HELM)), sep="\n"))


def _reported(act: Callable[[], None]) -> None:
    try:
        act()
    except (CannotBuild, DidNotStart) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


async def _up(count: int, options: Options, aci: bool) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(ControlPlane.started(options))
        played = [real_node(f"node-{number + 1}") for number in range(count)]
        await plane.create_nodes(*played, *([] if aci else [virtual_node()]))
        virtual = await stack.enter_async_context(VirtualNode.started(plane)) if aci else None
        kubectl = plane.folder / "kubectl"
        kubectl.symlink_to(plane.binary)  # the binary is whatever it is called
        example = plane.folder / "example.yaml"
        example.write_text(EXAMPLE, encoding="utf-8")
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"A control plane with {count} nodes and the virtual node is ready at {plane.url}.")
        console.print("In another terminal:\n")
        for line in (
            f"export KUBECONFIG={plane.kubeconfig} PATH={plane.folder}:$PATH",
            "kubectl get nodes",
            f"kubectl create -f {example} && kubectl get pods --watch",
            "kubectl get job example -o jsonpath='{.status}'",
        ):
            console.print(f"    {line}", markup=False)
        if virtual is not None:
            console.print(f"    curl {virtual.aci.url}/bill", markup=False)
            console.print(
                "\nWhat the stand-in for ACI can be told is in testbed/aci/server.py and testbed/aci/told.py."
            )
        console.print("\nWhat pods can be told is in testbed/behaviour.py. Ctrl-C ends it and removes everything.")
        print(plane.kubeconfig, flush=True)
        await ended.wait()


if __name__ == "__main__":
    app()
