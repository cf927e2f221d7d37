"""The fault controls over HTTP, for tests that run in another process than the broker. Listens on loopback only.

    GET    /faults            every fault: whether it is armed, with what, and how often it has fired
    PUT    /faults/{fault}    arms a standing fault: {"queue": "jobs", "value": 0.5, "times": 3}, all optional
    DELETE /faults/{fault}    disarms it; DELETE /faults disarms all of them
    POST   /faults/{fault}    strikes at once: {"queue": "jobs", "condition": "amqp:link:detach-forced", "count": 1};
                              answers {"hit": n}, how many connections, links or locks that were
    GET    /queues            the counts of every queue, by name
    GET    /queues/{queue}    the counts of a queue

A fault is named as in `faults.Fault`. What cannot be done is answered with 400, or 404 for an unknown name, and a
sentence in {"error": …}. Nothing is decided here: requests become calls of `Broker.faults`.

    async with Broker(config) as broker, FaultControl(broker) as control:
        print(control.url)
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from .errors import BrokerError
from .faults import STRIKES, Armed, Fault, FaultError
from .server import Broker

_HOST = "127.0.0.1"
_FIELDS_OF_ARMING: dict[str, tuple[type, ...]] = {"queue": (str,), "value": (int, float), "times": (int,)}
_FIELDS_OF_STRIKES: dict[str, tuple[type, ...]] = {"queue": (str,), "condition": (str,), "count": (int,)}


class FaultControl:
    """An HTTP server for the faults of one broker; lives on the broker's event loop."""

    def __init__(self, broker: Broker, port: int = 0) -> None:
        self.port = port  # 0 until it is started: any free port
        self._broker = broker
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{_HOST}:{self.port}"

    async def start(self) -> None:
        """Begins to listen. Raises BrokerError if the port is taken."""
        application = web.Application(middlewares=[_answer_errors])
        application.add_routes(
            [
                web.get("/faults", self._list),
                web.delete("/faults", self._disarm_all),
                web.put("/faults/{fault}", self._arm),
                web.delete("/faults/{fault}", self._disarm),
                web.post("/faults/{fault}", self._strike),
                web.get("/queues", self._all_counts),
                web.get("/queues/{queue}", self._counts),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, _HOST, self.port).start()
        except OSError as error:
            await self.stop()
            why = os.strerror(error.errno) if error.errno else error
            raise BrokerError(f"cannot listen on {_HOST}:{self.port}: {why}") from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Lets go of the port."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _list(self, _request: web.Request) -> web.Response:
        faults = self._broker.faults
        views = {fault.value: _view(fault, faults.armed.get(fault), faults.fired[fault]) for fault in Fault}
        return web.json_response(views)

    async def _arm(self, request: web.Request) -> web.Response:
        fault = _fault(request)
        self._broker.faults.arm(fault, **await self._fields(request, _FIELDS_OF_ARMING))
        return web.json_response(_view(fault, self._broker.faults.armed[fault], self._broker.faults.fired[fault]))

    async def _disarm(self, request: web.Request) -> web.Response:
        self._broker.faults.disarm(_fault(request))
        return web.json_response({})

    async def _disarm_all(self, _request: web.Request) -> web.Response:
        self._broker.faults.disarm()
        return web.json_response({})

    async def _strike(self, request: web.Request) -> web.Response:
        fault = _fault(request)
        hit = self._broker.faults.strike(fault, **await self._fields(request, _FIELDS_OF_STRIKES))
        return web.json_response({"hit": hit})

    async def _fields(self, request: web.Request, known: dict[str, tuple[type, ...]]) -> dict[str, Any]:
        """The fields of the request's body; a queue that is not there could never be hit. Raises FaultError."""
        fields = await _fields(request, known)
        queue = fields.get("queue")
        names = [each.name for each in self._broker.config.queues]
        if queue is not None and queue.lower().partition("/$")[0] not in (name.lower() for name in names):
            raise FaultError(f"queue: there is no {queue!r}; there are {', '.join(names)}")
        return fields

    async def _all_counts(self, _request: web.Request) -> web.Response:
        names = [queue.name for queue in self._broker.config.queues]
        return web.json_response({name: asdict(self._broker.counts(name)) for name in names})

    async def _counts(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._broker.counts(request.match_info["queue"])))


@web.middleware
async def _answer_errors(request: web.Request, handler: Any) -> web.StreamResponse:
    # A page in a browser may send requests to loopback, but not with this host in them.
    if request.host.partition(":")[0] not in (_HOST, "localhost"):
        return web.json_response({"error": "only for requests from this machine"}, status=403)
    try:
        answer: web.StreamResponse = await handler(request)
    except FaultError as error:
        return web.json_response({"error": str(error)}, status=400)
    except (LookupError, BrokerError) as error:
        return web.json_response({"error": str(error.args[0])}, status=404)
    return answer


def _fault(request: web.Request) -> Fault:
    name = request.match_info["fault"]
    try:
        return Fault(name)
    except ValueError:
        raise LookupError(f"there is no fault {name!r}; there are {', '.join(sorted(Fault))}") from None


async def _fields(request: web.Request, known: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields of the request's body. Raises FaultError."""
    text = await request.text()
    try:
        fields = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise FaultError(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise FaultError("the body must be an object")
    for name, value in fields.items():
        if name not in known:
            raise FaultError(f"{name}: unknown; there are {', '.join(known)}")
        if value is not None and (not isinstance(value, known[name]) or isinstance(value, bool)):
            raise FaultError(f"{name}: must be {' or '.join(kind.__name__ for kind in known[name])}")
    return {name: value for name, value in fields.items() if value is not None}


def _view(fault: Fault, armed: Armed | None, fired: int) -> dict[str, Any]:
    return {"at_once": fault in STRIKES, "armed": asdict(armed) if armed else None, "fired": fired}
