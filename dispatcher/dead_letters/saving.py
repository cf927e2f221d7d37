"""A dead letter as one line of JSON, with everything that was in it, and the file that such lines are saved to.

Decides the format: a line is enough to send the message again by hand. Knows nothing of why it is saved.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dispatcher.dead_letters.selecting import Letter
from dispatcher.errors import DispatcherError
from dispatcher.queue.dead_letters import DeadMessage
from dispatcher.queue.replays import DEAD_LETTER_PROPERTIES, history, original_enqueued_at

__all__ = ["FORMAT_VERSION", "CannotSave", "SaveFile", "whole"]

FORMAT_VERSION = 1


class CannotSave(DispatcherError):
    """The file could not be written: what was to be saved must stay where it is."""


def whole(letter: Letter, dead: DeadMessage, now: datetime) -> dict[str, Any]:
    """Everything that is known of it, as plain JSON. The body is text, or base64 where it is no UTF-8."""
    message = dead.message
    return {
        "format": "burst-dispatcher.dead-letter",
        "version": FORMAT_VERSION,
        **letter.to_json(now),
        "original_enqueued_at": original_enqueued_at(message),
        "replay_history": [each.to_json() for each in history(message.properties)],
        "refused_today": letter.refused,
        "content_type": message.content_type,
        "properties": {
            name: _plain(value) for name, value in message.properties.items() if name not in DEAD_LETTER_PROPERTIES
        },
        **_body(message.body),
    }


class SaveFile:
    """Lines are added at the end, and are on the disk when ``add`` returns. Readable by the owner alone.

    Raises CannotSave naming the file. An interrupted purge that is begun again may save a letter twice, never none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotSave(f"--save {self.path}: {error.strerror}; name a file that can be written") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Writes the lines, and waits until the disk has them."""
        assert self._descriptor is not None  # noqa: S101 - the file is open while the block lasts
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise CannotSave(f"--save {self.path}: {error.strerror}; what was not saved was not removed") from error


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
