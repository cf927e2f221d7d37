"""Status and dead letters as tables and as single lines, for people.

Decides how they read. Knows nothing of where they came from; whatever is missing in them is shown as a dash.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dispatcher.core.words import span

_ATTEMPTS_SHOWN = 15
_HELD_SHOWN = 10
_ID_WHOLE_MAX = 40
"""A message id of up to so many characters stays on one line, so that it can be copied."""
_WORDS = {"node_pool": "node pool", "virtual_node": "virtual node"}


def status_view(status: Mapping[str, Any], url: str) -> RenderableType:
    """The whole status."""
    leading = "leads" if status.get("leading") else "does not lead"
    cycle = status.get("cycle") or {}
    head = Text(
        f"{url}  {leading}, {cycle.get('count', 0)} cycles, the last took {_seconds(cycle.get('seconds_last'))}"
    )
    parts: list[RenderableType] = [head, *map(_fault, status.get("faults") or [])]
    parts += [_queues(queues)] if (queues := status.get("queues") or {}) else []
    parts.append(_items(status.get("items") or {}))
    parts += _outcomes(status.get("outcomes") or {})
    parts += [_attempts(attempts)] if (attempts := status.get("attempts") or []) else []
    parts += [_held(held)] if (held := status.get("held") or []) else []
    parts += [_budgets(budgets)] if (budgets := status.get("budgets") or []) else []
    for leak in status.get("leaks") or []:
        does = "bills on" if leak.get("bills") else "is left"
        parts.append(
            _fault(f"container group {leak.get('group')} {does} without a pod: {_dollars(leak.get('cost_usd'))} so far")
        )
    subnet = status.get("subnet") or {}
    if subnet:
        parts.append(Text(f"subnet: {subnet.get('in_use', '-')} of {subnet.get('usable', '-')} addresses in use"))
    return Group(*parts)


def budgets_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Every account with what is left of it and where it is going."""
    table = _table("budget", "of", "window until", "limit", "spent", "set aside", "now/h", "forecast", "empty at", "")
    for row in rows:
        remarks = [
            *(["over its limit: nothing is started on it"] if row.get("over_limit") else []),
            *(["overrun: somebody must look"] if row.get("overrun") else []),
            *([f"{len(row['top_ups'])} added by hand"] if row.get("top_ups") else []),
        ]
        table.add_row(
            _foreign(row.get("budget")),
            _foreign(row.get("owner")),
            _moment((row.get("window") or [None, None])[1]),
            *(_dollars(row.get(key)) for key in ("limit_usd", "spent_usd", "reserved_usd", "burn_usd_per_hour")),
            _dollars(row.get("forecast_usd")),
            _moment(row.get("empty_at")),
            "; ".join(remarks),
        )
    return table


def top_ups_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What was added by hand."""
    if not rows:
        return Text("nothing was added by hand in the windows that the ledger still has")
    table = _table("at", "budget", "of", "added", "by", "why")
    for row in rows:
        names = (_foreign(row.get(key)) for key in ("budget", "owner"))
        words = (_foreign(row.get(key)) for key in ("author", "reason"))
        table.add_row(_moment(row.get("at")), *names, _dollars(row.get("amount_usd")), *words)
    return table


def report_view(report: Mapping[str, Any], columns: Sequence[str]) -> RenderableType:
    """What work has cost, and would have elsewhere."""
    named = [name for name in ("day", "tenant", "task", "placement") if name in columns]
    table = _table(*named, "items", "pods", "pod hours", "cost", "set aside")
    for row in report.get("rows") or []:
        cells = (_foreign(_WORDS.get(str(row.get(name)), row.get(name))) for name in named)
        hours = f"{row.get('pod_seconds', 0) / 3600:.2f}"
        money = (_dollars(row.get(key)) for key in ("cost_usd", "set_aside_usd"))
        table.add_row(*cells, str(row.get("items")), str(row.get("pods")), hours, *money)
    if not report.get("since"):
        return Text("nothing was closed in that time")
    total = f"{report['since']} to {report['until']}: {_dollars(report['cost_usd'])}"
    others = (
        f"the same pods, all on the virtual node: {_dollars(report['all_virtual_usd'])}; "
        f"all on nodes packed full, idle ones apart: {_dollars(report['all_nodes_usd'])}"
    )
    forecasts = [row for row in report.get("budgets") or [] if row.get("current")]
    return Group(table, Text(total), Text(others), *([budgets_view(forecasts)] if forecasts else []))


def plan_view(plan: Mapping[str, Any]) -> RenderableType:
    """What would start, what would wait and why, and what it comes to."""
    starts = _table(
        "task", "tenant", "where", "items", "jobs", "pods", "at most", "expected", "a pod takes", title="starts"
    )
    for row in plan.get("starts") or []:
        takes = f"{_age(row.get('takes_seconds'))}{'' if row.get('learned') else ' at most'}"
        starts.add_row(
            *(_foreign(row.get(key)) for key in ("task", "tenant")),
            _WORDS.get(str(row.get("placement")), "-"),
            *(str(row.get(key)) for key in ("items", "jobs", "pods")),
            *(_dollars(row.get(key)) for key in ("cost_max_usd", "cost_expected_usd")),
            takes,
        )
    parts: list[RenderableType] = [starts if plan.get("starts") else Text("nothing would start now")]
    parts += [_held(held)] if (held := plan.get("holds") or []) else []
    odd = [
        f"{plan.get(key)} items {words}"
        for key, words in (("rejected", "would be rejected"), ("unknown", "are of tasks that it does not have"))
        if plan.get(key)
    ]
    parts += map(Text, odd)
    set_aside, spent = (_dollars(plan.get(key)) for key in ("cost_max_usd", "cost_expected_usd"))
    rest = "something waits of which nothing starts now, so that no end can be told"
    if plan.get("until_done"):
        rest = f"nothing would wait after about {plan['until_done']}"
    cost = f"{set_aside} would be set aside, about {spent} spent"
    return Group(*parts, Text(f"{cost}; {rest}. Nothing was launched."))


def explanation_view(answer: Mapping[str, Any]) -> RenderableType:
    """An explanation: its headings, and under each its sentences."""
    parts: list[RenderableType] = [Text(_foreign(answer.get("title")).plain, style="bold")]
    for section in answer.get("sections") or []:
        parts.append(Text(f"\n{section.get('heading')}", style="bold"))
        for line in section.get("lines") or []:
            row = Table.grid(padding=(0, 1))
            row.add_column()
            row.add_column(overflow="fold")
            row.add_row(" -", _foreign(line))
            parts.append(row)
    return Group(*parts)


def status_line(status: Mapping[str, Any]) -> str:
    """The status in one line, for logs and for pipes."""
    items = status.get("items") or {}
    line = (
        f"done {items.get('done', 0)}, dead-lettered {dead_lettered(items)}, in flight {items.get('in_flight', 0)}, "
        f"backlog {items.get('backlog', 0)}"
    )
    line = f"{line}; {held}" if (held := held_summary(status)) else line
    return f"{line}; {faults[0]}" if (faults := status.get("faults") or []) else line


def held_summary(status: Mapping[str, Any]) -> str:
    """What is held and why, as a part of a sentence; empty where nothing is."""
    held: Counter[str] = Counter()
    for entry in status.get("held") or []:
        held[str(entry.get("reason", "-"))] += int(entry.get("items") or 0)
    return ", ".join(f"held {count} ({reason})" for reason, count in sorted(held.items()))


def dead_lettered(items: Mapping[str, Any]) -> int:
    """All items in the dead-letter queue: those that failed and those that were refused at the door."""
    return int(items.get("dead_lettered") or 0) + int(items.get("rejected") or 0)


def dead_letters_view(letters: Sequence[Mapping[str, Any]]) -> Table:
    """Dead letters, one on a line; the queue is named only where they come from several, replays where there are any.

    The id is the one that its sender gave it, under which all that is told of it can be found.
    """
    queue = ["queue"] if len({letter.get("queue") for letter in letters}) > 1 else []
    replays = ["replays"] if any(letter.get("replays") for letter in letters) else []
    table = _table(*queue, "age", "id", "sequence number", "task", "tenant", *replays, "reason")
    table.add_column("description", min_width=len("description"))
    named = [{**each, "message_id": each.get("original_message_id") or each.get("message_id")} for each in letters]
    ids = table.columns[len(queue) + 1]
    ids.no_wrap = max((len(str(letter.get("message_id"))) for letter in named), default=0) <= _ID_WHOLE_MAX
    for letter in named:
        first_line = str(letter.get("description") or "").strip().partition("\n")[0]
        known = (letter.get(key) for key in ("message_id", "sequence_number", "task", "tenant", *replays, "reason"))
        cells = (*(letter.get(key) for key in queue), _age(letter.get("age_seconds")), *known)
        description = _foreign(first_line)
        # It takes what room is left on the line; all else stays whole, if need be on several.
        description.no_wrap, description.overflow = True, "ellipsis"
        table.add_row(*(_foreign(cell) for cell in cells), description)
    return table


def reasons_view(letters: Sequence[Mapping[str, Any]]) -> Table:
    """Dead letters counted by reason and task, the most frequent first, with the age of the oldest."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for letter in letters:
        key = tuple(str(letter.get(name) or "-") for name in ("queue", "reason", "task", "tenant"))
        groups.setdefault(key, []).append(letter)
    table = _table("messages", "queue", "reason", "task", "tenant", "oldest")
    for key, group in sorted(groups.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        oldest = max((letter.get("age_seconds") or 0 for letter in group), default=0)
        table.add_row(str(len(group)), *(_foreign(part) for part in key), _age(oldest))
    return table


def dead_letter_view(letter: Mapping[str, Any]) -> RenderableType:
    """All that is known of one dead letter."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    names = ["queue", "sequence_number", "message_id", "task", "tenant", "reason", "enqueued_at", "delivery_count"]
    if letter.get("original_message_id") != letter.get("message_id"):
        names[3:3] = ["original_message_id", "original_enqueued_at"]
    for name in (*names, "replays", "content_type"):
        table.add_row(name.replace("_", " "), _foreign(letter.get(name)))
    table.add_row("age", _age(letter.get("age_seconds")))
    if letter.get("refused_today"):
        table.add_row("today", _foreign(f"would be dead-lettered again: {letter['refused_today']}"))
    parts: list[RenderableType] = [table, *_section("description", _foreign_lines(letter.get("description")))]
    properties = letter.get("properties") or {}
    parts += _section("properties", Text("\n").join(_foreign(f"{key}: {value}") for key, value in properties.items()))
    past = letter.get("replay_history") or []
    lines = [f"{each.get('replayed_at')}  dead letter {each.get('dead_letter')}: {each.get('reason')}" for each in past]
    parts += _section("replays", Text("\n").join(_foreign(line) for line in lines))
    parts += _section("body", _body(letter))
    return Group(*parts)


def _section(title: str, content: Text) -> list[RenderableType]:
    return [Text(f"\n{title}", style="bold"), content] if content.plain.strip() else []


def _body(letter: Mapping[str, Any]) -> Text:
    text = letter.get("body")
    if text is None:
        return Text(f"not UTF-8; as base64: {letter.get('body_base64', '')}")
    with suppress(ValueError, RecursionError):  # what is no JSON is shown as it was sent
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return _foreign_lines(text)


def _foreign_lines(value: Any) -> Text:
    """The same as ``_foreign`` for a text of many lines."""
    return Text("\n").join(_foreign(line) if line else Text("") for line in str(value or "").splitlines())


def _fault(text: object) -> Text:
    line = _foreign(text)
    line.stylize("bold red")
    return line


def _queues(queues: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("queue", "under lock", "state")
    for name, queue in queues.items():
        state = (
            f"refused: {queue['refused']}" if queue.get("refused") else "receives" if queue.get("alive") else "hangs"
        )
        table.add_row(*map(_foreign, (name, queue.get("held"), "; ".join([state, *(queue.get("notes") or [])]))))
    return table


def _items(items: Mapping[str, Any]) -> Table:
    table = _table("received", "backlog", "in flight", "done", "dead-lettered", "rejected", "retries")
    tried = (items.get("retried_item") or 0) + (items.get("retried_platform") or 0)
    keys = ("received", "backlog", "in_flight", "done", "dead_lettered", "rejected")
    table.add_row(*(str(items.get(key, "-")) for key in keys), str(tried))
    return table


def _outcomes(outcomes: Mapping[str, Any]) -> list[RenderableType]:
    """Where senders ask for them; and why a reply queue takes none."""
    told = {key: outcomes.get(key) or 0 for key in ("sent", "owed", "given_up")}
    if not any(told.values()):
        return []
    line = Text(f"outcomes: {told['sent']} sent, {told['owed']} waiting, {told['given_up']} given up")
    return [line, *(_fault(f"{name} takes none: {why}") for name, why in (outcomes.get("not_taken") or {}).items())]


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("job", "task", "tenant", "where", "state", "items", "done", title="attempts")
    for attempt in attempts[:_ATTEMPTS_SHOWN]:
        table.add_row(
            *(str(attempt.get(key, "-")) for key in ("job", "task", "tenant")),
            _WORDS.get(str(attempt.get("placement")), "-"),
            *(str(attempt.get(key, "-")) for key in ("state", "items", "done")),
        )
    if len(attempts) > _ATTEMPTS_SHOWN:
        table.caption = f"and {len(attempts) - _ATTEMPTS_SHOWN} more"
    return table


def _held(held: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("task", "tenant", "items", "held because of", "until", title="held")
    for entry in held[:_HELD_SHOWN]:
        table.add_row(
            *(str(entry.get(key, "-")) for key in ("task", "tenant", "items", "reason")), _moment(entry.get("until"))
        )
    if len(held) > _HELD_SHOWN:
        table.caption = f"and {len(held) - _HELD_SHOWN} more"
    return table


def _budgets(budgets: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("budget", "of", "window until", "limit", "spent", "reserved", title="budgets")
    for account in budgets:
        window = account.get("window") or [None, None]
        table.add_row(
            str(account.get("budget") or account.get("id", "-")),
            str(account.get("owner") or "-"),
            _moment(window[1]),
            *(_dollars(account.get(f"{kind}_usd")) for kind in ("limit", "spent", "reserved")),
        )
    return table


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _foreign(value: Any) -> Text:
    """Something that another program wrote: no markup, and nothing that would move the cursor or fool the eye."""
    text = "-" if value is None or value == "" else str(value)
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def _age(seconds: Any) -> str | None:
    """An age in its two largest units."""
    if seconds is None:
        return None
    return span(timedelta(seconds=int(seconds)))


def _seconds(value: Any) -> str:
    return "-" if value is None else f"{float(value):.3f} s"


def _dollars(value: Any) -> str:
    return "-" if value is None else f"${float(value):,.4f}"


def _moment(value: Any) -> str:
    if not value:
        return "-"
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    instant = instant.astimezone(UTC)
    return f"{instant:%H:%M:%S}" if instant.date() == datetime.now(UTC).date() else f"{instant:%Y-%m-%d %H:%M}"
