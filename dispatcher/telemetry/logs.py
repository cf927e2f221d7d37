"""How log lines look: for people on a terminal, JSON lines everywhere else. Both say an event and its facts.

Decides format, level and what is blacked out. Log lines go to stderr: stdout belongs to data.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

_SECRET_KEY = re.compile(r"connection_string$|password|secret|shared_access|token_value|authorization", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"(SharedAccessKey|SharedAccessSignature|sig)=[^;&\s\"']+", re.IGNORECASE)
_BLACK = "***"
_NOISY = ("azure", "aiohttp.access", "asyncio")
"""Libraries whose routine chatter is of no use to operators; their warnings are."""
_TOLD_OTHERWISE = ("azure.servicebus",)
"""Libraries that log, with a traceback, what they raise as well: every lost connection some times over. The queue's own
events say it once, and what was done about it; who wants to read it all the same asks for debug."""
_NEVER = logging.CRITICAL + 1


def configure_logs(level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging alike. ``style``: auto, console or json."""
    target: TextIO = stream or cast(TextIO, _Stderr())
    for_people = style == "console" or (style == "auto" and target.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # As text and without the values of variables: those may be secrets, and they would bury the line that matters.
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if for_people
        else structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in _TOLD_OTHERWISE:
        logging.getLogger(name).setLevel(logging.WARNING if number <= logging.DEBUG else _NEVER)


class _Stderr(io.TextIOBase):
    """Whatever stderr is at the time of a line: who runs the dispatcher may put another in its place."""

    def write(self, text: str) -> int:
        """Writes to the present stderr."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flushes the present stderr."""
        sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether somebody is watching."""
        return sys.stderr.isatty()


def without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blacks out values under telling names, and keys inside any text."""
    for key, value in event.items():
        if _SECRET_KEY.search(key) and value:
            event[key] = _BLACK
        elif isinstance(value, str):
            event[key] = _SECRET_TEXT.sub(rf"\1={_BLACK}", value)
    return event
