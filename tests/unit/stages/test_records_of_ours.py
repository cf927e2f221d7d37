"""A new record that stands already is taken for ours only where every word of it is as we wrote it.

Found by the API server's faults, seeds 0, 1, 6 and 9: a create whose first answer was lost found the record that it had
made, gave it up, and raised an alarm.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispatcher.core.records import Record, Ruling, RulingKind, to_annotations, to_data
from dispatcher.ports import Answer, RecordCreated, StoredRecord
from dispatcher.stages.records import is_ours
from tests.builders import MINUTE, NOW, a_record

WANTED = a_record(2)


def there(record: Record, **changes: object) -> RecordCreated:
    stored = StoredRecord(record.name, "uid", "1", to_data(record), to_annotations(record))
    return RecordCreated(Answer.DONE, replace(stored, **changes), already=True)  # type: ignore[arg-type]


def test_a_record_that_an_unanswered_try_has_made_is_ours() -> None:
    assert is_ours(there(WANTED), WANTED)


@pytest.mark.parametrize(
    "other",
    [
        there(replace(WANTED, epoch=WANTED.epoch + 1)),
        there(replace(WANTED, created_at=NOW + MINUTE)),
        there(replace(WANTED, rulings={0: Ruling(RulingKind.DONE)})),
        there(a_record(3)),
        there(WANTED, marked_for_deletion=True),
        RecordCreated(Answer.UNKNOWN),
    ],
    ids=["another leader's", "of another time", "ruled", "of other items", "marked for deletion", "not known"],
)
def test_any_other_is_not(other: RecordCreated) -> None:
    assert not is_ours(other, WANTED)


def test_one_that_was_just_created_is_ours_whatever_a_webhook_has_added() -> None:
    created = there(WANTED, annotations={**to_annotations(WANTED), "added": "by a webhook"})
    assert is_ours(replace(created, already=False), WANTED)
    assert not is_ours(created, WANTED)
