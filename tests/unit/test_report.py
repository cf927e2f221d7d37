"""Showback and the report: what is added up, how it is cut, and what the same work would have cost elsewhere."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dispatcher.cli import app
from dispatcher.core.policy import NodePoolPolicy
from dispatcher.core.pricing import NodePrice
from dispatcher.core.showback import (
    DAYS_KEPT,
    By,
    Elsewhere,
    Showback,
    elsewhere,
    elsewhere_json,
    elsewhere_of,
    row_json,
    row_of,
    summed,
    together,
    within,
)
from dispatcher.core.units import NO_MONEY, Money, Resources, to_text
from tests.builders import NOW, a_policy, a_task
from tests.unit.test_settings import A_TASK, a_folder

DAY = timedelta(days=1)
PRICE = NodePrice("D2", Money.from_usd("0.1"), Resources(1900, 8 * 10**9))
POLICY = replace(a_policy(), node_pool=NodePoolPolicy(price=PRICE))
RATE = Money.from_usd("0.0000146")


def closed(job: str, **changes: Any) -> dict[str, Any]:
    facts = {
        "job": job, "tenant": "acme", "task": "report", "placement": "virtual_node", "items": 5, "pods": 5,
        "pod_seconds": 300, "cost_usd": "0.005", "reserved_usd": "0.07",
    }  # fmt: skip
    return {**facts, **changes}


def a_showback() -> Showback:
    showback = Showback()
    showback("attempt.closed", NOW - DAY, closed("burst-a-1"))
    showback("attempt.closed", NOW, closed("burst-b-1", tenant="globex"))
    showback("attempt.closed", NOW, closed("burst-c-1", placement="node_pool", cost_usd="0", reserved_usd="0"))
    return showback


def test_an_attempt_counts_once_however_often_it_is_told() -> None:
    showback = a_showback()
    before = showback.rows()
    showback("attempt.closed", NOW, closed("burst-b-1", tenant="globex"))
    showback("batch.launched", NOW, closed("burst-z-1"))
    assert showback.rows() == before


def test_rows_are_added_up_to_what_they_are_to_be_told_apart_by() -> None:
    rows = a_showback().rows()
    ((_, total),) = summed(rows, ())
    assert (total.attempts, total.items, total.pod_seconds, total.cost) == (3, 15, 900, Money.from_usd("0.01"))
    assert [(key.tenant, sums.attempts) for key, sums in summed(rows, [By.TENANT])] == [("acme", 2), ("globex", 1)]
    assert [key.day for key, _ in summed(rows, [By.DAY])] == ["2026-03-03", "2026-03-04"]
    assert [key.placement for key, _ in summed(rows, [By.PLACEMENT])] == ["node_pool", "virtual_node"]


def test_days_are_chosen_with_both_ends() -> None:
    rows = a_showback().rows()
    assert len(list(within(rows, date(2026, 3, 4), None))) == 2
    assert len(list(within(rows, None, date(2026, 3, 3)))) == 1
    assert len(list(within(rows, date(2026, 3, 3), date(2026, 3, 4)))) == 3


def test_only_the_last_days_are_kept() -> None:
    showback = a_showback()
    showback("attempt.closed", NOW + DAYS_KEPT * DAY, closed("burst-d-1"))
    assert [key.day for key, _ in showback.rows()] == ["2026-03-04", "2026-03-04", "2026-04-08"]


def test_the_same_pods_are_priced_in_one_place_and_in_the_other() -> None:
    priced = elsewhere(a_showback().rows(), POLICY)
    # What was billed there counts as billed; the five minutes on a node at the rate of a group.
    assert priced.all_virtual == Money.from_usd("0.01") + RATE * 300
    # One such pod fills a node; each row is rounded up.
    assert priced.all_nodes == Money(-(-PRICE.per_hour.picos * 300 // 3600)) * 3
    assert elsewhere(a_showback().rows(), a_policy()).all_nodes is None
    assert elsewhere(a_showback().rows(), a_policy(a_task("other"))) == Elsewhere(Money.from_usd("0.01"), None)


def test_prices_of_parts_add_up_and_one_that_is_not_known_leaves_the_whole_unknown() -> None:
    rows = a_showback().rows()
    parts = [elsewhere([row], POLICY) for row in rows]
    assert together(parts) == elsewhere(rows, POLICY)
    assert together([*parts, Elsewhere(NO_MONEY, None)]).all_nodes is None


def test_rows_and_prices_are_read_as_they_were_written() -> None:
    for row in a_showback().rows():
        assert row_of(row_json(row)) == row
        assert elsewhere_of(elsewhere_json(elsewhere([row], POLICY))) == elsewhere([row], POLICY)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    lines: list[Any] = [{"format": "burst-dispatcher.events", "version": 1}]
    for at, job, tenant in ((NOW - DAY, "burst-a-1", "acme"), (NOW, "burst-b-1", "globex"), (NOW, "burst-c-1", "<b>")):
        lines.append({"event": "attempt.closed", "at": to_text(at), **closed(job, tenant=tenant)})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "torn')
    return path


def reported(log: Path, *options: str) -> Result:
    folder = log.parent / "config"
    folder.mkdir(exist_ok=True)
    a_folder(folder, {"virtual_node": {}}, [A_TASK])
    return CliRunner().invoke(app, ["report", "--events", str(log), "--config", str(folder), *options])


def test_an_event_log_is_reported_without_a_service(log: Path) -> None:
    content = json.loads(reported(log, "--json", "--by", "tenant").stdout)
    assert (content["since"], content["until"], content["cost_usd"]) == ("2026-03-03", "2026-03-04", "0.015")
    assert [row["tenant"] for row in content["rows"]] == ["<b>", "acme", "globex"]
    assert content["all_virtual_usd"] == "0.015"
    assert content["all_nodes_usd"] is not None


def test_csv_has_the_columns_that_were_asked_for(log: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(reported(log, "--csv", "--by", "day", "--by", "placement").stdout)))
    assert [(row["day"], row["placement"], row["items"]) for row in rows] == [
        ("2026-03-03", "virtual_node", "5"),
        ("2026-03-04", "virtual_node", "10"),
    ]
    assert list(rows[0])[-2:] == ["cost_usd", "set_aside_usd"]


def test_one_tenant_and_some_days_can_be_chosen(log: Path) -> None:
    content = json.loads(reported(log, "--json", "--tenant", "globex", "--since", "2026-03-04").stdout)
    assert (content["cost_usd"], content["all_virtual_usd"]) == ("0.005", "0.005")
    assert "nothing was closed" in reported(log, "--since", "2030-01-01").stdout
    assert reported(log, "--since", "2026-03-04", "--until", "2026-03-03").exit_code == 2


def test_the_table_says_it_for_people(log: Path) -> None:
    result = reported(log)
    assert result.exit_code == 0, result.stderr
    assert "virtual node" in result.stdout
    assert "the same pods, all on the virtual node: $0.0150" in " ".join(result.stdout.split())


def test_the_page_has_charts_and_tables_and_nothing_that_could_run(log: Path) -> None:
    page = log.parent / "report.html"
    result = reported(log, "--html", str(page))
    assert result.exit_code == 0, result.stderr
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "<script" not in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "globex" in text


def test_a_log_that_is_not_there_and_a_page_that_cannot_be_written_are_told(log: Path) -> None:
    missing = reported(log.parent / "none.jsonl")
    assert (missing.exit_code, "name an event log" in missing.stderr) == (1, True)
    refused = reported(log, "--html", str(log.parent / "no" / "report.html"))
    assert (refused.exit_code, "cannot be written" in refused.stderr) == (1, True)
