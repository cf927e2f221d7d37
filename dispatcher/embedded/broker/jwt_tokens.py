"""Tokens of identities: JSON Web Tokens, as Microsoft Entra issues them for Service Bus.

A token opens what its identity has rights for, until it expires. It counts if the configured issuer has signed it, for
the audience of Service Bus. Only signatures by a private key count: with a shared one who checks could issue as well.
Tokens are never logged and never part of an error.
"""

from __future__ import annotations

from typing import Any

import jwt

from .addresses import path_of
from .config import TokenIssuer
from .tokens import Grant, TokenRefusedError, is_below

_ALGORITHMS = ["RS256", "ES256"]


def is_jwt(token: str) -> bool:
    """Whether the text has the form of one: three parts with dots between."""
    return token.count(".") == 2 and " " not in token


def check_jwt(token: str, name: str, issuer: TokenIssuer | None, now_ms: int) -> Grant:
    """What a token that opens `name` is good for. Raises TokenRefusedError."""
    if issuer is None:
        raise TokenRefusedError("tokens of identities are not accepted here: no issuer is configured")
    claims = _claims_of(token, issuer)
    expiry_ms = int(claims["exp"]) * 1000
    if expiry_ms <= now_ms:
        raise TokenRefusedError("ExpiredToken: the token has expired")
    if int(claims.get("nbf", 0)) * 1000 > now_ms:
        raise TokenRefusedError("the token is not valid yet")
    audience = claims["aud"]
    if not isinstance(audience, str) or audience.rstrip("/").lower() != issuer.audience.rstrip("/").lower():
        raise TokenRefusedError("InvalidAudience: the token was made for another service")
    policy = next((each for each in issuer.identities if each.object_id == claims["oid"]), None)
    if policy is None or (policy.queue is not None and not is_below(path_of(name), policy.queue.lower())):
        raise TokenRefusedError("the identity has no role here")
    return Grant(policy, expiry_ms)


def _claims_of(token: str, issuer: TokenIssuer) -> dict[str, Any]:
    """What a token says, if the issuer says it. Time and audience are looked at by us: the library reads a clock."""
    options = {"require": ["exp", "aud", "oid", "iss"], "verify_exp": False, "verify_nbf": False, "verify_aud": False}
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            issuer.public_key,
            algorithms=_ALGORITHMS,
            issuer=issuer.issuer,
            options={**options, "verify_iat": False},  # type: ignore[arg-type]
        )
        return {**claims, "exp": int(claims["exp"]), "nbf": int(claims.get("nbf", 0))}
    except jwt.InvalidIssuerError as error:
        raise TokenRefusedError("the token comes from another issuer") from error
    except jwt.MissingRequiredClaimError as error:
        raise TokenRefusedError(f"the token does not say {error.claim}") from error
    except (jwt.InvalidTokenError, TypeError, ValueError) as error:
        raise TokenRefusedError(
            "InvalidSignature: the token is malformed, or its signature is not the issuer's"
        ) from error
