"""Which message ids count as known, and what a copy of an unfinished message is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dispatcher.embedded.broker import BrokerError, QueueConfig
from dispatcher.embedded.broker.duplicates import DuplicateWindow
from dispatcher.embedded.broker.messages import message_id_of, reply, split

WINDOW = 1000


def accepted(*message_ids: bytes, at: int = 0) -> DuplicateWindow:
    window = DuplicateWindow(WINDOW)
    for sequence, message_id in enumerate(message_ids, 1):
        window.begin(message_id, sequence)
        window.end(message_id, at, None)
    return window


def test_an_id_is_known_for_as_long_as_the_window_and_not_longer() -> None:
    window = accepted(b"a")
    assert window.find(b"a", WINDOW - 1) == 1
    assert window.find(b"a", WINDOW) is None
    assert window.find(b"b", 0) is None


def test_an_id_whose_window_is_over_is_forgotten_once() -> None:
    window = accepted(b"a", b"b")
    assert window.forget(WINDOW - 1) == []
    assert window.forget(WINDOW) == [b"a", b"b"]
    assert window.forget(WINDOW) == []
    assert len(window) == 0


def test_an_id_that_came_again_after_its_window_begins_a_new_one() -> None:
    window = accepted(b"a")
    window.restore(b"a", 7, WINDOW)
    assert window.forget(WINDOW) == []
    assert window.find(b"a", WINDOW) == 7
    assert window.forget(2 * WINDOW) == [b"a"]


@pytest.mark.parametrize("error", [None, OSError("disk full")])
def test_a_copy_of_an_unfinished_message_is_told_what_became_of_it(error: OSError | None) -> None:
    window = DuplicateWindow(WINDOW)
    told: list[BaseException | None] = []
    window.begin(b"a", 1)
    assert window.find(b"a", 0) == 1
    assert window.join(b"a", told.append)
    assert told == []
    window.end(b"a", 0, error)
    assert told == [error]
    assert window.find(b"a", 0) == (1 if error is None else None)


def test_nobody_waits_for_a_message_that_is_finished() -> None:
    assert not accepted(b"a").join(b"a", lambda error: None)


def test_the_id_of_a_message_is_what_its_sender_encoded() -> None:
    assert message_id_of(split(reply("text", {}))) is None  # that is the correlation id
    with_id = split(b"\x00\x53\x73\xc0\x05\x01\xa1\x02id\x00\x53\x75\xa0\x01x")
    assert message_id_of(with_id) == b"\xa1\x02id"
    assert message_id_of(split(b"\x00\x53\x73\x45\x00\x53\x75\xa0\x01x")) is None
    assert message_id_of(split(b"\x00\x53\x75\xa0\x01x")) is None


@pytest.mark.parametrize("seconds", [0, -1, 7 * 86_400 + 1])
def test_a_window_that_cannot_be_is_refused(seconds: int) -> None:
    with pytest.raises(BrokerError, match="duplicate_detection_window"):
        QueueConfig("jobs", duplicate_detection_window=timedelta(seconds=seconds))
