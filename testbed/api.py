"""Requests to an API server, as plain JSON: what the testbed itself needs, and no more.

Knows nothing of the objects it carries. Each request has a connection of its own, so that one value serves any event
loop.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

REQUEST_SECONDS_MAX = 30.0


class ApiError(RuntimeError):
    """The server answered with an error; ``reason`` is the Status reason (``AlreadyExists``), empty where it gave
    none."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Api:
    """An API server and an identity."""

    url: str
    token: str
    ca_file: Path
    _tls: ssl.SSLContext = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tls", ssl.create_default_context(cafile=str(self.ca_file)))

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        patch: str = "merge",
    ) -> Any:
        """The answer's JSON (or text, where it is none). ``patch`` is the kind of a PATCH: merge, strategic-merge,
        json.

        Raises ApiError, and aiohttp.ClientError or TimeoutError where there is no answer.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = f"application/{patch}-patch+json"
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, self.url + path, json=body, params=query, headers=headers) as response,
        ):
            is_json = response.content_type == "application/json"
            answer = await response.json() if is_json else await response.text()
            if response.status >= 400:
                told = answer if isinstance(answer, dict) else {}
                message = str(told.get("message") or answer)
                raise ApiError(response.status, str(told.get("reason") or ""), message[:2000])
            return answer

    async def get(self, path: str, **query: str) -> Any:
        """GET; raises as :meth:`request` does."""
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST; raises as :meth:`request` does."""
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, Any], *, patch: str = "merge") -> Any:
        """PATCH; raises as :meth:`request` does."""
        return await self.request("PATCH", path, body, patch=patch)

    async def delete(self, path: str, **query: str) -> Any:
        """DELETE; raises as :meth:`request` does."""
        return await self.request("DELETE", path, query=query)
