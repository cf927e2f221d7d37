"""How the commands find and ask a running service.

Decides where a service is (a URL that was given, or what a data directory says) and what an unreachable one is called.
Knows nothing of what its answers mean.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from dispatcher.errors import DispatcherError

SERVICE_FILE = "service.json"
_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)


class NotReachable(DispatcherError):
    """There is no service to ask. The text names where it was looked for, and the remedy."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """What a service in local mode says of itself in its data directory."""

    url: str
    pid: int
    connection_string_file: Path
    queues: tuple[str, ...] = ()


def find_service(data_dir: Path) -> RunningService:
    """Reads the service file of a data directory. Raises NotReachable if there is none, or none that can be read."""
    path = data_dir / SERVICE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return RunningService(
            str(content["url"]),
            int(content["pid"]),
            Path(content["connection_string_file"]),
            tuple(content.get("queues", ())),
        )
    except FileNotFoundError:
        raise NotReachable(
            f"no service runs on {data_dir}: start one with `dispatcher run --local --data-dir {data_dir}`, "
            "or name another with --data-dir or --url"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReachable(f"{path} cannot be read ({error}): start the service anew, it writes this file") from None


async def get_json(url: str, path: str) -> dict[str, Any]:
    """One answer of the service. Raises NotReachable."""
    address = url.rstrip("/") + path
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(address) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400 and not (isinstance(answer, dict) and "faults" in answer):
                raise NotReachable(f"{address} answered {response.status}: is this the dispatcher's address?")
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        why = "no answer within 10 s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise NotReachable(
            f"no service answers at {url} ({why}): start one with `dispatcher run --local`, or name another with --url"
        ) from None
    if not isinstance(answer, dict):
        raise NotReachable(f"{address} does not answer like a dispatcher: is this its address?")
    return answer


async def _ask(url: str, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.request(method, url.rstrip("/") + path, json=body) as response,
    ):
        return response.status, await response.json(content_type=None)


def ask_broker(url: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One answer of a broker's HTTP API. Raises NotReachable, and DispatcherError with the broker's own sentence."""
    return _answer(url, method, path, body, "broker", "dispatcher broker serve --faults-port 5673")


def ask(url: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One answer of a service to a question. Raises NotReachable, and DispatcherError with the service's sentence."""
    return _answer(url, method, path, body, "service", "dispatcher run")


def _answer(
    url: str, method: str, path: str, body: Mapping[str, Any] | None, who: str, how_to_start: str
) -> dict[str, Any]:
    try:
        status, answer = asyncio.run(_ask(url, method, path, body))
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        why = "no answer within 10 s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise NotReachable(
            f"no {who} answers at {url} ({why}): start one with `{how_to_start}`, or name another with --url"
        ) from None
    if not isinstance(answer, dict):
        raise NotReachable(
            f"{url} does not answer like a {'dispatcher' if who == 'service' else who}: is this its address?"
        )
    if status >= 400 and ("error" in answer or not answer):
        raise DispatcherError(str(answer.get("error", f"{url} answered {status}")))
    return answer


def get_json_now(url: str, path: str) -> dict[str, Any]:
    """The same for code that does not run on an event loop."""
    return asyncio.run(get_json(url, path))
