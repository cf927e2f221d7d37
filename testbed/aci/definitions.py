"""A container group as it is asked for: read from the body of a request, and held against ACI's rules.

Decides what a definition means and whether ACI takes it. Pure. Knows nothing of rooms, rates or of what runs. Rules:
names, sizes, numbers of containers and volumes are ACI's published limits; that limits may not exceed the whole group's
requests is its published error.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from testbed.aci import wording

CPU_STEP = Decimal("0.01")
MEMORY_STEP_GB = Decimal("0.1")
CPU_MAX = Decimal(31)
MEMORY_GB_MAX = Decimal(240)
CONTAINERS_MAX = 60
VOLUMES_MAX = 20
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_]*[A-Za-z0-9])?")
RESTART_POLICIES = ("Always", "OnFailure", "Never")


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume of the group in a container."""

    volume: str
    path: str


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """One container. ``raw`` is its definition as it came, which answers repeat."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    is_init: bool
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume: files by name, or an empty folder."""

    name: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Definition:
    """A group that ACI would take. ``cpu`` and ``memory_gb`` are what it is billed for: its containers' requests, cut
    to whole steps (which the connector has done already)."""

    name: str
    containers: tuple[ContainerDefinition, ...]
    volumes: tuple[Volume, ...]
    restart_policy: str
    cpu: Decimal
    memory_gb: Decimal
    tags: Mapping[str, str]
    registries: frozenset[str]
    """Servers that it brings a username and a password for."""
    raw: Mapping[str, Any]

    @property
    def images(self) -> tuple[str, ...]:
        """Each image once, in order."""
        return tuple(dict.fromkeys(each.image for each in self.containers))


def read(name: str, body: Any) -> Definition:
    """The definition that a body holds. Raises Refusal where ACI would not take it."""
    _check_name("container group", name)
    properties = _mapping(_mapping(body, "body").get("properties"), "properties")
    if properties.get("osType") not in (None, "Linux"):
        raise _no("OsVersionNotSupported", f"The OS type '{properties['osType']}' of '{name}' is not supported here.")
    policy = properties.get("restartPolicy") or "Always"
    if policy not in RESTART_POLICIES:
        raise _no("InvalidRestartPolicy", f"The restart policy '{policy}' is not one of {', '.join(RESTART_POLICIES)}.")
    volumes = tuple(_volume(each) for each in _sequence(properties.get("volumes"), "volumes"))
    if len(volumes) > VOLUMES_MAX:
        raise _no(
            "InvalidVolumes", f"The container group '{name}' has {len(volumes)} volumes; {VOLUMES_MAX} are allowed."
        )
    main = _sequence(properties.get("containers"), "containers")
    init = _sequence(properties.get("initContainers"), "initContainers")
    if not main or len(main) + len(init) > CONTAINERS_MAX:
        raise _no("InvalidContainers", f"The container group '{name}' must have 1 to {CONTAINERS_MAX} containers.")
    known = {volume.name for volume in volumes}
    containers = tuple(
        _container(each, is_init, known) for is_init, each in [*((True, i) for i in init), *((False, m) for m in main)]
    )
    if len({each.name for each in containers}) < len(containers):
        raise _no("DuplicateContainerName", f"Two containers of the container group '{name}' have the same name.")
    cpu, memory_gb = _sizes(name, main)
    tags = {str(key): str(value) for key, value in _mapping(body.get("tags") or {}, "tags").items()}
    registries = frozenset(
        str(each.get("server"))
        for each in _sequence(properties.get("imageRegistryCredentials"), "imageRegistryCredentials")
        if isinstance(each, Mapping) and each.get("username") and each.get("password")
    )
    return Definition(name, containers, volumes, policy, cpu, memory_gb, tags, registries, body)


def _no(code: str, message: str) -> wording.Refusal:
    """The codes and sentences of this module are ours, except for the limits and GPUs: Azure's are not public."""
    return wording.invalid(code, message)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _no("InvalidRequestContent", f"The request content was invalid: {what} is not an object.")
    return value


def _sequence(value: Any, what: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _no("InvalidRequestContent", f"The request content was invalid: {what} is not an array.")
    return value


def _check_name(what: str, name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 63 or not _NAME.fullmatch(name) or "--" in name:
        raise _no(
            f"Invalid{what.title().replace(' ', '')}Name",
            f"The {what} name '{name}' is invalid: 1 to 63 lower-case letters, digits and single hyphens, and no "
            "hyphen first or last.",
        )


def _volume(raw: Any) -> Volume:
    raw = _mapping(raw, "volume")
    name = raw.get("name")
    if not isinstance(name, str) or not 5 <= len(name) <= 63 or not _NAME.fullmatch(name) or "--" in name:
        raise _no(
            "InvalidVolumeName", f"The volume name '{name}' is invalid: 5 to 63 lower-case letters, digits, hyphens."
        )
    files = {}
    for file, content in _mapping(raw.get("secret") or {}, f"secret of volume {name}").items():
        if "/" in file or file in (".", ".."):
            raise _no("InvalidSecretVolume", f"The file name '{file}' in volume '{name}' is invalid.")
        try:
            files[file] = base64.b64decode(content, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise _no("InvalidSecretVolume", f"The file '{file}' of volume '{name}' is not base64.") from None
    return Volume(name, files)


def _container(raw: Any, is_init: bool, volumes: set[str]) -> ContainerDefinition:
    raw = _mapping(raw, "container")
    name = raw.get("name")
    _check_name("container", name)
    properties = _mapping(raw.get("properties"), f"properties of container {name}")
    image = properties.get("image")
    if not isinstance(image, str) or not image:
        raise _no("InvalidImage", f"The container '{name}' names no image.")
    environment = {}
    for each in _sequence(properties.get("environmentVariables"), "environmentVariables"):
        each = _mapping(each, f"an environment variable of {name}")
        variable = each.get("name", "")
        if not isinstance(variable, str) or not 1 <= len(variable) <= 63 or not _VARIABLE.fullmatch(variable):
            raise _no(
                "InvalidEnvironmentVariable", f"The environment variable name '{variable}' of '{name}' is invalid."
            )
        environment[variable] = str(each.get("value") or each.get("secureValue") or "")
    mounts = []
    for each in _sequence(properties.get("volumeMounts"), "volumeMounts"):
        each = _mapping(each, f"a volume mount of {name}")
        if each.get("name") not in volumes:
            raise _no(
                "InvalidVolumeMount", f"The volume mount '{each.get('name')}' of container '{name}' names no volume."
            )
        mounts.append(Mount(each["name"], str(each.get("mountPath", ""))))
    command = tuple(str(each) for each in _sequence(properties.get("command"), "command"))
    return ContainerDefinition(str(name), image, command, environment, tuple(mounts), is_init, raw)


def _sizes(group: str, containers: Sequence[Any]) -> tuple[Decimal, Decimal]:
    asked = []
    for each in containers:
        resources = _mapping(each["properties"].get("resources") or {}, f"resources of {each['name']}")
        requests = _mapping(resources.get("requests") or {}, f"requests of {each['name']}")
        limits = _mapping(resources.get("limits") or {}, f"limits of {each['name']}")
        if requests.get("gpu") or limits.get("gpu"):
            raise _no("GpuNotSupported", f"The container '{each['name']}' asks for a GPU: ACI has none any more.")
        cpu, memory = _figure(requests, "cpu", each["name"]), _figure(requests, "memoryInGB", each["name"])
        asked.append((each["name"], limits, cpu, memory))
    cpu_total = sum((cpu for *_, cpu, _ in asked), Decimal(0))
    memory_total = sum((memory for *_, memory in asked), Decimal(0))
    for name, limits, *_ in asked:
        for kind, field, total in (("Cpu", "cpu", cpu_total), ("Memory", "memoryInGB", memory_total)):
            if limits.get(field) is not None and (limit := _figure(limits, field, name)) > total:
                raise wording.limit_above_request(kind, limit, name, total, group)
    return (
        sum(((cpu.quantize(CPU_STEP, ROUND_DOWN)) for *_, cpu, _ in asked), Decimal(0)),
        sum(((memory.quantize(MEMORY_STEP_GB, ROUND_DOWN)) for *_, memory in asked), Decimal(0)),
    )


def _figure(sizes: Mapping[str, Any], field: str, container: str) -> Decimal:
    value = sizes.get(field)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        raise _no("InvalidResourceRequest", f"The container '{container}' requests no {field} above 0.")
    return Decimal(str(value))
