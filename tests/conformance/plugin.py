"""What the SDK's tests find instead of live Azure; loaded by pytest in the process that runs them.

Helper packages that are not published are stubbed, as far as the tests use them. The names of namespaces are
resolved to the brokers of the tests, and the certificate of this run is trusted like any other. Nothing of the
SDK itself is changed.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import logging
import re
import socket
import sys
import types
from collections.abc import Callable
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Any

import certifi
import pytest
import structlog
from azure.core.credentials import AzureNamedKeyCredential
from azure.servicebus import TransportType

from . import hosting, preparers

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


class AccessRights(Enum):
    """The rights of a key, as the management package names them."""

    manage = "Manage"
    send = "Send"
    listen = "Listen"


class RecordedTestCase:
    """What the tests inherit from; nothing is recorded."""

    @staticmethod
    def await_prepared_test(test: Callable[..., Any]) -> Callable[..., Any]:
        """Runs the coroutine of a test, which is an ordinary function from here on."""

        @functools.wraps(test)
        def run(self: object, *arguments: Any, **named: Any) -> None:
            asyncio.run(test(self, *arguments, **named))

        return run


def _module(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Recordings are sanitized by these; here nothing is recorded."""


def _credential(*_args: Any, **_kwargs: Any) -> AzureNamedKeyCredential:
    """The tests ask for an identity; here every identity is the root key."""
    return AzureNamedKeyCredential(preparers.KEY_NAME, preparers.KEY)


def _install_stubs() -> None:
    _module(
        "devtools_testutils",
        AzureMgmtRecordedTestCase=RecordedTestCase,
        AzureRecordedTestCase=RecordedTestCase,
        get_credential=_credential,
        set_custom_default_matcher=_nothing,
    )
    _module(
        "devtools_testutils.sanitizers",
        add_remove_header_sanitizer=_nothing,
        add_general_regex_sanitizer=_nothing,
        add_oauth_response_sanitizer=_nothing,
    )
    _module("azure.mgmt")
    _module("azure.mgmt.servicebus")
    _module("azure.mgmt.servicebus.models", AccessRights=AccessRights)
    sys.modules["servicebus_preparer"] = preparers


def _resolve_to_loopback() -> None:
    """Names of namespaces lead to their brokers; other names lead nowhere, so no test leaves this machine."""
    original = socket.getaddrinfo

    def resolve(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or name == "localhost" or name.startswith("127."):
            return original(host, port, *more, **options)
        found = hosting.port_of(name)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is nowhere")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", found))]

    socket.getaddrinfo = resolve


def _trust_the_certificate() -> None:
    """Whoever asks for the usual bundle of certificates gets one that has ours as well."""
    certificate = hosting.tls_files().certificate
    bundle = certificate.with_name("bundle.pem")
    if not bundle.exists():
        text = Path(certifi.where()).read_text(encoding="utf-8") + certificate.read_text(encoding="utf-8")
        bundle.write_text(text, encoding="utf-8")
    certifi.where = lambda: str(bundle)


_install_stubs()
_resolve_to_loopback()
_trust_the_certificate()


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """Records and replays traffic upstream; nothing to do here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is out of scope, by what it uses and not by its name, and has the long sleepers start early."""
    for item in items:
        needed = getattr(getattr(item, "function", None), "preparers", [])
        callspec = getattr(item, "callspec", None)
        transport = callspec.params.get("socket_transport") if callspec is not None else None
        uses_websocket = needed and transport is None and "AmqpOverWebsocket" in _source(item)
        if uses_websocket or transport is TransportType.AmqpOverWebsocket:
            item.add_marker(pytest.mark.skip(reason="out of scope: AMQP over WebSocket"))
        if any(preparer.options.get("requires_session") for preparer in needed):
            item.add_marker(pytest.mark.skip(reason="out of scope: sessions"))
    items.sort(key=_sleeps, reverse=True)
    # A worker is given two tests at a time: a long one and a short one.
    half = (len(items) + 1) // 2
    long, short = items[:half], items[half:][::-1]
    items[:] = [item for pair in zip_longest(long, short) for item in pair if item is not None]


@functools.cache
def _sources(path: Path) -> dict[str, str]:
    """The text of each function of a file; decorators hide them from `inspect`."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in functions}


def _source(item: pytest.Item) -> str:
    return _sources(item.path).get(item.name.partition("[")[0], "")


def _sleeps(item: pytest.Item) -> int:
    """Seconds of sleep and of waiting that are written in the test."""
    return sum(int(number) for number in re.findall(r"(?:sleep\(|seconds=|timeout=|wait_time=)(\d+)", _source(item)))
