"""The stand-in as a process: Azure Resource Manager's API and the steering beside it, over HTTP on loopback.

Decides routes, identities and shapes of answers. What is granted or refused is the region's; here is its clock, its
timer and, in exec mode, the processes. The steering (paths without ``/subscriptions``) needs no identity:

    GET  /healthz                      ready
    GET  /bill                         what every group has cost until now, to the second: the referee
    GET  /statistics                   what is used, the most that ever was, what was asked and refused
    GET  /requests                     the last creates and deletes, with times and answers
    GET  /groups                       every group: how far it is, how often it was asked for
    POST /reset                        everything as at the start: no groups, books or faults; options may be given
    GET, POST, DELETE  /faults         see testbed/aci/faults.py; DELETE removes all
    GET, PATCH  /options               see testbed/aci/options.py; limits and times from now on
    POST /groups/NAME/maintenance      stops its containers with {"code": 7147} and starts them again
    POST /groups/NAME/vanish           the group is gone, and nobody was told
    POST /groups/NAME/finish           what runs in it ends with {"exit_code": 0}
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from testbed.aci import definitions, faults, options, views, wording
from testbed.aci.execution import Execution
from testbed.aci.groups import Act, Container, Group, State, Stop
from testbed.aci.region import Region

GROUPS = "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/" + wording.TYPE
LOG_LINES_ENDED = 1000
LOG_BYTES_ENDED = 16 * 1024
"""What is kept of a log once its container has ended."""
SLEEP_SECONDS_MAX = 3600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def utc_now() -> datetime:
    """The clock of everything here: bills and instances are told in it."""
    return datetime.now(UTC)


class Server:
    """One region behind HTTP, and what runs code for it."""

    def __init__(self, region: Region, execution_of: Callable[[Server], Execution]) -> None:
        self.region = region
        self.execution = execution_of(self)
        self._changed = asyncio.Event()
        self._at_start = region.options
        self._forgotten = 0

    def application(self) -> web.Application:
        """All routes."""
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._answer])
        one = GROUPS + "/{name}"
        app.router.add_put(one, self.put)
        app.router.add_get(one, self.get)
        app.router.add_delete(one, self.delete)
        app.router.add_get(one + "/containers/{container}/logs", self.logs)
        app.router.add_get(GROUPS, self.list)
        app.router.add_get("/subscriptions/{subscription}/providers/" + wording.TYPE, self.list)
        locations = "/subscriptions/{subscription}/providers/Microsoft.ContainerInstance/locations/{location}"
        app.router.add_get(locations + "/usages", self.usages)
        app.router.add_get(locations + "/operations/{name}", self.operation)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/bill", self.bill)
        app.router.add_get("/statistics", self.statistics)
        app.router.add_get("/requests", self.requests)
        app.router.add_get("/groups", self.show_groups)
        app.router.add_post("/reset", self.reset)
        app.router.add_get("/faults", self.show_faults)
        app.router.add_post("/faults", self.add_fault)
        app.router.add_delete("/faults", self.clear_faults)
        app.router.add_get("/options", self.show_options)
        app.router.add_patch("/options", self.change_options)
        app.router.add_post("/groups/{name}/{what:maintenance|vanish|finish}", self.steer)
        app.cleanup_ctx.append(self._running)
        return app

    async def _running(self, _: web.Application) -> Any:
        timer = asyncio.create_task(self._keep_time())
        yield
        timer.cancel()
        with suppress(asyncio.CancelledError):
            await timer
        await self.execution.close()

    # --- time and code ------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Things happen when they are due, whether anybody asks or not: code must start then."""
        while True:
            self._changed.clear()
            await self._carry_out(self.region.advance(utc_now()))
            due = self.region.next_change()
            seconds = SLEEP_SECONDS_MAX if due is None else (due - utc_now()).total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(seconds, 0.001), SLEEP_SECONDS_MAX)):
                    await self._changed.wait()

    async def _up_to_now(self) -> datetime:
        """The present, with all that was due until then done: of a request that is refused nobody gets the acts."""
        now = utc_now()
        await self._do(self.region.advance(now))
        return now

    async def _do(self, acts: list[Act]) -> None:
        self._changed.set()  # the timer looks anew when the next change is due
        await self._carry_out(acts)

    async def _carry_out(self, acts: list[Act]) -> None:
        for act in acts:
            await self.execution.do(act)
        for group in self.region.gone[self._forgotten :]:
            self.execution.forget(group)
        self._forgotten = len(self.region.gone)

    async def exited(self, group: Group, container: Container, run: int, exit_code: int) -> None:
        """Code that was started has ended."""
        await self._do(self.region.exited(utc_now(), group, container, run, exit_code))

    # --- answers and identities ---------------------------------------------------------------------------------------

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path.startswith("/subscriptions/"):
                self._identify(request)
            return await handler(request)
        except wording.Refusal as refusal:
            wait = refusal.retry_after_seconds
            headers = {"x-ms-failure-cause": "gateway"} if wait is None else {"Retry-After": str(wait)}
            return web.json_response(refusal.body(), status=refusal.status, headers=headers)
        except ValueError as error:
            return web.json_response({"error": {"code": "BadRequest", "message": str(error)}}, status=400)

    def _identify(self, request: web.Request) -> None:
        held = self.region.options
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (held.writer_token, held.reader_token):
            raise wording.Refusal(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if request.match_info.get("subscription", held.subscription) != held.subscription:
            raise wording.Refusal(404, "SubscriptionNotFound", "The subscription could not be found.")
        if "api-version" not in request.query:
            text = "The api-version query parameter (?api-version=) is required for all requests."
            raise wording.Refusal(400, "MissingApiVersionParameter", text)
        if token == held.reader_token and request.method != "GET":
            verb = "delete" if request.method == "DELETE" else "write"
            raise wording.forbidden(f"{wording.TYPE}/{verb}", request.path)

    def _view(self, group: Group, *, with_instances: bool = True) -> dict[str, Any]:
        held = self.region.options
        return views.group(held.subscription, held.location, group, with_instances=with_instances)

    # --- Azure Resource Manager ---------------------------------------------------------------------------------------

    async def put(self, request: web.Request) -> web.Response:
        """Create: 201 for a new group, 200 for one that is there as it is asked for."""
        body = await request.read()
        if len(body) > self.region.options.body_bytes_max:
            raise wording.too_large(self.region.options.body_bytes_max)
        try:
            parsed = json.loads(body)
        except ValueError:
            raise wording.invalid("InvalidRequestContent", "The request content was invalid: no JSON.") from None
        definition = definitions.read(request.match_info["name"], parsed)
        now = await self._up_to_now()
        group, is_new, acts = self.region.create(now, request.match_info["resource_group"], definition)
        await self._do(acts)
        return web.json_response(
            self._view(group), status=201 if is_new else 200, headers={"Azure-AsyncOperation": self._operation(request)}
        )

    def _operation(self, request: web.Request) -> str:
        held, name = self.region.options, request.match_info["name"]
        provider = f"/subscriptions/{held.subscription}/providers/Microsoft.ContainerInstance"
        return f"https://{request.host}{provider}/locations/{held.location}/operations/{name}?api-version=2023-05-01"

    async def get(self, request: web.Request) -> web.Response:
        """One group with what its instances do."""
        name, resource_group = request.match_info["name"], request.match_info["resource_group"]
        group, acts = self.region.get(await self._up_to_now(), name, resource_group)
        await self._do(acts)
        return web.json_response(self._view(group))

    async def list(self, request: web.Request) -> web.Response:
        """All groups, of one resource group or of the subscription, without what their instances do."""
        await self._do(self.region.advance(utc_now()))
        self.region.read(utc_now())
        wanted = request.match_info.get("resource_group")
        found = [each for each in self.region.groups.values() if wanted in (None, each.resource_group)]
        return web.json_response({"value": [self._view(each, with_instances=False) for each in found]})

    async def delete(self, request: web.Request) -> web.Response:
        """Accepted with 200 and the group, which goes later; 204 where there is none."""
        group, acts = self.region.delete(await self._up_to_now(), request.match_info["name"])
        await self._do(acts)
        return web.json_response(self._view(group)) if group else web.Response(status=204)

    async def logs(self, request: web.Request) -> web.Response:
        """What a container has written; of one that has ended only the end."""
        name, resource_group = request.match_info["name"], request.match_info["resource_group"]
        group, acts = self.region.get(await self._up_to_now(), name, resource_group)
        await self._do(acts)
        found = [each for each in group.containers if each.definition.name == request.match_info["container"]]
        if not found:
            raise wording.not_found(f"{name}/containers/{request.match_info['container']}", resource_group)
        container = found[0]
        text = container.told.log if container.starts else ""
        if group.executes:
            text = self.execution.log(group, container.definition.name)
        lines = text.splitlines(keepends=True)
        if container.state is State.TERMINATED:
            lines = _end(lines)
        tail = request.query.get("tail")
        if tail is not None:
            lines = lines[-int(tail) :] if int(tail) > 0 else []
        return web.json_response({"content": "".join(lines)})

    async def usages(self, request: web.Request) -> web.Response:
        """Azure's List Usage of the region."""
        self.region.read(utc_now())
        await self._do(self.region.advance(utc_now()))
        used = self.region.usages() if request.match_info["location"] == self.region.options.location else []
        value = [
            {
                "id": f"{request.path}/{name}",
                "unit": "Count",
                "currentValue": current,
                "limit": limit,
                "name": {"value": name, "localizedValue": localized},
            }
            for name, localized, current, limit in used
        ]
        return web.json_response({"value": value})

    async def operation(self, request: web.Request) -> web.Response:
        """How a create is going."""
        group, acts = self.region.get(await self._up_to_now(), request.match_info["name"], "")
        await self._do(acts)
        state = group.provisioning_state
        status = state if state in ("Succeeded", "Failed") else "InProgress"
        return web.json_response({"name": group.name, "status": status})

    # --- steering -----------------------------------------------------------------------------------------------------

    async def healthz(self, _: web.Request) -> web.Response:
        """Ready."""
        return web.Response(text="ok")

    async def bill(self, _: web.Request) -> web.Response:
        """The referee."""
        now = utc_now()
        await self._do(self.region.advance(now))
        return web.json_response(self.region.bill(now))

    async def statistics(self, _: web.Request) -> web.Response:
        """What is used, and the most that ever was."""
        now = utc_now()
        await self._do(self.region.advance(now))
        return web.json_response(self.region.statistics(now))

    async def requests(self, _: web.Request) -> web.Response:
        """The last creates and deletes."""
        told = [{**asdict(each), "at": each.at.isoformat()} for each in self.region.asked]
        return web.json_response({"requests": told})

    async def show_groups(self, _: web.Request) -> web.Response:
        """Every group, and how often each name was asked for."""
        await self._do(self.region.advance(utc_now()))
        told = [
            {
                "name": each.name,
                "phase": each.phase.value,
                "state": each.state,
                "provisioning_state": each.provisioning_state,
                "address": each.address,
                "metered": each.is_metered,
                "deleted": each.deleted is not None,
                "restarts": [max(0, container.starts - 1) for container in each.containers],
            }
            for each in self.region.groups.values()
        ]
        return web.json_response({"groups": told, "reads": dict(self.region.reads_of)})

    async def reset(self, request: web.Request) -> web.Response:
        """A new region, with the options of the start, or with others in place of some of them."""
        told = await request.json() if request.can_read_body else {}
        new = options.changed(self._at_start, told)
        acts: list[Act] = [Stop(each) for each in self.region.groups.values()]
        self.region = Region(new)
        self._forgotten = 0
        await self._do(acts)
        return web.Response(status=204)

    async def show_faults(self, _: web.Request) -> web.Response:
        """All that were asked for, with how often each fired."""
        return web.json_response({"faults": [each.told() for each in self.region.faults]})

    async def add_fault(self, request: web.Request) -> web.Response:
        """One more."""
        fault = faults.read(await request.json())
        self.region.faults.append(fault)
        return web.json_response(fault.told(), status=201)

    async def clear_faults(self, _: web.Request) -> web.Response:
        """None any more; what has befallen a group stays."""
        self.region.faults.clear()
        return web.Response(status=204)

    async def show_options(self, _: web.Request) -> web.Response:
        """Those in force."""
        return web.Response(text=self.region.options.to_json(), content_type="application/json")

    async def change_options(self, request: web.Request) -> web.Response:
        """New limits and times."""
        changes = await request.json()
        if fixed := {"subscription", "location", "subnet", "writer_token", "reader_token"} & set(changes):
            raise ValueError(f"{', '.join(sorted(fixed))}: fixed at the start")
        await self._do(self.region.advance(utc_now()))
        self.region.change_options(options.changed(self.region.options, changes))
        return await self.show_options(request)

    async def steer(self, request: web.Request) -> web.Response:
        """Makes something happen to one group now."""
        now = utc_now()
        acts = self.region.advance(now)
        group = self.region.groups.get(request.match_info["name"])
        if group is None:
            raise wording.not_found(request.match_info["name"], "")
        told = await request.json() if request.can_read_body else {}
        match request.match_info["what"]:
            case "maintenance":
                acts += group.maintain(now, int(told.get("code", 7147)))
            case "vanish":
                acts += group.vanish(now)
            case _:
                for container in group.containers:
                    acts += group.ended(now, container, int(told.get("exit_code", 0)))
        await self._do(acts)
        return web.json_response(self._view(group))


def _end(lines: list[str]) -> list[str]:
    kept: list[str] = []
    size = 0
    for line in reversed(lines[-LOG_LINES_ENDED:]):
        size += len(line.encode())
        if size > LOG_BYTES_ENDED:
            break
        kept.append(line)
    return kept[::-1]


__all__ = ["Server", "utc_now"]
