"""How this process reads what Azure says of container groups: by the identity or the token file that the settings name.

Decides which token is sent where, and what a missing one is told as. Knows nothing of what is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from dispatcher.azure import AccountConfig, ContainerGroups, probe
from dispatcher.azure.config import Token
from dispatcher.errors import LookFailed
from dispatcher.queue.access import Identity, NoToken
from dispatcher.service.wiring import kubernetes_config
from dispatcher.settings import Settings
from dispatcher.settings.azure import AzureSettings

__all__ = ["AccountAccess"]

_TOKEN_BYTES_MAX = 64 * 1024


class AccountAccess:
    """The way to Azure Resource Manager. ``close`` it when nothing is read any more."""

    def __init__(self, settings: Settings, config_folder: Path) -> None:
        """``config_folder`` is what relative paths begin at. The settings must have the section ``azure``."""
        if settings.azure is None:
            raise ValueError("the settings have no section azure")
        azure = settings.azure
        self._identity: Identity | None = None
        self._config = account_config(settings, config_folder)
        if azure.token_file is not None:
            self._token: Token = _from_file(config_folder / azure.token_file)
        else:
            self._identity = Identity(azure.identity, azure.client_id, section="azure")
            self._token = _from_identity(self._identity, azure)

    def groups(self, now: Callable[[], datetime], on_news: Callable[[], None]) -> ContainerGroups:
        """The reader of container groups, not started yet."""
        return ContainerGroups(self._config, self._token, now, on_news)

    async def probe(self) -> tuple[list[str], list[str]]:
        """What is wrong with what can be read, and what was found; each a line."""
        return await probe(self._config, self._token)

    async def close(self) -> None:
        """Lets go of the identity's connections."""
        if self._identity is not None:
            await self._identity.close()


def account_config(settings: Settings, config_folder: Path) -> AccountConfig:
    """Whose groups are read, and how."""
    azure = settings.azure
    if azure is None:
        raise ValueError("the settings have no section azure")
    return AccountConfig(
        subscription=azure.subscription,
        resource_group=azure.resource_group,
        namespaces=frozenset(kubernetes_config(settings, config_folder).namespaces),
        region=azure.region,
        endpoint=azure.endpoint.rstrip("/"),
        look_every=azure.look_every,
        requests_per_second=azure.requests_per_second,
        request_timeout=azure.request_timeout,
        patience=azure.request_timeout * 3,
    )


def _from_identity(identity: Identity, azure: AzureSettings) -> Token:
    scope = f"{azure.endpoint.rstrip('/')}/.default"

    async def token() -> str:
        try:
            return (await identity.get_token(scope)).token
        except NoToken as error:
            raise LookFailed(str(error)) from error

    return token


def _from_file(path: Path) -> Token:
    async def token() -> str:
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise LookFailed(f"azure.token_file: {path} cannot be read ({error.strerror})") from error
        text = content[:_TOKEN_BYTES_MAX].decode("ascii", errors="replace").strip()
        if not text or not text.isascii() or any(char.isspace() for char in text):
            raise LookFailed(f"azure.token_file: {path} does not hold a token and nothing else")
        return text

    return token
