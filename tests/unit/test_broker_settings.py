"""The file of the broker alone: what it becomes, and that every mistake comes in one answer, with its line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from dispatcher.embedded.broker import BrokerConfig, QueueConfig, Right
from dispatcher.service.broker import Doors, broker_alone
from dispatcher.settings.broker import (
    BrokerExamination,
    BrokerKeySettings,
    BrokerLimitSettings,
    BrokerQueueSettings,
    examine_broker,
)

CHECKOUT = Path(__file__).resolve().parents[2]
DELIVERED = CHECKOUT / "config" / "broker.yaml"


def examined(tmp_path: Path, text: str) -> BrokerExamination:
    path = tmp_path / "broker.yaml"
    path.write_text(text)
    return examine_broker(path)


def made(tmp_path: Path, text: str) -> BrokerConfig:
    found = examined(tmp_path, text)
    assert found.settings is not None, found.mistakes
    return broker_alone(found.settings, found.secrets, Doors(), None, "made-key")


def test_the_delivered_file_is_right_and_says_the_defaults_of_the_broker() -> None:
    found = examine_broker(DELIVERED)
    assert found.mistakes == ()
    assert found.settings is not None
    config = broker_alone(found.settings, found.secrets, Doors(), None, "made-key")
    assert config == BrokerConfig(
        queues=(QueueConfig("work"),), port=5672, shared_access_keys={"RootManageSharedAccessKey": "SAS_KEY_VALUE"}
    )


def test_the_delivered_file_names_every_setting_with_a_sentence() -> None:
    text = DELIVERED.read_text(encoding="utf-8")
    for model in (BrokerQueueSettings, BrokerKeySettings, BrokerLimitSettings):
        for name, info in model.model_fields.items():
            assert info.description, name
            assert f"{name}:" in text, f"{name} is not in {DELIVERED.name}"


def test_every_setting_reaches_the_broker(tmp_path: Path) -> None:
    (tmp_path / "sender.key").write_text("from-a-file\n")
    config = made(
        tmp_path,
        """
queues:
  - {name: jobs, enabled: false, lock_duration: 5m, max_delivery_count: 3, default_ttl: 1h, max_size: 1Gi,
     dead_lettering_on_expiration: true, duplicate_detection_window: 10m, max_message_size: 1Mi}
keys:
  - {name: all, key: one}
  - {name: sender, key_file: sender.key, rights: [send], queue: JOBS}
  - {name: boss, key: three, rights: [manage], queue: jobs}
limits: {journal_size_max: 2Mi, max_frame_size: 64Ki, idle_timeout: 90s, link_idle_timeout: 1m, unused_timeout: 2m}
""",
    )
    assert config.queues == (
        QueueConfig(
            "jobs", enabled=False, lock_duration=timedelta(minutes=5), max_delivery_count=3, max_size=2**30,
            time_to_live=timedelta(hours=1), dead_letter_expired=True, max_message_size=2**20,
            duplicate_detection_window=timedelta(minutes=10),
        ),
    )  # fmt: skip
    assert config.shared_access_keys == {"all": "one"}
    assert [(each.name, each.key, each.rights, each.queue) for each in config.access_policies] == [
        ("sender", "from-a-file", {Right.SEND}, "JOBS"),
        ("boss", "three", {Right.MANAGE}, "jobs"),
    ]
    assert (config.journal_pages_max, config.max_frame_size) == (512, 65_536)
    assert config.idle_timeout == timedelta(seconds=90)
    assert (config.link_idle_timeout, config.unused_timeout) == (timedelta(minutes=1), timedelta(minutes=2))


def test_without_keys_there_is_one_that_was_made(tmp_path: Path) -> None:
    config = made(tmp_path, "queues: [{name: jobs}]")
    assert config.shared_access_keys == {"RootManageSharedAccessKey": "made-key"}


WRONG = """\
queues:
  - name: jobs
    lock_duration: 10m
    max_delivery_cuont: 3
  - name: JOBS
    lock_duration: 30
keys:
  - name: reader
    rights: [listne]
    key: 12345
  - name: sender
    queue: jbos
  - name: sender
    key: geheim
    key_file: sender.key
  - {name: c, key_file: nowhere.key}
topics: []
limits: {idle_timeout: 0s, journal_size_max: 1k}
"""


def test_every_mistake_comes_in_one_answer_with_field_remedy_and_line_and_no_secret(tmp_path: Path) -> None:
    found = examined(tmp_path, WRONG)
    assert found.settings is None
    lines = [str(mistake) for mistake in found.mistakes]
    expected = (
        ("queues[0].lock_duration: 10m must be at most 5 minutes", "line 3"),
        ("queues[0].max_delivery_cuont: is not a setting; did you mean max_delivery_count?", "line 4"),
        ("queues[1].name: 'JOBS' is the name of queues[0] too; give each its own name", "line 5"),
        ("queues[1].lock_duration: 30 has no unit; write 30s for seconds", "line 6"),
        ("keys[0].rights[0]: 'listne' is not one of send, listen, manage; did you mean listen?", "line 9"),
        ("keys[0].key: expected text, found something else; put it in quotes", "line 10"),
        ("keys[1]: has neither key nor key_file; give one of them", "line 11"),
        ("keys[1].queue: there is no queue 'jbos'; did you mean jobs?", "line 12"),
        ("keys[2].name: 'sender' is the name of keys[1] too; give each its own name", "line 13"),
        ("keys[2]: has both key and key_file; give one of them", "line 13"),
        (f"keys[3].key_file: {tmp_path / 'nowhere.key'} cannot be used (No such file or directory)", "line 16"),
        ("topics: is not a setting; known are keys, limits, queues", "line 17"),
        ("limits.journal_size_max: '1k' must be at least 1048576", "line 18"),
        ("limits.idle_timeout: 0d must be at least 1 second", "line 18"),
    )
    assert len(lines) == len(expected), "\n".join(lines)
    for line, (says, place) in zip(lines, expected, strict=True):
        assert line.startswith(says), line
        assert line.endswith(f"(broker.yaml, {place})"), line
    assert not any("geheim" in line or "12345" in line for line in lines)


def test_keys_of_which_none_opens_everything_are_a_mistake(tmp_path: Path) -> None:
    (mistake,) = examined(tmp_path, "queues: [{name: a}]\nkeys: [{name: k, key: v, rights: [send]}]\n").mistakes
    assert str(mistake).startswith("keys: none of them opens everything; add one without rights and queue")


def test_a_key_file_that_is_empty_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("\n")
    (mistake,) = examined(tmp_path, "queues: [{name: a}]\nkeys: [{name: k, key_file: k}]\n").mistakes
    assert "cannot be used (empty)" in str(mistake)


def test_a_file_that_is_not_there_or_no_yaml_is_one_mistake(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert [str(each) for each in examine_broker(missing).mistakes] == [
        f"{missing}: is not a file; name one with --config"
    ]
    (mistake,) = examined(tmp_path, "queues: [").mistakes
    assert "is not valid YAML" in str(mistake)
    assert [str(each.path) for each in examined(tmp_path, "").mistakes] == ["queues"]


def test_a_key_stays_out_of_what_is_printed(tmp_path: Path) -> None:
    found = examined(tmp_path, "queues: [{name: a}]\nkeys: [{name: k, key: geheim}]\n")
    assert found.secrets == {"k": SecretStr("geheim")}
    assert "geheim" not in repr(found)
