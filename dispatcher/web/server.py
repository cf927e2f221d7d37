"""Listening on a port, and letting go of it within a bounded time.

Decides what a taken port is called. Knows nothing of what is answered.
"""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Self

from aiohttp import web

from dispatcher.errors import BadConfiguration

_SHUTDOWN_SECONDS = 2.0


class WebServer:
    """An application on a port, while the block lasts. ``url`` says where."""

    def __init__(self, app: web.Application, *, host: str, port: int) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, keepalive_timeout=15)
        self._host = host
        self._port = port

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            fault = "is taken by another program" if error.errno == errno.EADDRINUSE else "may not be used by this user"
            remedy = "choose another with --web-port, or 0 for any free one"
            raise BadConfiguration([f"local.web_port: port {self._port} {fault}; {remedy}"]) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"
