"""One broker for each test, in a thread of its own, so that tests may block their own loop as they like.

The tests speak to hosts such as `ns1.servicebus.windows.net`; which of these is which broker is known here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatcher.embedded.broker import Broker, BrokerConfig, TlsFiles

SUFFIX = ".servicebus.windows.net"
TLS_FOLDER = "CONFORMANCE_TLS_FOLDER"  # in the environment: where `run` has put a certificate for all hosts

_ports: dict[str, int] = {}


def tls_files() -> TlsFiles:
    """The certificate of this run."""
    folder = Path(os.environ[TLS_FOLDER])
    return TlsFiles(folder / "certificate.pem", folder / "key.pem")


def port_of(host: str) -> int | None:
    """The port of the broker that is this host."""
    return _ports.get(host.lower())


@contextmanager
def broker_for(host: str, config: BrokerConfig) -> Iterator[Broker]:
    """A broker that is this host for as long as the context lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="broker", daemon=True)
    thread.start()
    broker = Broker(config)
    try:
        asyncio.run_coroutine_threadsafe(broker.start(), loop).result(20)
        _ports[host.lower()] = broker.port
        yield broker
    finally:
        _ports.pop(host.lower(), None)
        asyncio.run_coroutine_threadsafe(broker.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
