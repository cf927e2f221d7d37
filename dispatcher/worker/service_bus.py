"""How one report travels: by the REST interface of Service Bus, signed with the key of a connection string.

Decides what a connection string must hold, how a request is signed and what an answer means. Knows nothing of reports,
and does not repeat anything. Nothing that is told here quotes a key or a token.

Sources: "Send Message" and "Service Bus access control with Shared Access Signatures", learn.microsoft.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

TOKEN_SECONDS = 3600
REQUEST_SECONDS = 15.0
_FILE_BYTES_MAX = 64 * 1024
_ANSWER_BYTES_MAX = 2048
_FIELDS = {
    "endpoint", "sharedaccesskeyname", "sharedaccesskey", "sharedaccesssignature", "entitypath",
    "usedevelopmentemulator",
}  # fmt: skip


class Access(NamedTuple):
    """The queue that reports go to, and what opens it."""

    url: str
    """Of the queue itself."""
    key_name: str
    key: str
    signature: str
    """A token that was made elsewhere, where there is no key."""

    def __repr__(self) -> str:
        return f"Access({self.url})"

    def token(self, now: float) -> str:
        """What opens the queue for the next hour. ``now`` is in seconds since 1970."""
        if self.signature:
            return self.signature
        audience, expiry = quote_plus(self.url), int(now) + TOKEN_SECONDS
        signed = hmac.new(self.key.encode(), f"{audience}\n{expiry}".encode(), hashlib.sha256).digest()
        signature = quote_plus(base64.b64encode(signed))
        return f"SharedAccessSignature sr={audience}&sig={signature}&se={expiry}&skn={quote_plus(self.key_name)}"


def read_access(path: Path) -> Access:
    """What the file of a connection string gives access to. Raises ValueError with a sentence about the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); mount the Secret of the report queue there"
        ) from None
    try:
        return _parse(content.decode("utf-8").strip())
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def _parse(text: str) -> Access:
    fields: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.strip().partition("=")
        if equals and name.lower() in _FIELDS:
            fields[name.lower()] = value.strip()
    if not fields.get("endpoint"):
        raise ValueError("is no connection string: it lacks Endpoint")
    if not fields.get("entitypath"):
        raise ValueError("lacks EntityPath, the name of the report queue")
    signature = fields.get("sharedaccesssignature", "")
    if not signature and not (fields.get("sharedaccesskeyname") and fields.get("sharedaccesskey")):
        raise ValueError("lacks SharedAccessKeyName with SharedAccessKey, or SharedAccessSignature")
    endpoint = urlsplit(fields["endpoint"])
    if not endpoint.hostname:
        raise ValueError("has an Endpoint without a host; it looks like sb://name.servicebus.windows.net/")
    plain = fields.get("usedevelopmentemulator", "").lower() == "true"
    base = f"{'http' if plain else 'https'}://{endpoint.netloc.lower()}"
    queue = quote(fields["entitypath"].strip("/"), safe="/-_.~")
    return Access(
        f"{base}/{queue}", fields.get("sharedaccesskeyname", ""), fields.get("sharedaccesskey", ""), signature
    )


class Answer(NamedTuple):
    """What became of a send."""

    accepted: bool
    final: bool = False
    """Repeating it will not help until somebody changes something."""
    too_large: bool = False
    """It may be that less would be taken."""
    wait_seconds: float | None = None
    """What the service asks for before the next try."""
    text: str = ""
    """For people."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever answers with another address is not the service: a token is not carried on."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def send(access: Access, body: bytes, properties: dict[str, Any], now: float) -> Answer:
    """Sends one message. Never raises for what the network or the service does."""
    headers = {
        "Authorization": access.token(now),
        "Content-Type": "application/json",
        "BrokerProperties": json.dumps(properties),
    }
    url = f"{access.url}/messages"
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - http(s) alone
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=REQUEST_SECONDS) as response:
            response.read(_ANSWER_BYTES_MAX)
            return Answer(accepted=True)
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(error)
    except (OSError, http.client.HTTPException) as error:
        return Answer(accepted=False, text=_in_words(error))


def _refusal(error: urllib.error.HTTPError) -> Answer:
    try:
        said = error.read(_ANSWER_BYTES_MAX).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        said = ""
    detail = re.search("<Detail>(.*?)</Detail>", said, re.DOTALL)
    text = f"{error.code} {' '.join((detail.group(1) if detail else said or error.reason).split())}"[:300]
    passing = error.code in (408, 429) or error.code >= 500
    return Answer(
        accepted=False,
        final=not passing,
        too_large=error.code in (403, 413),
        wait_seconds=_wait(error.headers.get("Retry-After")),
        text=text,
    )


def _wait(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch("[0-9]{1,5}", text) else None


def _in_words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "install ca-certificates, or set SSL_CERT_FILE"
        return f"its certificate is not trusted ({reason.verify_message}); {remedy}"
    return str(reason) or type(error).__name__
