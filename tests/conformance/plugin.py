"""What the SDK's tests find instead of live Azure; loaded by pytest in the process that runs them.

Helper packages that are not published are stubbed, as far as the tests use them. Connections go to the broker of
the test, over TLS with the certificate of this run, which is trusted like any other. Nothing of the SDK's client
is changed but where it connects to.
"""

from __future__ import annotations

import functools
import logging
import sys
import types
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import certifi
import pytest
import structlog
from azure.servicebus import ServiceBusSharedKeyCredential, TransportType
from azure.servicebus._common._configuration import Configuration

from . import hosting, preparers

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


class AccessRights(Enum):
    """The rights of a key, as the management package names them."""

    manage = "Manage"
    send = "Send"
    listen = "Listen"


def _module(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Recordings are sanitized by these; here nothing is recorded."""


def _credential(*_args: Any, **_kwargs: Any) -> ServiceBusSharedKeyCredential:
    """The tests ask for an identity; here every identity is the root key."""
    return ServiceBusSharedKeyCredential(preparers.KEY_NAME, preparers.KEY)


def _install_stubs() -> None:
    _module(
        "devtools_testutils",
        AzureMgmtRecordedTestCase=object,
        AzureRecordedTestCase=object,
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


def _connect_to_loopback() -> None:
    original = Configuration.__init__

    @functools.wraps(original)
    def configure(self: Configuration, **options: Any) -> None:
        text = str(options["hostname"])
        host = (urlparse(text).hostname if "//" in text else text.partition(":")[0]) or ""
        wants_amqp = options.get("transport_type", TransportType.Amqp) is TransportType.Amqp
        if host.endswith(hosting.SUFFIX) and wants_amqp and not options.get("custom_endpoint_address"):
            options["custom_endpoint_address"] = f"sb://localhost:{hosting.port_of(host)}"
            options["transport_type"] = TransportType.Amqp
        original(self, **options)

    Configuration.__init__ = configure  # type: ignore[method-assign]


def _trust_the_certificate() -> None:
    """Whoever asks for the usual bundle of certificates gets one that has ours as well."""
    certificate = hosting.tls_files().certificate
    bundle = certificate.with_name("bundle.pem")
    if not bundle.exists():
        text = Path(certifi.where()).read_text(encoding="utf-8") + certificate.read_text(encoding="utf-8")
        bundle.write_text(text, encoding="utf-8")
    certifi.where = lambda: str(bundle)


_install_stubs()
_connect_to_loopback()
_trust_the_certificate()


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """Records and replays traffic upstream; nothing to do here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is out of scope is skipped by what it needs, not by its name."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("socket_transport") is TransportType.AmqpOverWebsocket:
            item.add_marker(pytest.mark.skip(reason="out of scope: AMQP over WebSocket"))
        needed = getattr(getattr(item, "function", None), "preparers", [])
        if any(preparer.options.get("requires_session") for preparer in needed):
            item.add_marker(pytest.mark.skip(reason="out of scope: sessions"))
