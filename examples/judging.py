"""What the demo's judge decides, on plain values: no queue, no files, no clock.

For readers of the demo's summary. The judge believes what can be seen from outside: which messages are still in
the queue or in its dead-letter queue, which artifacts open, and when which pod ran which item. Only what cannot be
seen from outside comes from the service's own event log: holds, money, and why an item was tried again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import combinations
from typing import Any

NODE_POOL, VIRTUAL_NODE = "node_pool", "virtual_node"
DESERVE_THE_DEAD_LETTER_QUEUE = ("fails", "poison")
NAMED_AT_MOST = 5

Event = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of one item in one pod; a run that was killed has no end."""

    item: str
    batch: str
    attempt: int
    index: int
    pid: int
    started: float
    ended: float | None = None
    ok: bool = False

    @property
    def job(self) -> tuple[str, int]:
        """The attempt of the batch that this run was part of."""
        return self.batch, self.attempt


@dataclass(frozen=True)
class Artifact:
    """A file that an item left: its digest, and what is wrong with it, if anything."""

    path: str
    digest: str
    problem: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """A message in the dead-letter queue, and why it is there."""

    id: str
    reason: str
    description: str


@dataclass(frozen=True)
class Evidence:
    """All that the judge looked at."""

    kinds: dict[str, str]  # message id -> what is expected of it
    runs: list[Run]
    events: list[Event]
    artifacts: dict[str, list[Artifact]]
    left_in_queue: list[str]
    dead_letters: list[DeadLetter]
    seconds: float
    asked: set[str] = field(default_factory=set)
    """The messages that asked to hear how they ended."""
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    """What they heard, by message id: "done" or "dead_lettered", as often as they heard it."""


@dataclass
class Verdict:
    """The summary, and every check that failed, one clear line each."""

    summary: dict[str, Any]
    problems: list[str] = field(default_factory=list)


def judge(evidence: Evidence) -> Verdict:
    """Compute the summary and hold it against what must be true of any run."""
    failures = failures_by_item(evidence)
    summary = summarise(evidence, succeeded=len(evidence.kinds) - len(failures))
    problems = [
        *item_problems(evidence, failures),
        *run_problems(evidence),
        *outcome_problems(evidence),
        *ledger_problems(events_named(evidence.events, "ledger.written")),
    ]
    return Verdict(summary, problems)


def summarise(evidence: Evidence, succeeded: int) -> dict[str, Any]:
    """The numbers of the demo."""
    launches = placements_by_job(evidence.events)
    held = Counter(event["reason"] for event in events_named(evidence.events, "batch.held"))
    return {
        "items": {
            "enqueued": len(evidence.kinds),
            "succeeded": succeeded,
            "dead_lettered": len(dead_letters_of_burst(evidence)),
        },
        "batches": len({batch for batch, _ in launches}),
        "placements": placements(evidence, launches),
        "held": dict(sorted(held.items())),
        "retries": retries(evidence),
        "budget": budget(events_named(evidence.events, "ledger.written")),
        "subnet": subnet(events_named(evidence.events, "ledger.written")),
        "outcomes": {"asked": len(evidence.asked), "told": len(evidence.outcomes)},
        "overlapping_attempts": len(overlapping(evidence.runs)),
        "seconds": round(evidence.seconds, 1),
    }


# --- items -----------------------------------------------------------------------------------------------------


def failures_by_item(evidence: Evidence) -> dict[str, str]:
    """For every item that did not succeed, the first thing that is missing for it to count."""
    ran_well = {run.item for run in evidence.runs if run.ok}
    left = set(evidence.left_in_queue)
    owners = artifact_owners(evidence.artifacts)
    failures = {}
    for item in evidence.kinds:
        artifacts = evidence.artifacts.get(item, [])
        if not artifacts:
            failures[item] = "left no artifact"
        elif len(artifacts) > 1:
            failures[item] = f"left {len(artifacts)} artifacts"
        elif artifacts[0].problem:
            failures[item] = f"{artifacts[0].path}: {artifacts[0].problem}"
        elif len(owners[artifacts[0].digest]) > 1:
            twins = sorted(owners[artifacts[0].digest] - {item})
            failures[item] = f"its artifact is the same as that of {', '.join(twins)}"
        elif item not in ran_well:
            failures[item] = "has an artifact, and no run of it ended well"
        elif item in left:
            failures[item] = "is done, and its message is still in the queue"
    return failures


def artifact_owners(artifacts: dict[str, list[Artifact]]) -> dict[str, set[str]]:
    """Who left which content."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for item, files in artifacts.items():
        for file in files:
            owners[file.digest].add(item)
    return owners


def dead_letters_of_burst(evidence: Evidence) -> set[str]:
    """The items of this burst that are in the dead-letter queue."""
    return {letter.id for letter in evidence.dead_letters} & evidence.kinds.keys()


def item_problems(evidence: Evidence, failures: dict[str, str]) -> list[str]:
    """Every item is done or dead-lettered, exactly one of both, and only those are dead-lettered that deserve it."""
    dead = dead_letters_of_burst(evidence)
    deserving = {item for item, kind in evidence.kinds.items() if kind in DESERVE_THE_DEAD_LETTER_QUEUE}
    copies = Counter(letter.id for letter in evidence.dead_letters if letter.id in dead)
    unexplained = [letter.id for letter in evidence.dead_letters if letter.id in dead and not letter.reason]
    return [
        *named("neither done nor dead-lettered", (f"{i} ({why})" for i, why in failures.items() if i not in dead)),
        *named("done and dead-lettered as well", dead - failures.keys()),
        *named("dead-lettered more than once", (item for item, times in copies.items() if times > 1)),
        *named("dead-lettered without a reason", unexplained),
        *named("dead-lettered and did not deserve it", dead - deserving),
        *named("cannot work and was not dead-lettered", deserving - dead),
        *named("still in the queue", evidence.left_in_queue),
    ]


def outcome_problems(evidence: Evidence) -> list[str]:
    """Whoever asked heard how it ended, always the same, and the truth; nobody else heard anything."""
    dead = dead_letters_of_burst(evidence)
    told = {item: set(kinds) for item, kinds in evidence.outcomes.items()}
    return [
        *named("asked to hear of its end and did not", evidence.asked - told.keys()),
        *named("heard of its end without having asked", told.keys() - evidence.asked),
        *named("heard of two different ends", (item for item, kinds in told.items() if len(kinds) > 1)),
        *named("heard that it was done, and is dead-lettered", (i for i in dead if "done" in told.get(i, ()))),
        *named(
            "heard that it was dead-lettered, and is not",
            (item for item, kinds in told.items() if "dead_lettered" in kinds and item not in dead),
        ),
    ]


# --- runs ------------------------------------------------------------------------------------------------------


def pair_runs(entries: Iterable[dict[str, Any]]) -> list[Run]:
    """Start and end lines of the run log, joined; an end belongs to the latest open start of the same pod."""
    runs: list[Run] = []
    open_runs: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for entry in entries:
        run = Run(entry["item"], entry["batch"], entry["attempt"], entry["index"], entry["pid"], entry["at"])
        pod = (run.item, run.job, run.index, run.pid)
        if entry["event"] == "start":
            open_runs[pod].append(len(runs))
            runs.append(run)
        elif open_runs[pod]:
            position = open_runs[pod].pop()
            runs[position] = replace(runs[position], ended=entry["at"], ok=entry["ok"])
        else:
            raise ValueError(f"item {run.item} ended in batch {run.batch} without having started")
    return runs


def overlapping(runs: list[Run]) -> list[tuple[Run, Run]]:
    """Pairs of runs of one item that were under way at the same time."""
    by_item: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_item[run.item].append(run)
    return [pair for same in by_item.values() for pair in combinations(same, 2) if at_the_same_time(*pair)]


def at_the_same_time(one: Run, other: Run) -> bool:
    """Of a run that was killed only the start is known; two such runs prove nothing."""
    one_end, other_end = one.ended, other.ended
    if one_end is None and other_end is None:
        return False
    if one_end is None:
        one_end = one.started
    if other_end is None:
        other_end = other.started
    return one.started <= other_end and other.started <= one_end


def run_problems(evidence: Evidence) -> list[str]:
    """No item ran twice at the same time, and none in a Job that the service never told of."""
    launched = placements_by_job(evidence.events)
    pairs = (f"{one.item} (attempts {one.attempt} and {two.attempt})" for one, two in overlapping(evidence.runs))
    strangers = {f"{run.batch} attempt {run.attempt}" for run in evidence.runs if run.job not in launched}
    return [
        *named("ran twice at the same time", pairs),
        *named("ran without a batch.launched in the event log", strangers),
    ]


def placements_by_job(events: list[Event]) -> dict[tuple[str, int], str]:
    """Where each attempt of each batch was launched."""
    return {(event["batch"], event["attempt"]): event["placement"] for event in events_named(events, "batch.launched")}


def placements(evidence: Evidence, launches: dict[tuple[str, int], str]) -> dict[str, dict[str, Any]]:
    """How many batches each placement was given, and for how many items it had the deciding run.

    The deciding run of an item is the one that ended well, or else the last one, so every item that ran counts once.
    """
    deciding: dict[str, Run] = {}
    for run in sorted(evidence.runs, key=lambda run: run.started):
        if run.item not in deciding or not deciding[run.item].ok:
            deciding[run.item] = run
    items = Counter(launches.get(run.job) for run in deciding.values())
    batches = Counter(place for _, place in {(batch, place) for (batch, _), place in launches.items()})
    # A Job is closed once; after a restart of the service the same closing may be told again.
    costs = {
        event["job"]: Decimal(event["cost_usd"])
        for event in events_named(evidence.events, "attempt.closed")
        if event["placement"] == VIRTUAL_NODE
    }
    return {
        NODE_POOL: {"batches": batches[NODE_POOL], "items": items[NODE_POOL]},
        VIRTUAL_NODE: {
            "batches": batches[VIRTUAL_NODE],
            "items": items[VIRTUAL_NODE],
            "cost_usd": float(sum(costs.values(), Decimal(0))),
        },
    }


def retries(evidence: Evidence) -> dict[str, int]:
    """Retries by the allowance they were taken from.

    The service tells of its own retries; a Job may also start an item again by itself, which only the run log shows
    (a second run in the same attempt, always on the item's allowance). Where both tell of one item, the larger number
    counts, so that no retry counts twice.
    """
    told = [event for event in events_named(evidence.events, "item.retried") if event["item"] in evidence.kinds]
    by_service = Counter(event["item"] for event in told if event["allowance"] == "item")
    by_job: Counter[str] = Counter()
    for (item, *_), times in Counter((run.item, *run.job) for run in evidence.runs).items():
        by_job[item] += times - 1
    return {
        "item": sum((by_service | by_job).values()),
        "platform": sum(event["allowance"] == "platform" for event in told),
    }


# --- money and addresses ---------------------------------------------------------------------------------------


def budget(ledger: list[Event]) -> dict[str, float | None]:
    """The limit, what was spent in the end, and the most that was ever reserved."""
    if not ledger:
        return {"limit_usd": None, "spent_usd": None, "reserved_peak_usd": None}
    return {
        "limit_usd": float(Decimal(ledger[-1]["limit_usd"])),
        "spent_usd": float(Decimal(ledger[-1]["spent_usd"])),
        "reserved_peak_usd": float(max(Decimal(line["reserved_usd"]) for line in ledger)),
    }


def subnet(ledger: list[Event]) -> dict[str, int | None]:
    """How many addresses there were to use, and the most that were in use."""
    if not ledger:
        return {"usable": None, "in_use_peak": None}
    return {
        "usable": ledger[-1]["addresses_usable"],
        "in_use_peak": max(line["addresses_in_use"] for line in ledger),
    }


def ledger_problems(ledger: list[Event]) -> list[str]:
    """Spent and reserved together never passed the limit, and never were more addresses in use than there are."""
    if not ledger:
        return ["the event log has no ledger.written: nothing is known about money and addresses"]
    over_limit = (
        f"{line['at']}: {line['spent_usd']} spent + {line['reserved_usd']} reserved > {line['limit_usd']} USD"
        for line in ledger
        if Decimal(line["spent_usd"]) + Decimal(line["reserved_usd"]) > Decimal(line["limit_usd"])
    )
    over_subnet = (
        f"{line['at']}: {line['addresses_in_use']} in use of {line['addresses_usable']}"
        for line in ledger
        if line["addresses_in_use"] > line["addresses_usable"]
    )
    return [*named("the budget was passed", over_limit), *named("the subnet was passed", over_subnet)]


# --- reading and telling ---------------------------------------------------------------------------------------


def read_json_lines(text: str, name: str) -> list[dict[str, Any]]:
    """The objects of a JSONL file; only its very last line may be torn, by a writer that was killed."""
    lines = [line for line in text.splitlines() if line.strip()]
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines) or text.endswith("\n"):
                raise ValueError(f"{name}, line {number}: not JSON ({error})") from error
    return entries


def events_named(events: list[Event], name: str) -> list[Event]:
    """The events of one name, in the order of the log."""
    return [event for event in events if event.get("event") == name]


def named(problem: str, culprits: Iterable[str]) -> list[str]:
    """A problem as one line that names the first few culprits; nothing where there are none."""
    found = sorted(culprits)
    if not found:
        return []
    more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
    return [f"{problem}: {', '.join(found[:NAMED_AT_MOST])}{more}"]


def table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    items, places, tried = summary["items"], summary["placements"], summary["retries"]
    nodes, virtual = places[NODE_POOL], places[VIRTUAL_NODE]
    money, addresses = summary["budget"], summary["subnet"]
    rows = [
        ("items", f"{items['enqueued']} enqueued = {items['succeeded']} done + {items['dead_lettered']} dead-lettered"),
        ("batches", str(summary["batches"])),
        ("node pool", f"{nodes['batches']} batches, {nodes['items']} items"),
        (
            "virtual node",
            f"{virtual['batches']} batches, {virtual['items']} items, {dollars(virtual['cost_usd'])}",
        ),
        ("held", ", ".join(f"{reason} {times}x" for reason, times in summary["held"].items()) or "never"),
        ("retries", f"{tried['item']} of items, {tried['platform']} of the platform"),
        (
            "budget",
            f"{dollars(money['spent_usd'])} spent of {dollars(money['limit_usd'])}, "
            f"at most {dollars(money['reserved_peak_usd'])} reserved",
        ),
        ("subnet", f"at most {addresses['in_use_peak']} of {addresses['usable']} addresses in use"),
        ("outcomes", f"{summary['outcomes']['told']} of {summary['outcomes']['asked']} that were asked for"),
        ("overlapping", f"{summary['overlapping_attempts']} items ran twice at the same time"),
        ("time", f"{summary['seconds']:.1f} s"),
    ]
    return "\n".join(f"  {name:<14}{value}" for name, value in rows)


def dollars(amount: float | None) -> str:
    """An amount as it is read in a bill; a batch of seconds costs fractions of a cent."""
    return "unknown" if amount is None else f"${amount:,.4f}"
