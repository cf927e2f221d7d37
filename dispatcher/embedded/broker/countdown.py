"""Several answers that become one."""

from __future__ import annotations

from collections.abc import Callable

from .errors import AmqpError


class Countdown:
    """Gives the first error, or None, when all the answers it was told to expect are in."""

    def __init__(self, done: Callable[[AmqpError | None], None]) -> None:
        self._done = done
        self._open = 1
        self._error: AmqpError | None = None

    def expect(self) -> None:
        """One more answer will come."""
        self._open += 1

    def tell(self, error: AmqpError | None) -> None:
        """An answer."""
        self._error = self._error or error
        self._open -= 1
        if not self._open:
            self._done(self._error)

    def begin(self) -> None:
        """No more answers will be expected."""
        self.tell(None)
