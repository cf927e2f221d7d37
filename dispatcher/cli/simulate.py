"""``dispatcher simulate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dispatcher.cli.app import app
from dispatcher.cli.shared import PIPE_WIDTH, Exit, JsonOption, fail, say, told
from dispatcher.judge import Level, Unreadable, documents_of, findings_of
from dispatcher.judge.profiles import DEFAULT, known_profiles
from dispatcher.settings.scenarios import ScenarioSettings, ScenarioTask, read_scenario
from dispatcher.simulator.economy.comparing import DECIDERS, Advised, Comparison, broken, compare
from dispatcher.simulator.economy.telling import table, to_json, write_page
from dispatcher.simulator.economy.traces import read_trace
from dispatcher.simulator.economy.workload import Rate, Runs, Workload, both, diurnal, drawn, spikes, steady, windows


@app.command()
@told
def simulate(
    scenario: Annotated[
        Path, typer.Argument(metavar="FILE", help="A scenario, such as config/scenarios/ci-burst.yaml.")
    ],
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Play this recorded work instead: an events.jsonl, or CSV with at,run_seconds."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="NAME", help="Compare only these; may be given repeatedly.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw arrivals and run times from this instead.")] = None,
    charts: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a page with charts there.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fail where a bound that the scenario expects is not kept.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play work in virtual time under the dispatcher and under other policies: cost, waits, and what is advised.

    The dispatcher's own plan, routing and ledger decide for it. With --trace the tasks of the trace must be among
    those of the scenario. Exit codes: 0 done; 1 with --check a bound is not kept; 2 a file is wrong.
    """
    read = read_scenario(scenario)
    if read.manifest is not None:
        _judge(scenario, read, check=check, as_json=as_json)
        return
    names = policy or list(DECIDERS)
    unknown = [name for name in names if name not in DECIDERS]
    if unknown:
        fail(f"--policy: there is no {unknown[0]!r}; known are {', '.join(DECIDERS)}", Exit.USAGE)
    number = read.seed if seed is None else seed
    workload = read_trace(trace, number) if trace is not None else drawn_work(scenario.stem, read, number)
    rules = read.policy()
    strange = [name for name in workload.tasks if name not in rules.tasks]
    if strange:
        fail(f"{trace}: task {strange[0]!r} is not in {scenario}; describe it there under tasks", Exit.USAGE)
    comparison = compare(
        scenario.stem, workload, rules, number, names, lambda each: say(f"{len(workload)} items under {each}")
    )
    _tell(comparison, as_json=as_json)
    if charts is not None:
        say(f"charts: {write_page(comparison, charts)}")
    wrong = not_kept(comparison, read)
    for line in wrong if check else ():
        say(f"error: {line}")
    if check and wrong:
        raise typer.Exit(Exit.FAILED)


def drawn_work(name: str, scenario: ScenarioSettings, seed: int) -> Workload:
    """What the scenario says arrives."""
    seconds = scenario.lasts.total_seconds()
    return drawn(name, _parts(scenario, seconds, seed), seconds, seed)


def _parts(scenario: ScenarioSettings, seconds: float, seed: int) -> Iterator[tuple[str, Rate, Runs]]:
    for task in scenario.tasks:
        runs = task.runs
        yield (
            task.name,
            both(*_rates(task, seconds, f"{seed} {task.name}")),
            Runs(runs.median.total_seconds(), runs.spread, runs.longest.total_seconds()),
        )


def _rates(task: ScenarioTask, seconds: float, seed: str) -> Iterator[Rate]:
    if task.day_peak_per_second is not None:
        yield diurnal(task.steady_per_second, task.day_peak_per_second)
    else:
        yield steady(task.steady_per_second)
    for burst in task.bursts:
        lasts = burst.lasts.total_seconds()
        if burst.about_every is not None:
            every = burst.about_every.total_seconds()
            yield spikes(seed, seconds, every, (lasts, lasts), (burst.per_second, burst.per_second))
        else:
            begins = [at.total_seconds() for at in burst.at]
            yield windows(burst.per_second, 0.0, [(begin, begin + lasts) for begin in begins])


def not_kept(comparison: Comparison, scenario: ScenarioSettings) -> list[str]:
    """The scenario's expectations that this run does not keep."""
    expected, product = scenario.expected, comparison.of("burst dispatcher")
    wrong = []
    if expected.advice is not None and comparison.advised != expected.advice:
        wrong.append(f"{comparison.name}: advised {comparison.advised}, expected {expected.advice}")
    if product is None:
        return wrong
    wait = expected.wait_p95_max or timedelta(0)
    bounds = [
        ("the cost in dollars", expected.cost_usd_max, float(product.cost.usd)),
        ("the wait of 19 of 20 in seconds", wait.total_seconds() or None, product.wait(95)),
        ("missed objectives in percent", expected.missed_percent_max, product.missed_percent),
        ("addresses in use", expected.addresses_max, float(product.addresses_most)),
        (
            "use of a budget in percent",
            expected.budget_percent_max,
            max(comparison.budget_percent.values(), default=0.0),
        ),
        ("items that never ran", 0.0, float(product.not_run)),
    ]
    return wrong + broken(comparison, bounds)


def _tell(comparison: Comparison, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(to_json(comparison), indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table(comparison))
    for each in comparison.advice:
        print(f"guard: {each.sentence}")
    for name, percent in comparison.budget_percent.items():
        print(f"budget {name}: {percent:.1f} % used at most")
    print(f"recommendation: {comparison.recommendation}")


def _judge(path: Path, scenario: ScenarioSettings, *, check: bool, as_json: bool) -> None:
    """A manifest is not simulated: the judge says whether a virtual node runs it at all."""
    found = judged(path.parent / str(scenario.manifest))
    refused = [each for each in found if each["level"] == Level.ERROR]
    advised = Advised.REFUSED if refused else Advised.VIRTUAL_NODE
    sentence = (
        f"Do not: the virtual node cannot run it. {refused[0]['text']}" if refused else "The virtual node can run it."
    )
    if as_json:
        print(
            json.dumps(
                {"scenario": path.stem, "advised": advised, "recommendation": sentence, "findings": found}, indent=2
            )
        )
    else:
        for each in found:
            print(each["text"])
        print(f"recommendation: {sentence}")
    if check and scenario.expected.advice not in (None, advised):
        say(f"error: {path.stem}: advised {advised}, expected {scenario.expected.advice}")
        raise typer.Exit(Exit.FAILED)


def judged(manifest: Path) -> list[dict[str, Any]]:
    """What the judge finds in a manifest, on the usual virtual node."""
    try:
        documents = documents_of(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{manifest} cannot be read: {error.strerror}", Exit.USAGE)
    except Unreadable as error:
        fail(f"{manifest}: {error}", Exit.USAGE)
    profile = known_profiles()[DEFAULT]
    findings = [each for document in documents for each in findings_of(document, profile, "default") or ()]
    return [{"level": each.level, "rule": each.rule, "text": str(each)} for each in findings]
