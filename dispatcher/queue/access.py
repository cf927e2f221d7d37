"""What a client connects with, as it is now: a connection string in a file that may change, or an identity.

Decides that a file which holds nothing usable leaves the last connection string in force, and that an identity which
gives no token says so in one line within a bounded time. Refuses to know who connects, and when. Nothing that is told
here quotes a secret.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog
from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential

from dispatcher.connection_string import ConnectionString, read_connection_string
from dispatcher.errors import BadConfiguration

__all__ = ["ConnectionStringFile", "Identity", "IdentityKind", "NoToken"]

IdentityKind = Literal["workload", "managed", "cli"]

_FILE_BYTES_MAX = 64 * 1024
_TOKEN_SECONDS = 8.0
"""Less than an operation at the broker may take, so that what is told is that the identity did not answer."""
_CREDENTIALS = {
    "workload": "WorkloadIdentityCredential",
    "managed": "ManagedIdentityCredential",
    "cli": "AzureCliCredential",
}
_REMEDIES = {
    "workload": "check the pod's label azure.workload.identity/use, its service account and the federated credential",
    "managed": "check that the machine has the identity, and {section}.client_id if it has several",
    "cli": "sign in with `az login`",
}
_log = structlog.get_logger("dispatcher.queue")


class Tell(Protocol):
    """Where a change is told: the ``emit`` of the Events port, or a logger's method."""

    def __call__(self, event: str, **facts: Any) -> None:
        """Tells one event; never fails."""
        ...


def _log_it(event: str, **facts: Any) -> None:
    _log.warning(event, **facts)  # looked up now: what was bound at import knows nothing of how logs were set up since


class ConnectionStringFile:
    """A mounted file with a connection string. Called, it answers with the one that is in force now.

    The file is read on every call: it is small, and calls are made once a second and when something was refused. A file
    that is missing, empty or no connection string, as it may be in the midst of a rotation, changes nothing; ``fault``
    and an event say so until it is mended. Raises BadConfiguration if there is none to begin with.
    """

    def __init__(self, path: Path, tell: Tell = _log_it) -> None:
        self.fault: str | None = None
        """What is wrong with the file now, in one line; None: nothing."""
        self._path = path
        self._tell = tell
        try:
            self._current = _read(path)
        except ValueError as error:
            raise BadConfiguration([f"service_bus.connection_string_file: {path} {error}"]) from None

    def __call__(self) -> str:
        """The connection string in force. Never raises."""
        try:
            found = _read(self._path)
        except ValueError as error:
            self._keep(f"{self._path} {error}")
            return self._current.text
        if self.fault is not None:
            self.fault = None
            self._tell("connection_string.mended", file=str(self._path))
        if found.text != self._current.text:
            self._current = found
            self._tell("connection_string.changed", file=str(self._path), host=found.host, key_name=found.key_name)
        return self._current.text

    def _keep(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            self._tell("connection_string.kept", why=fault, host=self._current.host, key_name=self._current.key_name)


def _read(path: Path) -> ConnectionString:
    """What a file holds. Raises ValueError with a sentence that begins after the file's name."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); mount the Secret there, or correct the path") from None
    if len(content) > _FILE_BYTES_MAX:
        raise ValueError(f"is larger than {_FILE_BYTES_MAX} bytes; it must hold nothing but the connection string")
    try:
        return read_connection_string(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is no text; it must hold nothing but the connection string") from None


class NoToken(Exception):
    """The identity gave no token; the text says why, and what to look at."""


class Identity:
    """A Microsoft Entra identity whose tokens open the broker. One for all queues: it keeps tokens until they end.

    ``client_id`` chooses among several; empty: what the environment says. ``section`` of the settings is where it is
    named. ``make`` replaces the credential of
    azure-identity. That library is imported when the first token is asked for. ``close`` it in the end.
    """

    def __init__(
        self,
        kind: IdentityKind,
        client_id: str | None = None,
        *,
        section: str = "service_bus",
        make: Callable[[], AsyncTokenCredential] | None = None,
        token_seconds: float = _TOKEN_SECONDS,
    ) -> None:
        self._kind = kind
        self._client_id = client_id
        self._section = section
        self._make = make or self._made
        self._token_seconds = token_seconds
        self._credential: AsyncTokenCredential | None = None

    async def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        """A token that is valid now; for the SDK. Raises NoToken, within bounded time."""
        try:
            if self._credential is None:
                self._credential = self._make()
            async with asyncio.timeout(self._token_seconds):
                return await self._credential.get_token(*scopes, **kwargs)
        except TimeoutError:
            raise NoToken(self._told(f"no answer within {self._token_seconds:g} s")) from None
        except Exception as error:  # what azure-identity raises is not told apart: none of it gives a token
            raise NoToken(self._told(str(error).strip().partition("\n")[0] or type(error).__name__)) from error

    async def close(self) -> None:
        """Lets go of the connections that tokens came through."""
        if self._credential is not None:
            credential, self._credential = self._credential, None
            await credential.close()

    async def __aenter__(self) -> Identity:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _told(self, why: str) -> str:
        remedy = _REMEDIES[self._kind].format(section=self._section)
        return f"the {self._kind} identity gives no token; {remedy} ({why})"

    def _made(self) -> AsyncTokenCredential:
        made: Callable[..., AsyncTokenCredential] = getattr(
            importlib.import_module("azure.identity.aio"), _CREDENTIALS[self._kind]
        )
        options = {"client_id": self._client_id} if self._client_id and self._kind != "cli" else {}
        return made(**options)
