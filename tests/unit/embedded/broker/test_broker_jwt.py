"""Which tokens of identities open what."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any
from uuid import uuid4

import jwt
import pytest

from dispatcher.embedded.broker.cbs import Authorizations
from dispatcher.embedded.broker.config import BrokerConfig, IdentityPolicy, QueueConfig, Right, TokenIssuer
from dispatcher.embedded.broker.errors import BrokerError
from dispatcher.embedded.broker.jwt_tokens import check_jwt
from dispatcher.embedded.broker.messages import Request
from dispatcher.embedded.broker.tokens import TokenRefusedError
from tests.identities import AUDIENCE, ISSUER, Issuer

NAME = "sb://127.0.0.1:5672/jobs"
NOW = 1_000_000_000
ENTRA, SOMEBODY_ELSE = Issuer(), Issuer()
TRUSTED = ENTRA.trusted("me")


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def unsigned() -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "oid": "me", "exp": NOW + 60}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def signed_with_the_public_key() -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "oid": "me", "exp": NOW + 60}
    head = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}".encode()
    secret = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(secret.sign(head, TRUSTED.public_key.encode())).decode().rstrip("=")
    return f"{head.decode()}.{signature}"


@pytest.mark.parametrize("audience", [AUDIENCE, AUDIENCE + "/"])
def test_a_token_of_the_issuer_for_this_service_is_good_until_it_expires(audience: str) -> None:
    grant = check_jwt(ENTRA.token("me", NOW + 60, aud=audience), NAME, TRUSTED, NOW * 1000)
    assert grant == (TRUSTED.identities[0], (NOW + 60) * 1000)


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (SOMEBODY_ELSE.token("me", NOW + 60), "signature"),
        (ENTRA.token("me", NOW + 60)[:-4] + "AAAA", "signature"),
        (unsigned(), "signature"),
        (signed_with_the_public_key(), "signature"),
        ("a.b.c", "malformed"),
        (ENTRA.token("me", NOW), "expired"),
        (ENTRA.token("me", NOW + 60, nbf=NOW + 30), "not valid yet"),
        (ENTRA.token("me", NOW + 60, aud="https://vault.azure.net"), "another service"),
        (ENTRA.token("me", NOW + 60, aud=[AUDIENCE]), "another service"),
        (ENTRA.token("me", NOW + 60, iss="https://elsewhere"), "another issuer"),
        (ENTRA.token("me", NOW + 60, oid=None), "does not say oid"),
        (ENTRA.token("me", NOW + 60, exp=None), "does not say exp"),
        (ENTRA.token("you", NOW + 60), "no role"),
    ],
)
def test_any_other_token_is_refused_and_not_quoted(presented: str, reason: str) -> None:
    with pytest.raises(TokenRefusedError, match=reason) as refused:
        check_jwt(presented, NAME, TRUSTED, NOW * 1000)
    assert presented not in str(refused.value)


@pytest.mark.parametrize(("queue", "status"), [("Jobs", 202), ("other", 401), (None, 202)])
@pytest.mark.parametrize("rights", [{Right.LISTEN}, {Right.SEND}, {Right.MANAGE}])
def test_an_identity_may_do_what_its_role_says_where_its_role_says(
    queue: str | None, status: int, rights: set[Right]
) -> None:
    shown: Counter[str] = Counter()
    issuer = ENTRA.trusted("me", frozenset(rights), queue)
    authorizations = Authorizations({}, lambda: NOW * 1000, lambda _: True, issuer, shown)
    request = Request(
        uuid4(), {"operation": "put-token", "type": "jwt", "name": NAME}, ENTRA.token("me", NOW + 60).encode()
    )
    assert authorizations.handle(request)["status-code"] == status
    allowed = (set(Right) if Right.MANAGE in rights else rights) if status == 202 else set()
    assert {right for right in Right if authorizations.allows("jobs", right)} == allowed
    assert shown == ({"accepted": 1} if status == 202 else {"refused": 1})


def test_where_no_issuer_is_configured_only_keys_count() -> None:
    with pytest.raises(TokenRefusedError, match="no issuer"):
        check_jwt(ENTRA.token("me", NOW + 60), NAME, None, NOW * 1000)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (lambda: IdentityPolicy(""), "must not be empty"),
        (lambda: IdentityPolicy("me", queue="nowhere"), "its queue"),
    ],
)
def test_identities_that_make_no_sense_are_refused(identity: Any, reason: str) -> None:
    with pytest.raises(BrokerError, match=reason):
        BrokerConfig(queues=(QueueConfig("jobs"),), token_issuer=TokenIssuer(ISSUER, "pem", (identity(),)))
