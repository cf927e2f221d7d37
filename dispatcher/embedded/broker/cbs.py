"""Who may use which entity: the tokens a client puts on the $cbs node.

A token is a shared access signature: an audience and an expiry, signed with one of the configured keys. It
opens the entity it names and everything below it, on this connection, until it expires. Keys, tokens and
signatures are never logged and never part of an error.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote_plus

from .addresses import authority_of, path_of
from .messages import Request
from .types import Int

_PREFIX = "SharedAccessSignature "


class TokenRefusedError(Exception):
    """The token opens nothing; the message says why without quoting it."""


def check_token(token: str, name: str, keys: Mapping[str, str], now_ms: int) -> int:
    """When a token that opens `name` expires, in ms since 1970. Raises TokenRefusedError."""
    if not token.startswith(_PREFIX):
        raise TokenRefusedError("the token is not a SharedAccessSignature")
    fields = {key: values[0] for key, values in parse_qs(token.removeprefix(_PREFIX)).items()}
    try:
        audience, signature, expiry = fields["sr"], fields["sig"], int(fields["se"])
        presented = base64.b64decode(signature, validate=True)
    except (KeyError, ValueError, binascii.Error) as error:
        raise TokenRefusedError("the token lacks one of sr, sig, se, or one of them is malformed") from error
    # A name that is not configured is checked against a key nobody has, so both take the same time.
    key = keys.get(fields.get("skn", ""))
    signed = f"{quote_plus(audience)}\n{expiry}".encode()
    expected = hmac.new((key or "no such key").encode(), signed, sha256).digest()
    if not hmac.compare_digest(expected, presented) or key is None:
        raise TokenRefusedError("the signature does not match the key of that name")
    if expiry * 1000 <= now_ms:
        raise TokenRefusedError("the token has expired")
    if not _covers(audience, name):
        raise TokenRefusedError("the token was made for another entity")
    return expiry * 1000


def _covers(audience: str, name: str) -> bool:
    return authority_of(audience) == authority_of(name) and _is_below(path_of(name), path_of(audience))


def _is_below(path: str, root: str) -> bool:
    return not root or path == root or path.startswith(root + "/")


class Authorizations:
    """What one connection has shown tokens for."""

    __slots__ = ("_expiries", "_keys", "_now_ms")

    def __init__(self, keys: Mapping[str, str], now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._now_ms = now_ms
        self._expiries: dict[str, int] = {}

    def allows(self, path: str) -> bool:
        """Whether a token that is still valid covers this entity path."""
        now_ms = self._now_ms()
        return any(expiry > now_ms and _is_below(path, root) for root, expiry in self._expiries.items())

    def next_expiry_ms(self) -> int | None:
        """When the next token that is still valid ends, in ms since 1970."""
        now_ms = self._now_ms()
        return min((expiry for expiry in self._expiries.values() if expiry > now_ms), default=None)

    def handle(self, request: Request) -> dict[str, Any]:
        """Carries out a put-token request; answers the application properties of the reply."""
        name = request.properties.get("name")
        if request.properties.get("operation") != "put-token" or not isinstance(name, str):
            return _reply(400, "only put-token with a name is supported")
        # The SDK says "jwt" even of a shared access signature, so the token itself has to tell what it is.
        token = request.body.decode("ascii", "replace") if isinstance(request.body, bytes) else request.body
        if not isinstance(token, str):
            return _reply(400, "the token must be text")
        try:
            self._expiries[path_of(name)] = check_token(token, name, self._keys, self._now_ms())
        except TokenRefusedError as error:
            return _reply(401, str(error))
        return _reply(202, "Accepted")


def _reply(status: int, description: str) -> dict[str, Any]:
    return {"status-code": Int(status), "status-description": description}
