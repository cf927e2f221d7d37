"""The file of `dispatcher broker serve`: queues, keys and limits of the broker when it runs alone.

Decides what the file may say, and that every mistake in it comes in one answer, as in `loading`. Knows nothing of the
broker. The names of the keys follow those that Service Bus gives its queues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError

from dispatcher.settings.mistakes import (
    Location,
    Mistake,
    did_you_mean,
    mapping_or_empty,
    path_text,
    translate,
    worth_telling,
)
from dispatcher.settings.tasks import Section
from dispatcher.settings.values import Memory, PositiveCount, PositiveDuration, parse_duration
from dispatcher.settings.yaml_file import YamlFile, read_yaml

SMALLEST_JOURNAL = 1024 * 1024
_KEY_BYTES_MAX = 4096
_QUEUE_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$"  # what Service Bus takes


class KeyRight(StrEnum):
    """What a key allows its holder."""

    SEND = "send"
    LISTEN = "listen"
    MANAGE = "manage"


class BrokerQueueSettings(Section):
    """One queue, as Service Bus would be told to make it; its dead-letter queue comes with it."""

    name: str = Field(pattern=_QUEUE_NAME, examples=["jobs"])
    """What clients call it; large and small letters are the same."""
    enabled: bool = True
    """`false`: it keeps what is in it, and refuses everybody."""
    lock_duration: PositiveDuration = Field(
        default=parse_duration("60s"), le=parse_duration("5m"), examples=["60s"]
    )  # fmt: skip
    """How long a received message is locked for its receiver; Service Bus takes at most 5 minutes."""
    max_delivery_count: PositiveCount = 10
    """So many deliveries, and the message is dead-lettered."""
    default_ttl: PositiveDuration | None = Field(default=None, examples=["1h"])
    """The longest life of a message; empty: as long as the message says, for ever if it says nothing."""
    dead_lettering_on_expiration: bool = False
    """Whether what outlives its time is dead-lettered rather than dropped."""
    duplicate_detection_window: PositiveDuration | None = Field(default=None, le=parse_duration("7d"), examples=["1d"])
    """A message id that comes again within this time is dropped; empty: it may come as often as it likes."""
    max_size: Memory | None = Field(default=None, ge=1024, examples=["1Gi"])
    """Most bytes of all its messages, dead letters included; empty: no limit."""
    max_message_size: Memory = Field(default=256 * 1024, ge=1024, examples=["256Ki"])
    """Most bytes of one message with its properties; 256 KiB on the Standard tier."""


class BrokerKeySettings(Section):
    """A shared access key, and what it opens."""

    name: str = Field(min_length=1, pattern=r"^[^;=\s]+$", examples=["RootManageSharedAccessKey"])
    """What connection strings call it."""
    key: SecretStr | None = Field(default=None, repr=False, min_length=1)
    """The key itself: for development only, it stands in a file."""
    key_file: Path | None = Field(default=None, examples=["sender.key"])
    """A file that holds nothing but the key, as seen from this one."""
    rights: tuple[KeyRight, ...] = Field(default=tuple(KeyRight), min_length=1, examples=["[send, listen]"])
    """`send`, `listen`, or `manage`, which is everything."""
    queue: str | None = Field(default=None, examples=["jobs"])
    """The only queue that it opens; empty: all."""

    @property
    def opens_everything(self) -> bool:
        """Whether its holder may do all there is."""
        return self.queue is None and KeyRight.MANAGE in self.rights


class BrokerLimitSettings(Section):
    """What bounds the broker as a whole."""

    journal_size_max: Memory | None = Field(default=None, ge=SMALLEST_JOURNAL, examples=["2Gi"])
    """Most bytes of the journal; a message that does not fit is refused. Empty: as much as the disk has."""
    max_frame_size: Memory = Field(default=1024 * 1024, ge=512, examples=["1Mi"])
    """Most bytes of one AMQP frame."""
    idle_timeout: PositiveDuration = Field(default=parse_duration("2m"), ge=parse_duration("1s"), examples=["2m"])
    """A connection that is silent for so long is closed; below a minute the SDK's own keep-alive is too slow."""
    link_idle_timeout: PositiveDuration = Field(default=parse_duration("10m"), examples=["10m"])
    """A link that is not used for so long is detached."""
    unused_timeout: PositiveDuration = Field(default=parse_duration("5m"), examples=["5m"])
    """A connection without a link for so long is closed."""


class BrokerSettings(Section):
    """The whole file."""

    queues: tuple[BrokerQueueSettings, ...] = Field(min_length=1, examples=["[{name: jobs}]"])
    keys: tuple[BrokerKeySettings, ...] = ()
    """Empty: one key that opens everything, made at the first start."""
    limits: BrokerLimitSettings = BrokerLimitSettings()


@dataclass(frozen=True)
class BrokerExamination:
    """What a file turned out to be: usable settings with the keys' values by name, or all mistakes."""

    settings: BrokerSettings | None
    secrets: Mapping[str, SecretStr]
    mistakes: tuple[Mistake, ...] = ()


def examine_broker(path: Path) -> BrokerExamination:
    """Looks at everything in the file and raises nothing."""
    if not path.is_file():
        return BrokerExamination(None, {}, (Mistake(str(path), "is not a file", "name one with --config"),))
    file = read_yaml(path)
    mistakes = list(file.mistakes)
    if not file.readable:
        return BrokerExamination(None, {}, tuple(mistakes))
    settings = None
    try:
        settings = BrokerSettings.model_validate({key: value for key, value in file.data.items() if value is not None})
    except ValidationError as error:
        mistakes += [translate(each, BrokerSettings, file.place) for each in worth_telling(error)]
    secrets, unusable = _secrets(file, path.parent)
    mistakes += [*_same_names(file), *_keys_for_nothing(file), *unusable]
    if settings is not None:
        mistakes += _no_key_for_everything(settings, file)
    if mistakes or settings is None:
        return BrokerExamination(None, {}, tuple(sorted(dict.fromkeys(mistakes), key=_line)))
    return BrokerExamination(settings, secrets)


# --- what only shows when several entries are looked at together ------------------------------------------------------


def _entries(file: YamlFile, section: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The entries of a list that can be looked at, whatever else is wrong with the file."""
    listed = file.data.get(section)
    for position, entry in enumerate(listed if isinstance(listed, list) else ()):
        if fields := mapping_or_empty(entry):
            yield position, fields


def _mistake(file: YamlFile, location: Location, fault: str, remedy: str) -> Mistake:
    return Mistake(path_text(location), fault, remedy, file.place(location))


def _same_names(file: YamlFile) -> Iterator[Mistake]:
    for section in ("queues", "keys"):
        first: dict[str, int] = {}
        for position, entry in _entries(file, section):
            name = entry.get("name")
            if not isinstance(name, str):
                continue
            known_as = name.lower() if section == "queues" else name
            if known_as in first:
                fault = f"{name!r} is the name of {section}[{first[known_as]}] too"
                yield _mistake(file, (section, position, "name"), fault, "give each its own name")
            first.setdefault(known_as, position)


def _keys_for_nothing(file: YamlFile) -> Iterator[Mistake]:
    queues = [str(entry.get("name")) for _, entry in _entries(file, "queues")]
    known = {name.lower() for name in queues}
    for position, entry in _entries(file, "keys"):
        queue = entry.get("queue")
        if isinstance(queue, str) and queue.lower() not in known:
            fault = f"there is no queue {queue!r}"
            yield _mistake(file, ("keys", position, "queue"), fault, did_you_mean(queue, queues, "add it to queues"))


def _secrets(file: YamlFile, folder: Path) -> tuple[dict[str, SecretStr], list[Mistake]]:
    """Every key's value, from the file itself or from the one that it names."""
    secrets, mistakes = {}, []
    for position, entry in _entries(file, "keys"):
        where: Location = ("keys", position)
        key, named = entry.get("key"), entry.get("key_file")
        if (key is None) is (named is None):
            fault = "has neither key nor key_file" if key is None else "has both key and key_file"
            mistakes.append(_mistake(file, where, fault, "give one of them"))
        elif key is not None:
            secrets[str(entry.get("name"))] = SecretStr(str(key))
        else:
            try:
                secrets[str(entry.get("name"))] = _read_key(folder / str(named))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                fault = f"{folder / str(named)} cannot be used ({reason})"
                mistakes.append(_mistake(file, (*where, "key_file"), fault, "write the key into it, and nothing else"))
    return secrets, mistakes


def _read_key(path: Path) -> SecretStr:
    if path.stat().st_size > _KEY_BYTES_MAX:
        raise ValueError(f"larger than {_KEY_BYTES_MAX} bytes")
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError("empty")
    return SecretStr(text)


def _no_key_for_everything(settings: BrokerSettings, file: YamlFile) -> Iterator[Mistake]:
    if settings.keys and not any(key.opens_everything for key in settings.keys):
        remedy = "add one without rights and queue, or take all keys out: one is made then"
        yield _mistake(file, ("keys",), "none of them opens everything", remedy)


def _line(mistake: Mistake) -> int:
    digits = mistake.place.rpartition(" ")[2]
    return int(digits) if digits.isdigit() else 0
