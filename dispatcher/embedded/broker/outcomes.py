"""What a receiver said about a delivery, between the wire's words and the broker's.

A delivery state of AMQP becomes a settlement, and the state that confirms it to the receiver.
"""

from __future__ import annotations

from typing import Any

from . import performatives as p
from .entity import Settlement, Verdict
from .errors import DEAD_LETTER, CodecError
from .types import Described


def read_outcome(state: Any) -> tuple[Settlement | None, bytes]:
    """What the receiver decided, and the state that confirms it; (None, b"") if nothing is decided yet."""
    code = p.state_code(state)
    fields = state.value if isinstance(state, Described) else []
    if code == p.ACCEPTED:
        return Settlement(Verdict.COMPLETE), p.ACCEPTED_STATE
    if code == p.RELEASED:
        return Settlement(Verdict.RELEASE), p.RELEASED_STATE
    if code == p.MODIFIED:
        failed, elsewhere = ([*fields, None, None])[:2]
        echo = p.modified_state(bool(failed), bool(elsewhere))
        if elsewhere:
            return Settlement(Verdict.DEFER), echo
        return Settlement(Verdict.ABANDON if failed else Verdict.RELEASE), echo
    if code == p.REJECTED:
        return _dead_letter(fields), p.rejected_state(None)
    if code in (0, p.RECEIVED):
        return None, b""
    raise CodecError(f"unknown delivery state 0x{code:02x}")


def _dead_letter(fields: list[Any]) -> Settlement:
    """A rejection dead-letters; its reason is in the info of the error, or is the error itself."""
    error = fields[0].value if fields and isinstance(fields[0], Described) else []
    condition, description, info = ([*error, None, None, None])[:3]
    if isinstance(info, dict):
        return Settlement(Verdict.DEAD_LETTER, info.get("DeadLetterReason"), info.get("DeadLetterErrorDescription"))
    reason = str(condition) if condition and condition != DEAD_LETTER else None
    return Settlement(Verdict.DEAD_LETTER, reason, description)
