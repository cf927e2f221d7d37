"""How the broker is reached and what its queues are, as far as the configuration says: mistakes, warnings, secrets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.connection_string import read_connection_string
from dispatcher.service.wiring import broker_config
from dispatcher.settings import Examination, examine
from dispatcher.settings.broker_checks import expired_signature

STRING = "Endpoint=sb://orders.example/;SharedAccessKeyName=listen;SharedAccessKey=geheim="
TASK = {"name": "report", "image": "report:1", "command": ["true"], "resources": {"cpu": "500m", "memory": "512Mi"}}
GOOD = {"namespace": "orders.servicebus.windows.net"}


def looked_at(folder: Path, bus: dict[str, Any], *, local: bool = False, **more: Any) -> Examination:
    content = {"queues": [{"name": "work", "tasks": ["report"]}], "service_bus": bus, **more}
    (folder / "dispatcher.yaml").write_text(yaml.safe_dump(content))
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [TASK]}))
    return examine(folder, local=local, environ={})


def test_a_namespace_with_an_identity_needs_nothing_else(tmp_path: Path) -> None:
    examined = looked_at(tmp_path, {**GOOD, "identity": "managed", "client_id": "1-2"})
    assert (examined.mistakes, examined.warnings) == ((), ())


@pytest.mark.parametrize(
    ("bus", "said"),
    [
        ({**GOOD, "connection_string_file": "secret"}, "service_bus.namespace: a connection string is given too"),
        ({"connection_string_file": "secret", "client_id": "1"}, "service_bus.client_id: belongs to namespace"),
        ({**GOOD, "identity": "cli", "client_id": "1"}, "service_bus.client_id: is of no use with identity: cli"),
        ({**GOOD, "identity": "default"}, "service_bus.identity: 'default' is not one of workload, managed, cli"),
        ({"namespace": "sb://orders"}, "service_bus.namespace: 'sb://orders' is not a name"),
        ({**GOOD, "custom_endpoint": "10.1.2.3"}, "service_bus.custom_endpoint: '10.1.2.3' is not a name"),
        ({**GOOD, "ca_file": "nowhere.pem"}, "service_bus.ca_file: "),
        ({**GOOD, "dead_letter_expired": False}, "service_bus.dead_letter_expired: a message that outlives its time"),
        ({**GOOD, "duplicate_detection_window": "8d"}, "service_bus.duplicate_detection_window: 8d must be at most 7"),
        ({"connection_string_file": "absent"}, "service_bus.connection_string_file: "),
        ({"connection_string_file": "empty"}, "service_bus.connection_string_file: is empty; copy it whole"),
        ({"connection_string_file": "half"}, "service_bus.connection_string_file: lacks SharedAccessKey; copy it"),
        ({"connection_string_file": "other"}, "it opens only the queue 'other' (EntityPath), and there is 'work'"),
    ],
)
def test_what_cannot_work_is_told_with_the_field_and_the_remedy(tmp_path: Path, bus: dict[str, Any], said: str) -> None:
    files = {"secret": STRING, "empty": "\n", "half": STRING.rpartition(";")[0], "other": STRING + ";EntityPath=other"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    lines = [str(mistake) for mistake in looked_at(tmp_path, bus).mistakes]
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert "; " in lines[0]
    assert "geheim" not in lines[0]


@pytest.mark.parametrize(
    ("bus", "said"),
    [
        ({"lock_duration": "30s"}, "service_bus.lock_duration: 30s is short"),
        ({"max_delivery_count": 10}, "service_bus.max_delivery_count: after 10 deliveries a crash loop"),
        ({"duplicate_detection_window": "0s"}, "service_bus.duplicate_detection_window: without it"),
        ({"duplicate_detection_window": "10m"}, "service_bus.duplicate_detection_window: 10m is short"),
        ({"time_to_live": "31d"}, "service_bus.time_to_live: 31d is no longer than budget 'monthly' may hold work"),
    ],
)
def test_a_queue_that_endangers_items_is_warned_of_and_a_good_one_is_not(
    tmp_path: Path, bus: dict[str, Any], said: str
) -> None:
    timing = {"lock_hold_max": "5s"}
    node = {"subnet": "10.240.0.0/24"}
    monthly = {"name": "monthly", "window": "month", "limit_usd": 500, "when_exhausted": "hold"}
    hourly = {"name": "hourly", "window": "hour", "limit_usd": 500, "when_exhausted": "hold"}
    world = {"virtual_node": node, "budgets": [monthly, hourly], "timing": timing}
    examined = looked_at(tmp_path, {**GOOD, **bus}, **world)
    assert examined.mistakes == ()
    assert [said in str(warning) for warning in examined.warnings] == [True]
    best = {
        "lock_duration": "60s",
        "max_delivery_count": 100,
        "duplicate_detection_window": "1d",
        "time_to_live": "32d",
    }
    assert looked_at(tmp_path, {**GOOD, **best}, **world).warnings == ()
    assert looked_at(tmp_path, bus, local=True, **world).warnings == ()


def test_without_a_way_in_a_person_is_told_that_only_local_mode_runs(tmp_path: Path) -> None:
    assert "nothing says how to reach the broker" in str(looked_at(tmp_path, {}).warnings[0])


def test_local_queues_are_what_the_configuration_says_of_them(tmp_path: Path) -> None:
    bus = {"duplicate_detection_window": "2h", "time_to_live": "3d", "max_delivery_count": 7, "lock_duration": "30s"}
    settings = looked_at(tmp_path, bus, local=True).settings
    assert settings is not None
    (queue,) = broker_config(settings, tmp_path / "journal", "key").queues
    assert (queue.lock_duration, queue.max_delivery_count) == (timedelta(seconds=30), 7)
    assert (queue.duplicate_detection_window, queue.time_to_live) == (timedelta(hours=2), timedelta(days=3))
    off = looked_at(tmp_path, {"duplicate_detection_window": "0s"}, local=True).settings
    assert off is not None
    assert broker_config(off, tmp_path / "journal", "key").queues[0].duplicate_detection_window is None


# --- the string itself ----------------------------------------------------------------------------------------------


def test_a_connection_string_is_read_as_the_sdk_reads_it() -> None:
    read = read_connection_string(
        " endpoint=sb://h:1/;SHAREDACCESSKEYNAME=n;SharedAccessKey=a=b==;UseDevelopmentEmulator=true;\n"
    )
    assert (read.host, read.key_name, read.queue, read.signature_until) == ("h:1", "n", None, None)
    assert "a=b" not in repr(read)


def test_a_ready_made_signature_says_when_it_ends() -> None:
    text = "Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=h&sig=x%3d&se=1000000000&skn=n"
    end = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert read_connection_string(text).signature_until == end
    assert expired_signature(text, end - timedelta(seconds=1)) is None
    told = expired_signature(text, end)
    assert told is not None
    assert told.startswith("its signature ended at 2001-09-09 01:46 UTC; ")
    assert expired_signature(STRING, end) is None


@given(st.text(max_size=60), st.sampled_from([STRING, "", "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey="]))
def test_no_text_makes_the_reader_fail_otherwise_or_quote_it(text: str, around: str) -> None:
    try:
        read_connection_string(around[: len(around) // 2] + text + around[len(around) // 2 :])
    except ValueError as error:
        fault = str(error).partition("; ")[0]
        assert "geheim" not in fault
        assert fault.isprintable()
