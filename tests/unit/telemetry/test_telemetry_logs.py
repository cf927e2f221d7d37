"""Log lines: JSON where nobody watches, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from dispatcher.telemetry import configure_logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_without_a_terminal_lines_are_json_with_level_and_time() -> None:
    stream = io.StringIO()
    configure_logs("info", "auto", stream)
    structlog.get_logger("x").info("batch.launched", items=3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["items"], line["level"]) == ("batch.launched", 3, "info")
    assert line["timestamp"].endswith("Z")


def test_for_people_lines_are_text() -> None:
    stream = io.StringIO()
    configure_logs("info", "console", stream)
    structlog.get_logger("x").info("batch.launched", items=3)
    assert "batch.launched" in stream.getvalue()
    assert "items=3" in stream.getvalue()


def test_what_is_below_the_level_is_not_logged_and_libraries_only_warn() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    structlog.get_logger("x").debug("too.much")
    logging.getLogger("azure.identity").info("chatter")
    logging.getLogger("azure.identity").warning("trouble")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["trouble"]


@pytest.mark.parametrize(("level", "told"), [("info", []), ("warning", []), ("debug", ["link lost", "trouble"])])
def test_what_the_queue_tells_in_its_own_events_the_sdk_tells_only_at_debug(level: str, told: list[str]) -> None:
    stream = io.StringIO()
    configure_logs(level, "json", stream)
    inside = logging.getLogger("azure.servicebus._pyamqp.aio._link_async")
    inside.info("chatter")
    inside.error("link lost")
    logging.getLogger("azure.servicebus").warning("trouble")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == told


@pytest.mark.parametrize("style", ["json", "console"])
def test_secrets_are_blacked_out_under_telling_names_and_inside_texts(style: str) -> None:
    stream = io.StringIO()
    configure_logs("info", style, stream)
    key = "Endpoint=sb://x/;SharedAccessKeyName=a;SharedAccessKey=geheim;"
    structlog.get_logger("x").info("started", connection_string=key, password="geheim", text=key)
    logging.getLogger("azure").warning("cannot connect with %s", key)
    assert "geheim" not in stream.getvalue()
    assert "SharedAccessKey=***" in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_values_of_variables_and_no_secrets(style: str) -> None:
    stream = io.StringIO()
    configure_logs("info", style, stream)
    hidden = "only-in-a-variable"
    try:
        int(f"SharedAccessKey=geheim;{len(hidden)}")
    except ValueError:
        structlog.get_logger("x").exception("cycle.broke_off")
        logging.getLogger("azure").exception("failed")
    assert stream.getvalue().count("Traceback") == 2
    assert "only-in" not in stream.getvalue().replace('hidden = "only-in-a-variable"', "")
    assert "geheim" not in stream.getvalue()


def test_an_error_keeps_its_traceback_in_both_forms() -> None:
    for style in ("json", "console"):
        stream = io.StringIO()
        configure_logs("info", style, stream)
        try:
            int("no number")
        except ValueError:
            structlog.get_logger("x").exception("cycle.broke_off")
        assert "no number" in stream.getvalue()
