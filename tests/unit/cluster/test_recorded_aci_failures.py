"""What the dispatcher makes of each status that the real connector was seen to write (tests/fixtures/aci)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dispatcher.cluster.failures import cause_of, exit_code_of, reason_and_message
from dispatcher.core.failures import FailureCause

RECORDS = Path(__file__).parents[2] / "fixtures" / "aci"
CAUSES = {
    "exit-42": FailureCause.APPLICATION,
    "quota-groups": FailureCause.ACI_QUOTA,
    "quota-cores": FailureCause.ACI_QUOTA,
    "quota-of-none": FailureCause.ACI_QUOTA,
    "no-capacity": FailureCause.ACI_CAPACITY,
    "refused-onfailure": FailureCause.ACI_CAPACITY,
    "subnet-full": FailureCause.SUBNET_FULL,
    "inaccessible-image": FailureCause.IMAGE,
    "registry-error": FailureCause.THROTTLED,
    "throttled": FailureCause.THROTTLED,
    "link-not-ready": FailureCause.START_DEADLINE,
    "transitioning": FailureCause.START_DEADLINE,
    "server-timeout": FailureCause.START_DEADLINE,
    "accepted-but-503": FailureCause.START_DEADLINE,
    "accepted-then-retried": FailureCause.START_DEADLINE,
    "forbidden": FailureCause.START_DEADLINE,
    "may-not-join": FailureCause.START_DEADLINE,
    "internal": FailureCause.START_DEADLINE,
    "too-large": FailureCause.TEMPLATE,
    "limits-above-requests": FailureCause.TEMPLATE,
    "args-alone": FailureCause.TEMPLATE,
    "startup-probe": FailureCause.TEMPLATE,
    "hook": FailureCause.TEMPLATE,
    "host-path": FailureCause.TEMPLATE,
    "downward-volume": FailureCause.TEMPLATE,
    "config-map-assumed": FailureCause.TEMPLATE,
    "pull-secret-missing": FailureCause.TEMPLATE,
    "config-map-required": FailureCause.CANCELLED,
    "vanished": FailureCause.NODE_LOST,
}
"""Those that say why. The others end well, run, or stay Pending without a word: only a start deadline ends those."""
SILENT = {
    "capacity-lost",
    "never-provisioned",
    "image-never-pulled",
    "vnet-trouble",
    "vanished-before-start",
    "status-env",
}


def record(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))["pod"]
    return pod


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDS.glob("*.json")))
def test_the_cause_is_read_from_what_the_connector_wrote(name: str) -> None:
    assert cause_of(record(name)) is CAUSES.get(name)
    assert exit_code_of(record(name)) is None  # the connector loses it


@pytest.mark.parametrize("name", sorted(CAUSES))
def test_whoever_is_refused_is_told_in_azures_words(name: str) -> None:
    pod = record(name)
    reason, message = reason_and_message(pod)
    if pod["status"].get("reason") == "ProviderFailed":
        assert reason == "ProviderFailed"
        assert message


@pytest.mark.parametrize("name", sorted(SILENT))
def test_what_never_starts_on_the_virtual_node_says_nothing_at_all(name: str) -> None:
    status = record(name)["status"]
    assert status["phase"] == "Pending"
    assert not {"reason", "message", "containerStatuses"} & set(status)
