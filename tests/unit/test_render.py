"""How dead letters and the status read on a terminal, whatever another program has written into them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from dispatcher.render import (
    budgets_view,
    dead_letter_view,
    dead_letters_view,
    plan_view,
    reasons_view,
    status_line,
    status_view,
    top_ups_view,
)

LETTER = {
    "queue": "work", "sequence_number": 7, "message_id": "m-7", "task": "report", "tenant": "acme",
    "reason": "application_error", "description": "Gave up after 4 tries.\nCause: x", "age_seconds": 3723.5,
}  # fmt: skip


def shown(*letters: dict[str, Any], width: int = 300) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(dead_letters_view(letters))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_dead_letter_is_one_line_with_the_first_line_of_its_description() -> None:
    head, line = shown(LETTER)
    assert head.split("  ")[0] == "age"
    assert head.endswith("description")
    assert " ".join(line.split()) == "1h 2m m-7 7 report acme application_error Gave up after 4 tries."


def test_the_queue_is_named_where_there_are_several() -> None:
    head, first, second = shown(LETTER, {**LETTER, "queue": "other"})
    assert head.startswith("queue")
    assert (first.split()[0], second.split()[0]) == ("work", "other")


def test_a_letter_that_was_replayed_stands_under_the_id_of_its_sender_with_its_count() -> None:
    again = {**LETTER, "message_id": "replay-0f", "original_message_id": "order-17", "replays": 2}
    head, line = (line.split() for line in shown(again))
    assert ("order-17" in line, "replays" in head, "replay-0f" in line) == (True, True, False)
    assert "replays" not in shown(LETTER)[0]


def test_all_of_one_letter_is_shown_and_nothing_of_it_moves_the_cursor() -> None:
    letter = {
        **LETTER, "message_id": "replay-0f", "original_message_id": "order-17", "replays": 1,
        "refused_today": "bad_json", "description": "gave up\n\n[red]tail\x1b[2J", "body": '{"a":{"b":[1]}}',
        "properties": {"shop": "no\x1b[31mrth"},
        "replay_history": [{"reason": "evicted", "dead_letter": 3, "replayed_at": "2026-03-01T12:00:00Z"}],
    }  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=200).print(dead_letter_view(letter))
    text = out.getvalue()
    for part in ("order-17", "replay-0f", "again: bad_json", "[red]tail", "shop: no", "evicted", '  "a": {'):
        assert part in text, text
    assert "\x1b" not in text


def test_letters_are_counted_by_what_they_have_in_common_the_most_first() -> None:
    letters = [{**LETTER, "reason": "rare"}, *[{**LETTER, "reason": "often", "age_seconds": n} for n in (1, 7200)]]
    out = io.StringIO()
    Console(file=out, width=200).print(reasons_view(letters))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert [(line[0], "often" in line, line[-1]) for line in lines[1:]] == [
        ("2", True, "2h"),
        ("1", False, lines[2][-1]),
    ]


def test_what_is_not_known_is_a_dash() -> None:
    _, line = shown({**dict.fromkeys(LETTER), "sequence_number": 3})
    assert line.split() == ["-", "-", "3", "-", "-", "-", "-"]


def test_foreign_text_is_neither_markup_nor_control() -> None:
    _, line = shown({**LETTER, "reason": "[red]x[/red]\x1b[2J", "description": "[bold]\ta\x07b\u202e"})
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[2J" in line
    assert "[bold]\N{REPLACEMENT CHARACTER}a\N{REPLACEMENT CHARACTER}b" in line
    assert "\x1b" not in line


def test_on_a_narrow_terminal_the_description_is_cut_and_the_rest_stays_whole() -> None:
    number = "0b0f1c9e-91c1-4a39-8b9e-000000000001"
    lines = shown({**LETTER, "message_id": number, "description": "y" * 500}, width=120)
    assert len(lines) == 2
    assert number in lines[1]
    assert lines[1].endswith("y\N{HORIZONTAL ELLIPSIS}")


def test_an_id_longer_than_the_terminal_loses_no_character() -> None:
    number = "".join(chr(ord("a") + n % 26) for n in range(128))
    lines = shown({**LETTER, "message_id": number}, width=80)
    folded = "".join(line[7:].split("  ")[0] for line in lines[1:] if line[7:].strip())
    assert folded.removeprefix("id") == number
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("seconds", "age"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m 59s"), (86_400, "1d"), (93_600, "1d 2h")]
)
def test_an_age_has_its_two_largest_units(seconds: float, age: str) -> None:
    assert shown({**LETTER, "age_seconds": seconds})[1].startswith(f"{age}  ")


def status_shown(status: dict[str, Any]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(status_view(status, "http://x"))
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_the_status_says_what_senders_were_told_and_which_reply_queue_takes_none() -> None:
    def text(outcomes: dict[str, Any]) -> str:
        out = io.StringIO()
        Console(file=out, width=200).print(status_view({"outcomes": outcomes}, "http://127.0.0.1:1"))
        return out.getvalue()

    told = {"sent": 5, "owed": 2, "given_up": 1, "not_taken": {"answers": "there is no such queue"}}
    assert "outcomes: 5 sent, 2 waiting, 1 given up" in text(told)
    assert "answers takes none: there is no such queue" in text(told)
    assert "outcomes" not in text({"sent": 0, "owed": 0, "given_up": 0, "not_taken": {}})


def test_the_status_says_of_every_queue_how_it_is_and_what_is_wrong_before_all_else() -> None:
    why = "the key or token was not accepted; check [the] connection string"
    queues = {
        "work": {"alive": True, "held": 7, "refused": None, "notes": ["a lock lasts 30 s"]},
        "other": {"alive": True, "held": 0, "refused": why},
        "third": {"alive": False, "held": None, "refused": None},
    }
    status = {"queues": queues, "faults": [f"queue other: the broker refuses us ({why})"]}
    lines = status_shown(status)
    assert lines[1] == f"queue other: the broker refuses us ({why})"
    assert lines[2:6] == [
        "queue under lock state",
        "work 7 receives; a lock lasts 30 s",
        f"other 0 refused: {why}",
        "third - hangs",
    ]
    assert status_line(status).endswith(f"; queue other: the broker refuses us ({why})")
    assert "queue" not in " ".join(status_shown({}))


def test_budgets_show_what_is_left_and_where_it_is_going() -> None:
    rows = [
        {
            "budget": "daily", "owner": "*", "window": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"],
            "limit_usd": "25", "spent_usd": "26",
            "reserved_usd": "2", "burn_usd_per_hour": "1.5", "forecast_usd": "31", "empty_at": None,
            "over_limit": True, "overrun": True, "top_ups": [{}],
        },
        {"budget": "each", "owner": "acme"},
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(budgets_view(rows))
    text = console.export_text()
    words = ("$25.0000", "$1.5000", "$31.0000", "over its limit", "overrun", "1 added by hand")
    assert all(word in text for word in words)


def test_top_ups_show_who_and_why_and_none_is_said_so() -> None:
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(top_ups_view([]))
    row = {"budget": "daily", "owner": "*", "amount_usd": "2", "author": "Ann", "reason": "reports"}
    console.print(top_ups_view([row]))
    text = console.export_text()
    assert "nothing was added by hand" in text
    assert all(word in text for word in ("daily", "$2.0000", "Ann", "reports"))


def test_a_dry_run_says_what_starts_what_waits_and_what_it_comes_to() -> None:
    start = {
        "task": "report", "tenant": "acme", "placement": "virtual_node", "items": 5, "jobs": 1, "pods": 5,
        "cost_max_usd": "0.07", "cost_expected_usd": "0.01", "takes_seconds": 90.0, "learned": False,
    }  # fmt: skip
    plan = {
        "starts": [start],
        "holds": [{"task": "report", "tenant": "acme", "items": 2, "reason": "linger", "until": None}],
        "rejected": 0, "unknown": 3, "cost_max_usd": "0.07", "cost_expected_usd": "0.01", "until_done": "3m",
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(plan_view(plan))
    console.print(plan_view({**plan, "starts": [], "until_done": None}))
    text = console.export_text()
    words = (
        "virtual node",
        "1m 30s at most",
        "linger",
        "3 items are of tasks",
        "after about 3m",
        "nothing would start now",
    )
    assert all(word in text for word in (*words, "no end can be told", "Nothing was launched."))
