"""What stands in for Microsoft Entra and for a certificate authority in tests: keys made for one run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dispatcher.embedded.broker import IdentityPolicy, Right, TlsFiles, TokenIssuer

ISSUER = "https://login.example/tenant/v2.0"
AUDIENCE = "https://servicebus.azure.net"
EVERYBODY = frozenset(Right)


class Issuer:
    """Signs tokens with a key of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key(self) -> str:
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()

    def trusted(self, object_id: str, rights: frozenset[Right] = EVERYBODY, queue: str | None = None) -> TokenIssuer:
        """The broker's side: this issuer, and one identity with so many rights."""
        return TokenIssuer(ISSUER, self.public_key, (IdentityPolicy(object_id, rights, queue),))

    def token(self, object_id: str, expiry: float, **changed: Any) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "oid": object_id, "exp": int(expiry), **changed}
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, self._key, algorithm="ES256")


class ShortTokens:
    """A credential, as azure-identity makes them, whose tokens live for some seconds."""

    def __init__(self, issuer: Issuer, object_id: str, seconds: float) -> None:
        self._issuer = issuer
        self._object_id = object_id
        self.seconds = seconds
        self.made = 0
        self.scopes: set[str] = set()
        self.is_closed = False

    async def get_token(self, *scopes: str, **_kwargs: Any) -> AccessToken:
        self.made += 1
        self.scopes |= set(scopes)
        expiry = int(time.time() + self.seconds)
        return AccessToken(self._issuer.token(self._object_id, expiry), expiry)

    async def close(self) -> None:
        self.is_closed = True

    async def __aenter__(self) -> ShortTokens:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def a_certificate(folder: Path) -> TlsFiles:
    """A certificate for localhost that signs itself."""
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", str(files.key), "-out", str(files.certificate),
        ],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return files
