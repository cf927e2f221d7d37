"""Who may use which entity: the tokens a client puts on the $cbs node.

A token is a shared access signature, an audience and an expiry signed with one of the configured keys, or a token of
an identity (`jwt_tokens`). It opens the entity it names and everything below it, on this connection, until it expires,
for what the key or the identity has the right to. Keys, tokens and signatures are never logged and never part of an
error.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, quote_plus

from .addresses import authority_of, path_of
from .config import AccessPolicy, Right, TokenIssuer
from .jwt_tokens import check_jwt, is_jwt
from .messages import Request
from .tokens import Grant, TokenRefusedError, is_below
from .types import Int

_PREFIX = "SharedAccessSignature "


def check_token(token: str, name: str, policies: Mapping[str, AccessPolicy], now_ms: int) -> Grant:
    """What a token that opens `name` is good for. Raises TokenRefusedError."""
    if not token.startswith(_PREFIX):
        raise TokenRefusedError("the token is not a SharedAccessSignature")
    fields = {key: values[0] for key, values in parse_qs(token.removeprefix(_PREFIX)).items()}
    try:
        audience, signature, expiry = fields["sr"], fields["sig"], int(fields["se"])
        presented = base64.b64decode(signature, validate=True)
    except (KeyError, ValueError, binascii.Error) as error:
        raise TokenRefusedError("the token lacks one of sr, sig, se, or one of them is malformed") from error
    # A name that is not configured is checked against a key nobody has, so both take the same time.
    policy = policies.get(fields.get("skn", ""))
    signed = f"{quote_plus(audience)}\n{expiry}".encode()
    expected = hmac.new((policy.key if policy else "no such key").encode(), signed, sha256).digest()
    if not hmac.compare_digest(expected, presented) or policy is None:
        raise TokenRefusedError("the signature does not match the key of that name")
    if expiry * 1000 <= now_ms:
        raise TokenRefusedError("the token has expired")
    if not _covers(audience, name):
        raise TokenRefusedError("the token was made for another entity")
    if policy.queue is not None and not is_below(path_of(name), policy.queue.lower()):
        raise TokenRefusedError("the key is for another entity")
    return Grant(policy, expiry * 1000)


def _covers(audience: str, name: str) -> bool:
    if "://" in name and "://" not in audience:  # as the REST reference writes it
        audience = f"sb://{audience}"
    return authority_of(audience) == authority_of(name) and is_below(path_of(name), path_of(audience))


class Authorizations:
    """What one connection has shown tokens for."""

    __slots__ = ("_exists", "_grants", "_issuer", "_now_ms", "_policies", "_shown")

    def __init__(
        self,
        policies: Mapping[str, AccessPolicy],
        now_ms: Callable[[], int],
        exists: Callable[[str], bool],
        issuer: TokenIssuer | None = None,
        shown: Counter[str] | None = None,
    ) -> None:
        self._policies = policies
        self._issuer = issuer
        self._shown: Counter[str] = Counter() if shown is None else shown
        self._exists = exists
        self._now_ms = now_ms
        self._grants: dict[str, Grant] = {}

    def allows(self, path: str, right: Right | None = None) -> bool:
        """Whether a token that is still valid covers this entity path, with that right or with any."""
        now_ms = self._now_ms()
        return any(
            grant.expiry_ms > now_ms and is_below(path, root) and (right is None or grant.policy.allows(right))
            for root, grant in self._grants.items()
        )

    def next_expiry_ms(self) -> int | None:
        """When the next token that is still valid ends, in ms since 1970."""
        now_ms = self._now_ms()
        return min((grant.expiry_ms for grant in self._grants.values() if grant.expiry_ms > now_ms), default=None)

    def handle(self, request: Request) -> dict[str, Any]:
        """Carries out a put-token request; answers the application properties of the reply."""
        name = request.properties.get("name")
        if request.properties.get("operation") != "put-token" or not isinstance(name, str):
            return answer_of(400, "only put-token with a name is supported")
        # The SDK says "jwt" even of a shared access signature, so the token itself has to tell what it is.
        token = request.body.decode("ascii", "replace") if isinstance(request.body, bytes) else request.body
        if not isinstance(token, str):
            return answer_of(400, "the token must be text")
        try:
            if is_jwt(token):
                grant = check_jwt(token, name, self._issuer, self._now_ms())
            else:
                grant = check_token(token, name, self._policies, self._now_ms())
        except TokenRefusedError as error:
            self._shown["refused"] += 1
            return answer_of(401, str(error))
        self._shown["accepted"] += 1
        path = path_of(name)
        if path and not self._exists(path):  # said only to those who would be let in
            return answer_of(404, f"The messaging entity '{name}' could not be found.")
        self._grants[path] = grant
        return answer_of(202, "Accepted")


def answer_of(status: int, description: str) -> dict[str, Any]:
    """The application properties of a reply."""
    return {"status-code": Int(status), "status-description": description}
