"""What a token is worth, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

from .config import AccessPolicy, IdentityPolicy


class TokenRefusedError(Exception):
    """The token opens nothing; the message says why without quoting it."""


class Grant(NamedTuple):
    """What a token opens its entity for, and until when (ms since 1970)."""

    policy: AccessPolicy | IdentityPolicy
    expiry_ms: int


def is_below(path: str, root: str) -> bool:
    """Whether an entity's path is the root or lies under it; all lies under the empty one."""
    return not root or path == root or path.startswith(root + "/")
