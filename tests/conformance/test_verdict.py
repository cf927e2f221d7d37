"""What counts as a surprise."""

from __future__ import annotations

from pathlib import Path

from .verdict import FAILED, PASSED, SKIPPED, Result, read_expected, read_results, surprises

REPORT = """<testsuites><testsuite>
<testcase classname="async_tests.test_a.TestIt" name="test_good[x]" time="1.5"/>
<testcase classname="test_b.TestIt" name="test_bad" time="2"><failure message="a&#10;b">text</failure></testcase>
<testcase classname="test_b.TestIt" name="test_not" time="0"><skipped message="out of scope"/></testcase>
<testcase classname="test_b.TestIt" name="test_both" time="0"><failure message="f"/><skipped message="s"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT, encoding="utf-8")
    assert [(result.test, result.outcome) for result in read_results(report)] == [
        ("test_a::test_good[x]", PASSED),
        ("test_b::test_bad", FAILED),
        ("test_b::test_not", SKIPPED),
        ("test_b::test_both", FAILED),
    ]


def result(test: str, outcome: str) -> Result:
    return Result(test, outcome, 0.0, "why\nand more")


def test_a_failure_surprises_unless_it_is_expected_and_a_pass_if_it_is_not() -> None:
    results = [result("a", PASSED), result("b", FAILED), result("c", FAILED), result("d", PASSED), result("e", SKIPPED)]
    expected = {"c": "known", "d": "thought so", "e": "not run", "gone": "renamed"}
    assert surprises(results, expected, complete=False) == [
        "unexpected failure: b: why",
        "unexpected pass: d (expected to fail: thought so)",
    ]
    assert surprises(results, expected, complete=True)[2:] == ["expected to fail, but not there: gone"]


def test_every_expected_failure_has_a_reason_and_there_are_two() -> None:
    expected = read_expected(Path(__file__).with_name("expected_failures.toml"))
    assert len(expected) <= 2
    assert all(expected.values())
