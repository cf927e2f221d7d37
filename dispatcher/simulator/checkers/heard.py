"""Law 10. Pods that carry several items are heard: what they report is written before it is forgotten.

A ``done`` leaves the report queue only when the item is ruled, or settled. No ruling sends an item of theirs on, or
gives it up, before its pod has ended and a report of it had its time to arrive; and none while such a report waits on
the queue. And an item whose program never fails is not given up for the failures of its company.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from dispatcher.core.failures import FailureCause
from dispatcher.core.jobs import attempt_name
from dispatcher.core.records import Record, RulingKind, decode
from dispatcher.core.reports import ItemReport, ReportedOutcome, read_report
from dispatcher.ports import Message, StoredRecord
from dispatcher.simulator.checkers.law import Law
from dispatcher.simulator.faults import Fault
from dispatcher.simulator.queue import Fate
from dispatcher.simulator.store import RULINGS
from dispatcher.simulator.world import CLOCK_OFF_SECONDS, World

_CLOCKS_APART = timedelta(seconds=2 * CLOCK_OFF_SECONDS + 2)
"""The dispatcher's clock may step by twice what it may be off, and the world itself moves in steps."""


class ReportsAreHeard(Law):
    """Watches what leaves the report queue, and every ruling."""

    name = "law 10: reports"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        if any(task.reports for task in world.scenario.policy.tasks.values()):
            world.reports.on_removed.append(self._completed)
            world.store.on_record.append(self._changed)

    def _completed(self, message: Message) -> None:
        report = read_report(message.body)
        if report.outcome is not ReportedOutcome.DONE or report.sequence_number not in self.world.broker.messages:
            return
        found = [decode(stored.data, stored.annotations) for stored in self.world.store.records.values()]
        found = [record for record in found if record.batch == report.batch]
        rulings = [record.rulings.get(at) for record in found if (at := _position(record, report)) is not None]
        # A retry's record that a stalled leader created once more says nothing, where another has the last word.
        if None in rulings and not any(ruling is not None and not ruling.goes_on for ruling in rulings):
            raise self.broken(f"the report that message {report.sequence_number} is done was completed and not written")

    def _changed(self, before: StoredRecord, now: StoredRecord) -> None:
        if before.annotations[RULINGS] == now.annotations[RULINGS]:
            return
        record = decode(now.data, now.annotations)
        if not record.has_reports:
            return
        known: dict[str, Any] = json.loads(before.annotations[RULINGS])
        for position, ruling in record.rulings.items():
            refused = ruling.tries.cause is FailureCause.TEMPLATE
            if str(position) not in known and ruling.kind in (RulingKind.RETRY, RulingKind.DEAD) and not refused:
                self._was_it_heard_out(record, position)

    def _was_it_heard_out(self, record: Record, position: int) -> None:
        ended = self.world.cluster.index_ended.get((record.name, record.index_of(position)))
        if ended is None:
            return  # no pod of it ever was
        number, now = record.items[position].sequence_number, self.world.clock.now()
        until = ended + self.world.scenario.policy.report_grace - _CLOCKS_APART
        if now < until:
            raise self.broken(f"message {number} was ruled {(now - ended).total_seconds()} s after its pod had ended")
        for held in self.world.reports.messages.values():
            report = read_report(held.message.body)
            mine = attempt_name(report.batch, report.attempt) == record.name and report.sequence_number == number
            if mine and report.outcome is ReportedOutcome.DONE and held.message.enqueued_at < until:
                raise self.broken(f"message {number} was ruled while the report that it is done waited on its queue")

    def finish(self) -> None:
        """Nobody was given up for what another did."""
        for number, fates in self.world.broker.fates.items():
            if fates == [Fate.DEAD] and self.world.kinds[number] == "ok":
                reason = self.world.broker.letters[number].reason
                if reason == FailureCause.APPLICATION and not self._may_be_blamed():
                    raise self.broken(f"message {number} never fails and was given up for {reason}")

    def _may_be_blamed(self) -> bool:
        """Where reports are lost nobody can tell which item a pod was at when it came down."""
        return bool(self.world.occurred[f"fault {Fault.REPORT_LOST}"])


def _position(record: Record, report: ItemReport) -> int | None:
    numbers = [item.sequence_number for item in record.items]
    return numbers.index(report.sequence_number) if report.sequence_number in numbers else None
