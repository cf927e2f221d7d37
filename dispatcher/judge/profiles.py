"""Placement profiles: what a kind of place can run, as data.

Reads the profiles that are shipped and those of an operator, and decides what one may say; the mistakes of a profile
come in one answer. A new place needs a file, and no code. Knows nothing of how a rule decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from dispatcher.core.profiles import MEGABYTE
from dispatcher.core.profiles import Profile as Place
from dispatcher.core.units import Resources
from dispatcher.judge.findings import RULES, Level
from dispatcher.judge.workloads import Limits, mapping, sequence, text

FORMAT = 1
SHIPPED = ("virtual-node-v1", "virtual-node-v2", "nodes")
DEFAULT = "virtual-node-v1"
_BYTES_MAX = 1024 * 1024
_KEYS = {
    "format", "name", "title", "extends", "node_labels", "node_selector", "tolerations", "taints", "keep_off",
    "retries", "exit_codes_count", "pod_deadline_counts", "pod_uid_by_field", "grace_seconds", "surcharge", "rounding",
    "counts", "words", "rules",
}  # fmt: skip
_RETRIES = ("dispatcher", "job_controller")


class BadProfile(ValueError):
    """A profile that cannot be used; one line for each mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of place: how it is launched to, and what is refused there."""

    name: str
    title: str
    rules: Mapping[str, Level]
    """The rules that hold there, by id, and how strictly."""
    limits: Limits
    place: Place
    """What a launch must know of it."""


def profile_of(data: Any, parent: Profile | None = None) -> Profile:
    """Reads a profile. What it does not say is as in ``parent``. Raises BadProfile with every mistake."""
    if not isinstance(data, Mapping):
        raise BadProfile(["the profile: holds no keys with values; begin with format: 1 and a name"])
    mistakes = list(_mistakes(data))
    if mistakes:
        raise BadProfile(mistakes)
    base = parent or Profile("", "", {}, Limits(), Place(""))
    levels = {str(key): Level(value) for key, value in mapping(data.get("rules")).items() if value != "off"}
    off = {key for key, value in mapping(data.get("rules")).items() if value == "off" or value is False}
    limits = Limits(
        counts={
            **base.limits.counts,
            **mapping(data.get("counts")),
            **({"grace_seconds": data["grace_seconds"]} if "grace_seconds" in data else {}),
        },
        words={
            **base.limits.words,
            **{str(key): tuple(map(str, value)) for key, value in mapping(data.get("words")).items()},
        },
        node_labels=_texts(data["node_labels"]) if "node_labels" in data else base.limits.node_labels,
        taints=_all_texts(data["taints"]) if "taints" in data else base.limits.taints,
        selectors=tuple(_texts(data["node_selector"])) if "node_selector" in data else base.limits.selectors,
    )
    return Profile(
        name=str(data["name"]),
        title=str(data.get("title", base.title)),
        rules={key: value for key, value in {**base.rules, **levels}.items() if key not in off},
        limits=limits,
        place=_place(data, base.place),
    )


def _place(data: Mapping[str, Any], base: Place) -> Place:
    surcharge, rounding = mapping(data.get("surcharge")), mapping(data.get("rounding"))
    return Place(
        name=str(data["name"]),
        node_selector=_texts(data["node_selector"]) if "node_selector" in data else base.node_selector,
        tolerations=_all_texts(data["tolerations"]) if "tolerations" in data else base.tolerations,
        keep_off=tuple(map(mapping, data["keep_off"])) if "keep_off" in data else base.keep_off,
        retries_in_job=data["retries"] == "job_controller" if "retries" in data else base.retries_in_job,
        exit_codes_count=data.get("exit_codes_count", base.exit_codes_count),
        pod_deadline_counts=data.get("pod_deadline_counts", base.pod_deadline_counts),
        pod_uid_by_field=data.get("pod_uid_by_field", base.pod_uid_by_field),
        grace_seconds=data.get("grace_seconds", base.grace_seconds),
        cpu_step_millis=rounding.get("cpu_millis", base.cpu_step_millis),
        memory_step_bytes=rounding.get("memory_mb", base.memory_step_bytes // MEGABYTE) * MEGABYTE,
        surcharge=Resources(
            surcharge.get("cpu_millis", base.surcharge.cpu_millis),
            surcharge.get("memory_mb", base.surcharge.memory_bytes // MEGABYTE) * MEGABYTE,
        ),
    )


@cache
def known_profiles() -> Mapping[str, Profile]:
    """The profiles that are shipped, by name."""
    folder = files("dispatcher.judge") / "profiles"
    found: dict[str, Profile] = {}
    for name in SHIPPED:
        data = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
        found[name] = profile_of(data, found.get(data.get("extends")))
    return found


def read_profile(path: Path) -> Profile:
    """An operator's own profile. Raises BadProfile, naming the file."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise BadProfile([f"{path}: is longer than {_BYTES_MAX} bytes; check that this is the right file"])
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise BadProfile([f"{path}: cannot be read ({reason}); name a YAML file"]) from error
    parent = known_profiles().get(text(mapping(data).get("extends")))
    try:
        return profile_of(data, parent)
    except BadProfile as error:
        raise BadProfile([f"{path}: {mistake}" for mistake in error.mistakes]) from error


# --- what a profile may say -----------------------------------------------------------------------------------------


def _mistakes(data: Mapping[str, Any]) -> Iterator[str]:
    if data.get("format") != FORMAT:
        yield f"format: {data.get('format')!r} is not known; write format: {FORMAT}"
    if not isinstance(data.get("name"), str) or not data["name"]:
        yield "name: is missing; write for example name: my-burst-nodes"
    for key in data:
        if key not in _KEYS:
            yield f"{key}: is no key of a profile; {_near(str(key), _KEYS)}"
    extends = data.get("extends")
    if extends is not None and extends not in SHIPPED:
        yield f"extends: there is no profile {extends!r}; known are {', '.join(SHIPPED)}"
    for key in ("node_labels", "node_selector", "surcharge", "rounding", "counts", "words", "rules"):
        if key in data and not isinstance(data[key], Mapping):
            yield f"{key}: must be keys with values"
    for key in ("tolerations", "taints", "keep_off"):
        if key in data and not (isinstance(data[key], list) and all(isinstance(each, Mapping) for each in data[key])):
            yield f"{key}: must be a list of keys with values"
    for n, taint in enumerate(sequence(data.get("taints"))):
        if isinstance(taint, Mapping) and not {"key", "value", "effect"} <= taint.keys():
            yield f"taints[{n}]: needs key, value and effect"
    for key in ("exit_codes_count", "pod_deadline_counts", "pod_uid_by_field"):
        if key in data and not isinstance(data[key], bool):
            yield f"{key}: must be true or false"
    grace = data.get("grace_seconds", 1)
    if not isinstance(grace, int) or isinstance(grace, bool) or grace < 1:
        yield f"grace_seconds: {grace!r} must be a whole number of at least 1"
    if data.get("retries", _RETRIES[0]) not in _RETRIES:
        yield f"retries: {data['retries']!r} is not known; write {' or '.join(_RETRIES)}"
    yield from _numbers(data)
    for key, value in mapping(data.get("words")).items():
        if not isinstance(value, list):
            yield f"words.{key}: must be a list"
    for key, value in mapping(data.get("rules")).items():
        if key not in RULES:
            yield f"rules.{key}: there is no such rule; {_near(str(key), RULES)}"
        if value not in (*Level, "off", False):
            yield f"rules.{key}: {value!r} is no level; write error, warning or off"


def _numbers(data: Mapping[str, Any]) -> Iterator[str]:
    for section, least in (("surcharge", 0), ("rounding", 1), ("counts", 0)):
        for key, value in mapping(data.get(section)).items():
            if section != "counts" and key not in ("cpu_millis", "memory_mb"):
                yield f"{section}.{key}: is not known; write cpu_millis or memory_mb"
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                yield f"{section}.{key}: {value!r} must be a whole number of at least {least}"


def _near(word: str, known: Any) -> str:
    close = get_close_matches(word, [str(each) for each in known], n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(map(str, known)))}"


def _texts(value: Any) -> dict[str, str]:
    return {str(key): text(entry) for key, entry in mapping(value).items()}


def _all_texts(value: Any) -> tuple[Mapping[str, str], ...]:
    return tuple(_texts(each) for each in sequence(value))
