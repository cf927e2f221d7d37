"""Which trace an item belongs to: the sender's span, as W3C Trace Context writes it, so that logs and pods can go on.

Decides what counts as a trace context. One that is not valid is none: a message is never refused for it. Knows nothing
of where it stood in a message, and makes no spans.

The grammar is that of the W3C recommendation "Trace Context", level 1: https://www.w3.org/TR/trace-context-1/
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TRACESTATE_LENGTH_MAX = 512
"""What the recommendation asks everybody to pass on; a longer one is left out."""
_MEMBERS_MAX = 32
_PARENT = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
_PARENT_LENGTH = 55
_PARENT_LENGTH_MAX = 256
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The span that asked for the work. Both texts are valid; make one with :func:`read_trace`."""

    traceparent: str
    """Version 00: trace id, span id and flags."""
    tracestate: str | None = None
    """What tracing systems want to be passed on; None where there is nothing."""

    @property
    def trace_id(self) -> str:
        """32 hex digits: what people search logs and traces by."""
        return self.traceparent[3:35]


def read_trace(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """The trace context of these two texts; None where the first is not valid, whatever it is.

    A traceparent of a later version is carried as version 00, as the recommendation wants it. A tracestate that is not
    valid, or longer than 512 characters, is left out.
    """
    if not isinstance(traceparent, str) or not _PARENT_LENGTH <= len(traceparent) <= _PARENT_LENGTH_MAX:
        return None
    match = _PARENT.match(traceparent)
    if match is None or match["version"] == "ff":
        return None
    rest = traceparent[_PARENT_LENGTH:]
    if rest and (match["version"] == "00" or not rest.startswith("-")):
        return None
    if set(match["trace"]) == {"0"} or set(match["span"]) == {"0"}:
        return None
    flags = match["flags"] if match["version"] == "00" else f"{int(match['flags'], 16) & 1:02x}"
    return TraceContext(f"00-{match['trace']}-{match['span']}-{flags}", _state(tracestate))


def _state(tracestate: object) -> str | None:
    if not isinstance(tracestate, str) or len(tracestate) > TRACESTATE_LENGTH_MAX:
        return None
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MEMBERS_MAX or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return None
    return ",".join(members) or None
