"""The section `azure`: what it may say, what a person is told of it, and what `check-config --server` asks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dispatcher.settings.azure import AzureSettings

GOOD: dict[str, Any] = {
    "subscription": "11111111-2222-3333-4444-555555555555",
    "resource_group": "MC_burst_cluster_eastus",
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subscription": "mine"}, "subscription"),
        ({"resource_group": "ends-with-a-dot."}, "resource_group"),
        ({"resource_group": "../other"}, "resource_group"),
        ({"region": "East US"}, "region"),
        ({"endpoint": "management.azure.com"}, "endpoint"),
        ({"endpoint": "http://management.azure.com"}, "unencrypted"),
        ({"identity": "password"}, "identity"),
        ({"look_every": "10ms"}, "look_every"),
        ({"request_timeout": "5m"}, "request_timeout"),
        ({"endpoints": "x"}, "endpoints"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_by_its_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AzureSettings.model_validate({**GOOD, **changes})


@pytest.mark.parametrize(
    "endpoint", ["https://management.chinacloudapi.cn", "http://127.0.0.1:8080", "http://[::1]:1/"]
)
def test_a_token_goes_encrypted_or_stays_on_this_machine(endpoint: str) -> None:
    assert AzureSettings.model_validate({**GOOD, "endpoint": endpoint}).endpoint == endpoint


def test_a_name_that_only_begins_like_this_machine_is_another() -> None:
    for endpoint in ("http://localhost.example.com", "http://127.0.0.1.example.com"):
        with pytest.raises(ValidationError, match="unencrypted"):
            AzureSettings.model_validate({**GOOD, "endpoint": endpoint})
