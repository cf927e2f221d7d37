"""Which tokens open what."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from azure.servicebus._pyamqp.utils import generate_sas_token

from dispatcher.embedded.broker.cbs import Authorizations, check_token
from dispatcher.embedded.broker.config import AccessPolicy, Right
from dispatcher.embedded.broker.messages import Request
from dispatcher.embedded.broker.tokens import TokenRefusedError

KEYS = {"name": AccessPolicy("name", "s3cret/+=")}
NAME = "sb://127.0.0.1:5672/jobs"
NOW = 1_000_000_000


def anything(_path: str) -> bool:
    return True


def token(audience: str = NAME, name: str = "name", key: str = "s3cret/+=", expiry: int = NOW + 60) -> str:
    made: str = generate_sas_token(audience, name, key, expiry)
    return made


def test_a_token_made_by_the_sdk_with_the_right_key_is_good_until_it_expires() -> None:
    assert check_token(token(), NAME, KEYS, NOW * 1000) == (KEYS["name"], (NOW + 60) * 1000)


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        (token(key="wrong"), "signature"),
        (token(name="other"), "signature"),
        (token(expiry=NOW), "expired"),
        (token(audience=NAME + "2"), "another entity"),
        (token(audience="sb://elsewhere/jobs"), "another entity"),
        (token().replace("se=10", "se=11"), "signature"),
        ("SharedAccessSignature sr=a&sig=%%%&se=1&skn=name", "malformed"),
        ("SharedAccessSignature sr=a&se=1", "lacks"),
        ("Bearer abc", "not a SharedAccessSignature"),
    ],
)
def test_any_other_token_is_refused_and_not_quoted(presented: str, reason: str) -> None:
    with pytest.raises(TokenRefusedError, match=reason) as refusal:
        check_token(presented, NAME, KEYS, NOW * 1000)
    assert "s3cret" not in str(refusal.value)
    assert presented not in str(refusal.value)


def put_token(authorizations: Authorizations, name: str, body: Any) -> dict[str, Any]:
    return authorizations.handle(Request(uuid4(), {"operation": "put-token", "name": name}, body))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("jobs", True), ("jobs/$deadletterqueue", True), ("jobs2", False), ("other", False), ("", False)],
)
def test_a_token_opens_its_entity_and_what_is_below_it(path: str, allowed: bool) -> None:
    authorizations = Authorizations(KEYS, lambda: NOW * 1000, anything)
    assert put_token(authorizations, NAME.upper().replace("SB:", "sb:"), token(NAME))["status-code"] == 202
    assert authorizations.allows(path) is allowed


def test_a_token_for_the_namespace_opens_every_entity() -> None:
    authorizations = Authorizations(KEYS, lambda: NOW * 1000, anything)
    assert put_token(authorizations, "sb://127.0.0.1:5672/", token("sb://127.0.0.1:5672/"))["status-code"] == 202
    assert authorizations.allows("anything")


def test_a_token_opens_nothing_after_its_expiry_unless_it_is_renewed() -> None:
    now = [NOW * 1000]
    authorizations = Authorizations(KEYS, lambda: now[0], anything)
    put_token(authorizations, NAME, token())
    assert authorizations.next_expiry_ms() == (NOW + 60) * 1000
    now[0] += 60_000
    assert not authorizations.allows("jobs")
    assert authorizations.next_expiry_ms() is None
    put_token(authorizations, NAME, token(expiry=NOW + 120))
    assert authorizations.allows("jobs")


@pytest.mark.parametrize("body", [None, 7, b"\xff", "SharedAccessSignature sr=x"])
def test_what_is_no_token_is_answered_not_raised(body: Any) -> None:
    assert put_token(Authorizations(KEYS, lambda: 0, anything), NAME, body)["status-code"] in (400, 401)


def test_a_wrong_key_gets_401() -> None:
    reply = put_token(Authorizations(KEYS, lambda: NOW * 1000, anything), NAME, token(key="wrong"))
    assert reply["status-code"] == 401


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        ({Right.SEND}, {Right.SEND}),
        ({Right.LISTEN}, {Right.LISTEN}),
        ({Right.SEND, Right.LISTEN}, {Right.SEND, Right.LISTEN}),
        ({Right.MANAGE}, set(Right)),
    ],
)
def test_a_token_gives_the_rights_of_its_key_and_no_others(rights: set[Right], allowed: set[Right]) -> None:
    policy = AccessPolicy("name", "s3cret/+=", frozenset(rights))
    authorizations = Authorizations({"name": policy}, lambda: NOW * 1000, anything)
    put_token(authorizations, NAME, token())
    assert {right for right in Right if authorizations.allows("jobs", right)} == allowed
    assert authorizations.allows("jobs")


@pytest.mark.parametrize(("queue", "status"), [("Jobs", 202), ("other", 401), ("job", 401)])
def test_a_key_of_one_queue_opens_no_other(queue: str, status: int) -> None:
    policy = AccessPolicy("name", "s3cret/+=", queue=queue)
    authorizations = Authorizations({"name": policy}, lambda: NOW * 1000, anything)
    assert put_token(authorizations, NAME, token())["status-code"] == status
    assert put_token(authorizations, "sb://127.0.0.1:5672/", token("sb://127.0.0.1:5672/"))["status-code"] == 401


def test_a_good_token_for_an_entity_that_is_not_there_is_told_so_and_a_bad_one_is_not() -> None:
    authorizations = Authorizations(KEYS, lambda: NOW * 1000, lambda path: path != "jobs")
    assert put_token(authorizations, NAME, token())["status-code"] == 404
    assert put_token(authorizations, NAME, token(key="wrong"))["status-code"] == 401
    assert not authorizations.allows("jobs")
