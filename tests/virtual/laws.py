"""Whether a burst went as it must, by what the stand-in for ACI has counted and billed.

Pure. Reads samples, the bill, and every version of the ledger; what happened to items and Jobs is judged by
``tests.crash.laws`` from the API server's own history. The dispatcher's books are never taken for the truth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.crash.laws import Version
from tests.virtual.scenario import Scenario

Raw = Mapping[str, Any]
PICOS = 10**12
EQUAL_TO_USD = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment: the bill, read before what the ledger has set aside for it, and what is used at Azure."""

    second: float
    done: int
    addresses: int
    groups: int
    creates: tuple[int, int]
    """In the shorter and in the longer window."""
    deletes: tuple[int, int]
    bill_usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        counts = {name: getattr(self, name) for name in ("second", "done", "addresses", "groups", "creates", "deletes")}
        return counts | {name: str(getattr(self, name)) for name in ("bill_usd", "spent_usd", "reserved_usd")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One law, and the figures that it was judged by."""

    law: str
    holds: bool
    told: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was seen of one burst."""

    samples: Sequence[Sample]
    bill: Raw
    statistics: Raw
    charges: Mapping[str, Decimal]
    """What each paid Job was charged, by name."""
    spent_usd: Decimal
    """What the ledger says was spent in all."""
    on_virtual_node: int
    """Items whose last pod succeeded there."""
    namespace: str
    seconds: float
    broken: Sequence[str] = ()
    """What the laws about items, Jobs and every write of the ledger have found."""


def charges_in(closed: Iterable[Raw]) -> dict[str, Decimal]:
    """What each paid Job was charged in all, as was told when it was forgotten; twice, where that write broke off."""
    return {event["job"]: Decimal(event["cost_usd"]) for event in closed if event["placement"] == "virtual_node"}


def spent_in(ledger: Raw) -> Decimal:
    """What is spent in all."""
    return Decimal(sum(account["spent"] for account in ledger["accounts"].values())) / PICOS


def succeeded_there(history: Iterable[Version]) -> int:
    """How many pods of the virtual node have succeeded."""
    return len(
        {
            version.object["metadata"]["uid"]
            for version in history
            if version.kind == "pods"
            and (version.object["spec"].get("nodeSelector") or {}).get("type") == "virtual-kubelet"
            and (version.object.get("status") or {}).get("phase") == "Succeeded"
        }
    )


def bills_of(bill: Raw, namespace: str) -> dict[str, Decimal]:
    """What Azure bills for each Job of a namespace."""
    by_job: dict[str, Decimal] = defaultdict(Decimal)
    for line in bill["groups"]:
        if line["namespace"] == namespace:
            by_job[line["pod"].rsplit("-", 2)[0]] += Decimal(line["usd"])
    return dict(by_job)


def judge(scenario: Scenario, seen: Seen) -> list[Verdict]:
    """Every law of a burst on the virtual node."""
    return [
        Verdict("every item done, or rightly dead-lettered; no write beyond a limit", not seen.broken,
                "; ".join(seen.broken) or "history of the API server, every version"),
        _never_exceeded(scenario, seen),
        Verdict(f"at least {scenario.on_virtual_node_min} items ran on the virtual node",
                seen.on_virtual_node >= scenario.on_virtual_node_min, f"{seen.on_virtual_node} did"),
        *_used(scenario, seen),
        _cover(scenario, seen),
        _charges(scenario, seen),
        Verdict(f"over within {scenario.seconds_max:.0f} s", seen.seconds < scenario.seconds_max,
                f"{seen.seconds:.0f} s"),
    ]  # fmt: skip


def _never_exceeded(scenario: Scenario, seen: Seen) -> Verdict:
    peak, limit = seen.statistics["peak"], seen.statistics["limit"]
    refused = seen.statistics["refused"]
    within = peak["addresses"] <= scenario.addresses_allowed and not refused
    told = (
        f"addresses {peak['addresses']} of {scenario.addresses_allowed}, groups {peak['groups']} of {limit['groups']}, "
        f"cores {peak['cores']} of {limit['cores']}, creates {_pairs(peak['creates'], limit['creates'])}, "
        f"deletes {_pairs(peak['deletes'], limit['deletes'])}; refused: {refused or 'nothing'}"
    )
    return Verdict("addresses, groups, cores, creates and deletes never exceeded, as Azure counts", within, told)


def _pairs(peaks: Sequence[int], limits: Sequence[int]) -> str:
    return " and ".join(f"{peak} of {limit}" for peak, limit in zip(peaks, limits, strict=True))


def _used(scenario: Scenario, seen: Seen) -> list[Verdict]:
    if scenario.used_min is None:
        return []
    percent = f"{scenario.used_min:.0%}"
    peak, limit = seen.statistics["peak"], seen.statistics["limit"]
    addresses = Decimal(peak["addresses"]) / scenario.addresses_allowed
    names = ("creates in 5 minutes", "creates in an hour", "deletes in 5 minutes", "deletes in an hour")
    shares = [
        (Decimal(used) / most, name)
        for name, used, most in zip(
            names, [*peak["creates"], *peak["deletes"]], [*limit["creates"], *limit["deletes"]], strict=True
        )
    ]
    share, name = max(shares)
    return [
        Verdict(f"at least {percent} of the addresses used at one time", addresses >= scenario.used_min,
                f"{peak['addresses']} of {scenario.addresses_allowed}, {addresses:.0%}"),
        Verdict(f"at least {percent} of the bucket that binds used", share >= scenario.used_min,
                f"{name}: {share:.0%}"),
    ]  # fmt: skip


def _cover(scenario: Scenario, seen: Seen) -> Verdict:
    bad = [
        each
        for each in seen.samples
        if each.spent_usd + each.reserved_usd > scenario.limit_usd or each.bill_usd > each.spent_usd + each.reserved_usd
    ]
    most = max((each.spent_usd + each.reserved_usd for each in seen.samples), default=Decimal(0))
    told = f"{len(seen.samples)} samples, at most ${most:.4f} of ${scenario.limit_usd} spent and reserved"
    if bad:
        told += f"; broken {len(bad)} times, first: {bad[0]}"
    return Verdict("bill <= spent + reserved <= limit at every sample", not bad, told)


def _charges(scenario: Scenario, seen: Seen) -> Verdict:
    bills = bills_of(seen.bill, seen.namespace)
    wrong = []
    for job in sorted({*bills, *seen.charges}):
        bill, charge = bills.get(job, Decimal(0)), seen.charges.get(job, Decimal(0))
        if (abs(charge - bill) > EQUAL_TO_USD) if scenario.reader else (charge < bill):
            wrong.append(f"{job}: charged ${charge}, billed ${bill}")
    billed, charged = sum(bills.values(), Decimal(0)), sum(seen.charges.values(), Decimal(0))
    over = charged - billed
    told = f"{len(bills)} Jobs: billed ${billed:.6f}, charged ${charged:.6f}, overcharge ${over:.6f}"
    told += f" ({over / billed:.1%})" if billed else ""
    if charged != seen.spent_usd:
        wrong.append(f"the accounts say ${seen.spent_usd} spent")
    law = "each Job's charge is its bill" if scenario.reader else "each Job's charge is at least its bill"
    return Verdict(law, not wrong, "; ".join([told, *wrong[:5]]))
