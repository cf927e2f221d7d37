"""What the service answers to questions about itself, and how it takes orders: explanations, budgets, top-ups.

Turns a query into a question to the reconciler, and its answer, or the reason why there is none, into JSON. An order is
answered once it stands in the ledger, or within a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from dispatcher.core.budgets import Spender
from dispatcher.core.history import History
from dispatcher.core.policy import Policy
from dispatcher.core.showback import Showback, elsewhere, elsewhere_json, row_json
from dispatcher.core.units import Money
from dispatcher.explaining import Subject
from dispatcher.ports import Answer
from dispatcher.reconciler import Ordered, Reconciler, TopUpOrder
from dispatcher.settings import Settings, examine
from dispatcher.settings.loading import DISPATCHER_FILE, TASKS_FILE
from dispatcher.web import Answered

STANDBY = "this replica does not lead: ask the one that does (`dispatcher status` says which leads)"
STANDBY_STATUS = 503
ORDER_SECONDS_MAX: Final = 8.0
"""Below the patience of whoever asks."""
ASK_AGAIN = "it may have been booked: ask again under the same id"
USD_MAX = 10**9
_NO_BROKER = {"BURST_SERVICE_BUS__NAMESPACE": "dry-run.invalid"}
"""No plan reaches a broker: one need not be named."""


class Answers:
    """Questions to a running service."""

    def __init__(self, reconciler: Reconciler, history: History, showback: Showback, ring: Callable[[], None]) -> None:
        """``ring`` wakes the cycle that carries orders out."""
        self._reconciler = reconciler
        self._history = history
        self._showback = showback
        self._ring = ring

    def explain(self, query: Mapping[str, str]) -> Answered:
        """``name``, and ``kind`` where it is said: item, batch or tenant."""
        name, kind = query.get("name", "").strip(), query.get("kind")
        if not name:
            return wrong("name: is missing; ask for example ?name=order-17")
        if kind is not None and kind not in set(Subject):
            return wrong(f"kind: {kind!r} is not one of {', '.join(Subject)}")
        found = self._reconciler.explain(name, Subject(kind) if kind else None, self._history)
        if found is None:
            return Answered({"error": STANDBY}, STANDBY_STATUS)
        return Answered(found.to_json(), 200 if found.found else 404)

    def budgets(self, _query: Mapping[str, str]) -> Answered:
        """Every account."""
        rows = self._reconciler.budgets()
        return Answered({"error": STANDBY}, STANDBY_STATUS) if rows is None else Answered({"budgets": rows})

    def report(self, _query: Mapping[str, str]) -> Answered:
        """What was closed, as fine as it is known, with its price elsewhere; and where budgets are going."""
        policy = self._reconciler.policy
        rows = [{**row_json(row), **elsewhere_json(elsewhere([row], policy))} for row in self._showback.rows()]
        return Answered({"rows": rows, "budgets": self._reconciler.budgets() or []})

    async def plan(self, body: Mapping[str, Any]) -> Answered:
        """A dry run, under the present policy or under that of both files, given as texts by their names."""
        policy: Policy | None = None
        if body:
            files = {name: body.get(name) for name in (DISPATCHER_FILE, TASKS_FILE)}
            if not all(isinstance(text, str) for text in files.values()):
                return wrong(f"send both {DISPATCHER_FILE} and {TASKS_FILE} as texts, or neither")
            settings, mistakes = await asyncio.to_thread(self._read, files)
            if settings is None:
                return wrong("; ".join(mistakes))
            policy = settings.policy()
        found = self._reconciler.rehearse(policy)
        return Answered({"error": STANDBY}, STANDBY_STATUS) if found is None else Answered(found.to_json())

    def _read(self, files: Mapping[str, Any]) -> tuple[Settings | None, list[str]]:
        with TemporaryDirectory(prefix="dispatcher-plan-") as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(str(text), encoding="utf-8")
            # As in a cluster: whether a program is there on this machine is no matter of a plan.
            examined = examine(Path(folder), local=False, environ={**_NO_BROKER}, secrets_dir=None)
        return examined.settings, [str(mistake) for mistake in examined.mistakes]

    async def top_up(self, body: Mapping[str, Any]) -> Answered:
        """``id, budget, usd, author, reason`` and, where the budget tells them apart, ``tenant`` and ``task``."""
        texts = {key: body.get(key) for key in ("id", "budget", "author", "reason", "tenant", "task")}
        for key, value in texts.items():
            if value is not None and not isinstance(value, str):
                return wrong(f"{key}: must be text")
        given = {key: str(value or "") for key, value in texts.items()}
        try:
            usd = Decimal(str(body.get("usd")))
        except InvalidOperation:
            usd = Decimal("nan")
        if not usd.is_finite() or abs(usd) > USD_MAX:
            return wrong(f"usd: is no amount of dollars; write for example 25.00, at most {USD_MAX}")
        told: asyncio.Future[Ordered] = asyncio.get_running_loop().create_future()

        def tell(answer: Ordered) -> None:
            if not told.done():
                told.set_result(answer)

        owner = Spender(given["tenant"], given["task"]) if given["tenant"] or given["task"] else None
        of = (given["id"], given["budget"], Money.from_usd(usd), given["author"], given["reason"])
        self._reconciler.order(TopUpOrder(*of, tell, owner))
        self._ring()
        try:
            async with asyncio.timeout(ORDER_SECONDS_MAX):
                answer = await told
        except TimeoutError:
            return Answered({"error": f"not answered within {ORDER_SECONDS_MAX:g} s; {ASK_AGAIN}"}, 504)
        if answer.answer is Answer.DONE:
            return Answered({"text": answer.text, **(answer.facts or {})})
        return Answered({"error": answer.text}, 400 if answer.answer is Answer.REFUSED else 504)


def wrong(sentence: str) -> Answered:
    """A question that cannot be answered as it was put."""
    return Answered({"error": sentence}, 400)
