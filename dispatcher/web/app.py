"""What the HTTP service answers.

Decides paths, status codes and who may ask: reading needs no token, but the Host header must name this machine, so that
a web page open in a browser here cannot read it by way of a name that it points to 127.0.0.1. In a cluster kubelet and
Prometheus ask by the pod's address, and get health and metrics; the status is for a port that was forwarded.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

log = structlog.get_logger(__name__)

_INDEX = {
    "/api/status": "items, attempts, what is held and why, budgets, addresses",
    "/api/explain": "?name=: where an item, a batch or a tenant's work is, and why; kind= says which of them it is",
    "/api/budgets": "every account with its top-ups, burn rate and forecast",
    "/api/budgets/top-ups": "POST: adds money to a budget's present window",
    "/api/plan": "POST: what the backlog would do now, under the present or another configuration",
    "/api/report": "what closed attempts have cost, by day, tenant, task and placement, and would have elsewhere",
    "/healthz": "200 while everything works, 503 with the reasons otherwise",
    "/livez": "200 unless something hangs that a restart can mend",
    "/readyz": "200 once the first cycle has ended and everything works; a standby is ready too",
    "/metrics": "metrics for Prometheus",
}
FOR_MACHINES = ("/healthz", "/livez", "/readyz", "/metrics")
"""What probes and Prometheus ask for, by whatever address they know the pod."""
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Health:
    """Whether something is well: no faults, or one line for each."""

    faults: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.faults


@dataclass(frozen=True)
class Answered:
    """An answer to a question that can be wrong or come at the wrong moment: its content and the HTTP status."""

    content: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True)
class Sources:
    """Where the answers come from; none of these waits."""

    status: Callable[[], Mapping[str, Any]]
    health: Callable[[], Health]
    liveness: Callable[[], Health]
    """What is wrong that a restart of this process can mend, and nothing else."""
    readiness: Callable[[], Health]
    metrics: Callable[[], tuple[bytes, str]]
    questions: Mapping[str, Callable[[Mapping[str, str]], Answered]] = field(default_factory=dict)
    """By path: what answers a GET with its query."""
    acts: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Answered]]] = field(default_factory=dict)
    """By path: what carries out a POST with its JSON body."""


def make_app(sources: Sources, *, probed_from_outside: bool = False) -> web.Application:
    """The application, for a server or for a test. ``probed_from_outside``: health and metrics by any Host."""
    only_this_machine = _only_this_machine(FOR_MACHINES if probed_from_outside else ())
    app = web.Application(middlewares=[_answers_are_json, only_this_machine], client_max_size=64 * 1024)

    async def index(_: web.Request) -> web.StreamResponse:
        return _json({"service": "burst-dispatcher", "paths": _INDEX})

    async def status(_: web.Request) -> web.StreamResponse:
        return _json(sources.status())

    async def health(_: web.Request) -> web.StreamResponse:
        return _verdict(sources.health())

    async def liveness(_: web.Request) -> web.StreamResponse:
        return _verdict(sources.liveness())

    async def readiness(_: web.Request) -> web.StreamResponse:
        return _verdict(sources.readiness())

    async def metrics(_: web.Request) -> web.StreamResponse:
        body, content_type = sources.metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    for path, handler in {
        "/": index,
        "/api/status": status,
        "/healthz": health,
        "/livez": liveness,
        "/readyz": readiness,
        "/metrics": metrics,
    }.items():
        app.router.add_get(path, handler)
    for path, question in sources.questions.items():
        app.router.add_get(path, _asked(question))
    for path, act in sources.acts.items():
        app.router.add_post(path, _acted(act))
    return app


def _asked(question: Callable[[Mapping[str, str]], Answered]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = question(request.query)
        return _json(answer.content, status=answer.status)

    return handler


def _acted(act: Callable[[Mapping[str, Any]], Awaitable[Answered]]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if not names_this_machine(request.remote or ""):
            return _json({"error": "orders are taken from this machine alone; forward the port to it"}, status=403)
        # A form that a web page sends needs no permission of its browser; JSON does, and it is not given.
        if request.content_type != "application/json":
            return _json({"error": "send the request as application/json"}, status=415)
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _json({"error": "the body is no JSON object"}, status=400)
        answer = await act(body)
        return _json(answer.content, status=answer.status)

    return handler


def names_this_machine(host: str) -> bool:
    """Whether a Host header is a loopback address or localhost, whatever the port."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _only_this_machine(but_for: Collection[str]) -> Middleware:
    @web.middleware
    async def only_this_machine(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in but_for and not names_this_machine(request.headers.get("Host", "")):
            return _json({"error": "this service answers only as localhost or 127.0.0.1"}, status=403)
        return await handler(request)

    return only_this_machine


@web.middleware
async def _answers_are_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors are JSON with one sentence, and no answer is kept by anyone on the way."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        known = ", ".join(_INDEX)
        sentence = f"there is nothing at {request.path}; known are {known}" if error.status == 404 else error.reason
        response = _json({"error": sentence}, status=error.status)
    except Exception:  # one bad answer must not look like a dead service, and its reason belongs into the log
        log.exception("request.failed", path=request.path)
        response = _json({"error": "this answer could not be made; the log says why"}, status=500)
    response.headers.update(_HEADERS)
    return response


def _verdict(health: Health) -> web.Response:
    content = {"ok": health.well, "faults": list(health.faults), **health.facts}
    return _json(content, status=200 if health.well else 503)


def _json(content: Any, status: int = 200) -> web.Response:
    text = json.dumps(content, default=str, ensure_ascii=False)
    return web.Response(text=text + "\n", status=status, content_type="application/json")
