"""What counts as a trace context, and that whatever does not is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.core.trace import TRACESTATE_LENGTH_MAX, TraceContext, read_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
"""The example of the W3C recommendation."""


def test_a_valid_trace_context_is_carried_as_it_is() -> None:
    trace = read_trace(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert trace == TraceContext(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert trace.trace_id == TRACE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|a000b42f.1",
        PARENT.upper(),
        PARENT + "-",
        PARENT + "\n",
        " " + PARENT,
        PARENT[:-1],
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01x",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 300,
        None,
        3,
        PARENT.encode(),
    ],
)
def test_what_is_no_traceparent_is_no_trace(text: object) -> None:
    assert read_trace(text, "a=1") is None


@pytest.mark.parametrize("rest", ["", "-what-the-future-will-be-like"])
def test_a_later_version_is_carried_as_the_one_that_is_known(rest: str) -> None:
    assert read_trace(f"cc-{TRACE}-{SPAN}-03{rest}") == TraceContext(PARENT)


@pytest.mark.parametrize(
    ("text", "carried"),
    [
        (None, None),
        ("", None),
        (" , ,", None),
        ("a=1,\tb=2 ,", "a=1,b=2"),
        ("tenant@system=x y", "tenant@system=x y"),
        ("a=1,a=2", None),
        ("A=1", None),
        ("a", None),
        ("a=", None),
        ("a=1=2", None),
        ("a=\x00", None),
        ("a=ä", None),
        (",".join(f"k{n}=1" for n in range(33)), None),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (f"a={'x' * 256},b={'x' * 251}", f"a={'x' * 256},b={'x' * 251}"),
        (f"a={'x' * 256},b={'x' * 252}", None),
        (7, None),
    ],
)
def test_a_tracestate_is_carried_only_if_it_is_valid_and_not_too_long(text: object, carried: str | None) -> None:
    assert read_trace(PARENT, text) == TraceContext(PARENT, carried)


ANY = st.text() | st.none() | st.integers() | st.binary()
HEX = st.text("0123456789abcdefABCDEFg", min_size=1, max_size=33)


@given(ANY | st.tuples(HEX, HEX, HEX, HEX).map("-".join) | st.just(PARENT), ANY | st.from_regex(r"[a-z@=,]{0,600}"))
def test_whatever_comes_is_carried_in_bounds_and_reads_the_same_again_or_not_at_all(
    parent: object, state: object
) -> None:
    trace = read_trace(parent, state)
    if trace is not None:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace.traceparent)
        assert read_trace(trace.traceparent, trace.tracestate) == trace
        assert trace.tracestate is None or 0 < len(trace.tracestate) <= TRACESTATE_LENGTH_MAX
