"""The worlds that the Reports contract is held against: those of the work queue, whose port completes as well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Protocol

from queue_worlds import ServiceBusWorld, SimulatedWorld, User, served

from dispatcher.ports import DeadLetter, Reports
from dispatcher.queue.reports import ServiceBusReports
from dispatcher.simulator.queue import ReportsPort


class ReportWorld(Protocol):
    """A queue of reports, locked for ``lock_duration``."""

    lock_duration: timedelta

    async def let_pass(self, span: timedelta) -> None:
        """Lets time pass."""
        ...

    async def user(self) -> User:
        """Another user of the queue; its port is a Reports."""
        ...

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Puts messages of (id, body) on the queue."""
        ...

    async def dead_letters(self) -> list[tuple[str, DeadLetter]]:
        """What was put aside: message id and what it carries."""
        ...


class ServiceBusReportWorld(ServiceBusWorld):
    """The real SDK against the embedded broker."""

    kind = ServiceBusReports


class SimulatedReportWorld(SimulatedWorld):
    """The simulator's queue."""

    kind = ReportsPort


def port_of(user: User) -> Reports:
    """What that user acts through."""
    port = user.queue
    assert isinstance(port, ServiceBusReports | ReportsPort)
    return port


@asynccontextmanager
async def service_bus(lock_duration: timedelta) -> AsyncIterator[ReportWorld]:
    async with served(ServiceBusReportWorld, lock_duration) as world:
        yield world


@asynccontextmanager
async def simulated(lock_duration: timedelta) -> AsyncIterator[ReportWorld]:
    yield SimulatedReportWorld(lock_duration)


WORLDS: dict[str, Callable[[timedelta], AbstractAsyncContextManager[ReportWorld]]] = {
    "service_bus": service_bus,
    "simulated": simulated,
}
