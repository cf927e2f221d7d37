"""What a Service Bus connection string must say to be of use.

Decides whether a text is one, in words that quote nothing of it. Refuses to know where it came from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

__all__ = ["ConnectionString", "read_connection_string"]

_REMEDY = (
    "copy it whole, as the portal or `az servicebus queue authorization-rule keys list` shows it: "
    "Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=..."
)


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """The parts of a connection string that may be shown; the secret ones stay out of ``repr``."""

    text: str = field(repr=False)
    host: str
    """Host name of the namespace, with the port where one is given."""
    key_name: str | None
    """Name of the shared access policy; None where it brings a ready-made signature."""
    queue: str | None
    """The only queue that it opens (``EntityPath``); None: all that the key has rights for."""
    signature_until: datetime | None = None
    """When a ready-made signature ends, in UTC; None: it brings a key, which does not end."""


def read_connection_string(text: str) -> ConnectionString:
    """Takes a connection string apart. Raises ValueError: one sentence with the remedy after a semicolon, no secrets.

    The same texts are taken as by the SDK, which ignores the case of the keys.
    """
    text = text.strip()
    if not text:
        raise ValueError(f"is empty; {_REMEDY}")
    pairs = [part.partition("=") for part in text.rstrip(";").split(";")]
    if len(text.splitlines()) > 1 or not all(key and separator for key, separator, _ in pairs):
        raise ValueError(f"is no connection string; {_REMEDY}")
    parts = {key.strip().lower(): value.strip() for key, _, value in pairs}
    host = urlsplit(parts.get("endpoint") or parts.get("hostname") or "").netloc
    if not host:
        raise ValueError(f"names no Endpoint; {_REMEDY}")
    key_name, key = parts.get("sharedaccesskeyname"), parts.get("sharedaccesskey")
    signature = parts.get("sharedaccesssignature")
    if signature and (key or key_name):
        raise ValueError("has a key and a signature; leave one of them out")
    if not signature and not (key and key_name):
        raise ValueError(f"lacks {'SharedAccessKey' if key_name else 'SharedAccessKeyName'}; {_REMEDY}")
    return ConnectionString(text, host, key_name, parts.get("entitypath") or None, _end_of(signature))


def _end_of(signature: str | None) -> datetime | None:
    found = re.search(r"(?:^|[&\s])se=(\d{1,11})(?:&|$)", signature or "")
    return datetime.fromtimestamp(int(found[1]), UTC) if found else None
