"""Reads the configuration: files, then mounted secrets, then the environment, then the command line; the later wins.

Decides the order of the sources and that every mistake comes in one answer. Knows nothing of what any setting means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from dispatcher.errors import BadConfiguration
from dispatcher.settings.broker_checks import broker_mistakes_of, broker_warnings_of
from dispatcher.settings.checks import Context, Pieces, mistakes_of, warnings_of
from dispatcher.settings.mistakes import Location, Mistake, did_you_mean, translate, worth_telling
from dispatcher.settings.models import ENV_DELIMITER, ENV_PREFIX, Settings
from dispatcher.settings.placements import is_file_name
from dispatcher.settings.pod_checks import pod_mistakes_of, pod_warnings_of
from dispatcher.settings.sizing import size_warnings_of
from dispatcher.settings.yaml_file import YamlFile, read_yaml

DISPATCHER_FILE = "dispatcher.yaml"
TASKS_FILE = "tasks.yaml"
SECRETS_DIR_VARIABLE = "BURST_SECRETS_DIR"
SECRETS_DIR_DEFAULT = Path("/var/run/secrets/burst-dispatcher")
_SECRET_BYTES_MAX = 64 * 1024


@dataclass(frozen=True)
class Examination:
    """What a configuration turned out to be: usable settings, or all mistakes; and what a person should know."""

    settings: Settings | None
    mistakes: tuple[Mistake, ...] = ()
    warnings: tuple[Mistake, ...] = ()


def load(
    folder: Path,
    *,
    local: bool,
    environ: Mapping[str, str] | None = None,
    secrets_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a folder. Raises BadConfiguration with every mistake at once."""
    examined = examine(folder, local=local, environ=environ, secrets_dir=secrets_dir, overrides=overrides)
    if examined.settings is None:
        raise BadConfiguration([str(mistake) for mistake in examined.mistakes])
    return examined.settings


def examine(
    folder: Path,
    *,
    local: bool,
    environ: Mapping[str, str] | None = None,
    secrets_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Examination:
    """Looks at everything and raises nothing; ``overrides`` are what the command line said."""
    variables = dict(os.environ if environ is None else environ)
    files = (read_yaml(folder / DISPATCHER_FILE), read_yaml(folder / TASKS_FILE))
    mistakes = [mistake for file in files for mistake in file.mistakes]
    mistakes += _misplaced(*files)
    secrets, secret_mistakes = _secret_files(_secrets_dir(secrets_dir, variables))
    mistakes += secret_mistakes
    raw: dict[str, Any] = {**files[0].data, **{key: files[1].data[key] for key in ("tasks",) if key in files[1].data}}
    sources = [
        ("a mounted secret", _Variables(secrets)()),
        ("the environment", _Variables(variables)()),
        ("the command line", dict(overrides or {})),
    ]
    for _, values in sources:
        raw = merged(raw, values)
    from_file, unreadable = _connection_string(raw.get("service_bus"), folder)
    sources.append(("connection_string_file", from_file))
    raw = {key: value for key, value in merged(raw, from_file).items() if value is not None}
    raw = merged(raw, _profile_file(raw.get("virtual_node"), folder))
    raw = merged(raw, _price_file(raw.get("prices"), folder))
    mistakes += unreadable
    places = _Places(files, sources)
    settings, invalid = _validated(raw, places)
    mistakes += [mistake for location, mistake in invalid if _file_of(files, location).readable]
    if not all(file.readable for file in files):
        return Examination(None, _in_order(mistakes, places))
    pieces, context = Pieces.of(raw), Context(folder, local, places.of)
    mistakes += [*mistakes_of(pieces, context), *broker_mistakes_of(pieces, context)]
    mistakes += pod_mistakes_of(pieces, context)
    warnings = [*_unknown_variables(variables), *warnings_of(pieces, context), *broker_warnings_of(pieces, context)]
    warnings += [*pod_warnings_of(pieces, context), *size_warnings_of(pieces, context)]
    if mistakes:
        return Examination(None, _in_order(mistakes, places), tuple(warnings))
    return Examination(settings, (), tuple(warnings))


# --- sources --------------------------------------------------------------------------------------------------------


class _Variables(EnvSettingsSource):
    """Names with values, as environment variables or as files of a mounted Secret: both are named alike."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Lists and groups are read as YAML, of which JSON is a part; what is neither stays text and is refused."""
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            return value


def _secrets_dir(given: Path | None, variables: Mapping[str, str]) -> Path | None:
    named = variables.get(SECRETS_DIR_VARIABLE)
    if given or named:
        return given or Path(str(named))
    return SECRETS_DIR_DEFAULT if SECRETS_DIR_DEFAULT.is_dir() else None


def _secret_files(folder: Path | None) -> tuple[dict[str, str], list[Mistake]]:
    """A mounted Secret: one file a key, named like the environment variable, with or without its prefix."""
    if folder is None:
        return {}, []
    if not folder.is_dir():
        return {}, [Mistake(str(folder), "is not a folder of secrets", "mount it, or unset " + SECRETS_DIR_VARIABLE)]
    found: dict[str, str] = {}
    mistakes = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        name = path.name.upper()
        try:
            found[name if name.startswith(ENV_PREFIX) else ENV_PREFIX + name] = _read_secret(path)
        except (OSError, ValueError) as error:
            mistakes.append(Mistake(str(path), f"cannot be read ({error})", "check the mounted Secret"))
    return found, mistakes


def _read_secret(path: Path) -> str:
    if path.stat().st_size > _SECRET_BYTES_MAX:
        raise ValueError(f"larger than {_SECRET_BYTES_MAX} bytes")
    return path.read_text(encoding="utf-8").strip()


def _connection_string(section: Any, folder: Path) -> tuple[dict[str, Any], list[Mistake]]:
    """Reads service_bus.connection_string_file, unless the connection string itself is given: then that counts."""
    if not isinstance(section, Mapping) or not section.get("connection_string_file"):
        return {}, []
    if section.get("connection_string"):
        return {"service_bus": {"connection_string_file": None}}, []
    path = folder / str(section["connection_string_file"])
    try:
        text = _read_secret(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        remedy = "mount the Secret there, or correct the path"
        return {}, [Mistake("service_bus.connection_string_file", f"{path} cannot be read ({reason})", remedy)]
    return {"service_bus": {"connection_string": SecretStr(text)}}, []


def _profile_file(section: Any, folder: Path) -> dict[str, Any]:
    """A profile that is a file is looked for beside the configuration."""
    name = section.get("profile") if isinstance(section, Mapping) else None
    if not isinstance(name, str) or not is_file_name(name):
        return {}
    return {"virtual_node": {"profile": str(folder / name)}}


def _price_file(section: Any, folder: Path) -> dict[str, Any]:
    """A price book of the operator's own is looked for beside the configuration."""
    name = section.get("file") if isinstance(section, Mapping) else None
    return {"prices": {"file": str(folder / name)}} if isinstance(name, str) and name else {}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; where both have a value, the one above counts."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


# --- mistakes -------------------------------------------------------------------------------------------------------


def _validated(raw: dict[str, Any], places: _Places) -> tuple[Settings | None, list[tuple[Location, Mistake]]]:
    try:
        return Settings(**raw), []
    except ValidationError as error:
        return None, [(each["loc"], translate(each, Settings, places.of)) for each in worth_telling(error)]


def _file_of(files: tuple[YamlFile, YamlFile], location: Location) -> YamlFile:
    return files[1] if location[:1] == ("tasks",) else files[0]


def _misplaced(dispatcher_file: YamlFile, tasks_file: YamlFile) -> list[Mistake]:
    """Each file has its own keys; the tasks are a file of their own because others write it."""
    mistakes = []
    if "tasks" in dispatcher_file.data:
        place = f"{DISPATCHER_FILE}, line {dispatcher_file.lines.get(('tasks',), 1)}"
        mistakes.append(Mistake("tasks", f"stands in {DISPATCHER_FILE}", f"move it to {TASKS_FILE}", place))
    for key in tasks_file.data:
        if key != "tasks":
            place = f"{TASKS_FILE}, line {tasks_file.lines.get((str(key),), 1)}"
            remedy = (
                f"move it to {DISPATCHER_FILE}" if key in Settings.model_fields else did_you_mean(str(key), ["tasks"])
            )
            mistakes.append(Mistake(str(key), f"is no key of {TASKS_FILE}", remedy, place))
    return mistakes


def _unknown_variables(variables: Mapping[str, str]) -> list[Mistake]:
    """Variables that look like settings and name no section; one inside a known section is a mistake of its own."""
    warnings = []
    for name in sorted(variables):
        section = name.upper().removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)[0].lower()
        if name.upper().startswith(ENV_PREFIX) and ENV_DELIMITER in name and section not in Settings.model_fields:
            remedy = did_you_mean(section, Settings.model_fields)
            warnings.append(Mistake(name, "is ignored: there is no such section", remedy))
    return warnings


class _Places:
    """Says where a value came from: a line of a file, or the source that overrode it."""

    def __init__(self, files: tuple[YamlFile, YamlFile], sources: list[tuple[str, dict[str, Any]]]) -> None:
        self._files = files
        self._sources = sources

    def of(self, location: Location) -> str:
        """The place of a value, or of the nearest thing around it that stands anywhere."""
        for name, values in reversed(self._sources):
            if self._names(values, location):
                return f"from {name}"
        return _file_of(self._files, location).place(location)

    def _names(self, values: Any, location: Location) -> bool:
        for depth, step in enumerate(location):
            if not isinstance(values, Mapping):
                return depth > 0
            if step not in values:
                return False
            values = values[step]
        return True

    def order(self, mistake: Mistake) -> tuple[int, int]:
        """Files in order, lines in order, all else first."""
        for rank, name in ((1, DISPATCHER_FILE), (2, TASKS_FILE)):
            if mistake.place.startswith(name) or mistake.path == name:
                digits = mistake.place.rpartition(" ")[2]
                return rank, int(digits) if digits.isdigit() else 0
        return 0, 0


def _in_order(mistakes: list[Mistake], places: _Places) -> tuple[Mistake, ...]:
    return tuple(dict.fromkeys(sorted(mistakes, key=places.order)))
