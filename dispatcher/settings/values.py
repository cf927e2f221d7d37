"""How single values are written in the configuration: durations, quantities, dollars, subnets, time zones, names.

Decides what each may look like. Every refusal is a ValueError that reads "what is wrong; what to write instead".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import IPv4Network, ip_network
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, TypeAdapter, WithJsonSchema

from dispatcher.core.units import cpu_millis, memory_bytes
from dispatcher.core.work import TENANT_PATTERN

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION_MAX = timedelta(days=400)
_ISO = TypeAdapter(timedelta)
_TENANT = re.compile(TENANT_PATTERN)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_LABEL_LENGTH_MAX = 63
_SUBNET_PREFIX_MAX = 29
"""Azure keeps five addresses of a subnet for itself: below /29 none is left."""


def parse_duration(value: Any) -> timedelta:
    """Reads ``30s``, ``5m``, ``1h30m``, ``250ms`` or ISO 8601 (``PT5M``)."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is not a duration; write for example 30s, 5m, 1h or PT5M")  # noqa: TRY004 - pydantic collects ValueErrors
    text = str(value).strip()
    if text == "0":
        return timedelta(0)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"{text} has no unit; write {text}s for seconds or {text}m for minutes")
    if text.startswith("P"):
        span = _iso(text)
    elif re.fullmatch(f"({_DURATION.pattern})+", text):
        span = sum((_UNIT[unit] * float(count) for count, unit in _DURATION.findall(text)), start=timedelta(0))
    else:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m, 1h or PT5M")
    if not timedelta(0) <= span <= _DURATION_MAX:
        raise ValueError(f"{text} is out of range; write a duration between 0s and {_DURATION_MAX.days}d")
    return span


def _iso(text: str) -> timedelta:
    try:
        return _ISO.validate_python(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an ISO 8601 duration; write for example PT30S, PT5M or PT1H") from None


def duration_text(span: timedelta) -> str:
    """A duration as it is written in the configuration: the largest unit that divides it."""
    for name in ("d", "h", "m", "s", "ms"):
        if not span % _UNIT[name]:
            return f"{span // _UNIT[name]}{name}"
    return f"{span.total_seconds()}s"


def _more_than_nothing(span: timedelta) -> timedelta:
    if not span:
        raise ValueError("must be longer than nothing; write for example 30s")
    return span


def _quantity(read: Callable[[str], int], example: str) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"{value!r} is not a Kubernetes quantity; write for example {example}")  # noqa: TRY004 - as above
        try:
            amount = read(str(value))
        except ValueError:
            raise ValueError(f"{str(value)!r} is not a Kubernetes quantity; write for example {example}") from None
        return amount

    return parse


def _dollars(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().removeprefix("$")
    return value


def _finite(usd: Decimal) -> Decimal:
    if not usd.is_finite():
        raise ValueError(f"{usd} is not an amount; write dollars, for example 25.00")
    return usd


def parse_subnets(value: Any) -> tuple[IPv4Network, ...]:
    """Reads one CIDR or a list of them."""
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise ValueError("names no subnet; write for example 10.240.0.0/24")
    return tuple(_subnet(entry) for entry in entries)


def _subnet(entry: Any) -> IPv4Network:
    if isinstance(entry, IPv4Network):
        return entry
    example = "write a CIDR, for example 10.240.0.0/24"
    if not isinstance(entry, str) or "/" not in entry:
        raise ValueError(f"{entry!r} is not a subnet; {example}")
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        raise ValueError(f"{entry!r} is not a subnet; {example}") from None
    if not isinstance(network, IPv4Network):
        raise ValueError(f"{entry} is IPv6, which container groups do not use; {example}")  # noqa: TRY004 - as above
    if str(network) != entry:
        raise ValueError(f"{entry} has host bits set; write {network}")
    if network.prefixlen > _SUBNET_PREFIX_MAX:
        raise ValueError(f"{entry} has no usable address (Azure keeps five); write /{_SUBNET_PREFIX_MAX} or larger")
    return network


def _zone(value: Any) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    name = str(value)
    known = available_timezones()
    if name in known:
        return ZoneInfo(name)
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    remedy = f"did you mean {close[0]}?" if close else "write for example UTC or Europe/Berlin"
    raise ValueError(f"there is no time zone {name!r}; {remedy}")


def dns_label(name: str) -> str:
    """Holds a name to what Kubernetes takes for a label: RFC 1123."""
    if len(name) > _DNS_LABEL_LENGTH_MAX:
        fault = f"{name!r} has {len(name)} characters and Kubernetes takes {_DNS_LABEL_LENGTH_MAX}"
        raise ValueError(f"{fault}; choose a shorter name")
    if not _DNS_LABEL.fullmatch(name):
        usable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "report"
        raise ValueError(
            f"{name!r} is not a name that Kubernetes takes (small letters, digits and - inside); write {usable}"
        )
    return name


def tenant_name(name: str) -> str:
    """Holds a tenant to what a message can name."""
    if not _TENANT.fullmatch(name):
        usable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:63].strip("-._") or "acme"
        raise ValueError(
            f"{name!r} is no tenant that a message can name (letters, digits, -, _ and . inside); write {usable}"
        )
    return name


def parse_clock_time(value: Any) -> time:
    """Reads ``08:00``. YAML takes a bare ``18:00`` for a number in base 60, which is read back as what was meant."""
    if isinstance(value, time):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str) and re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", value.strip()):
        hour, minute = value.strip().split(":")
        return time(int(hour), int(minute))
    raise ValueError(f"{value!r} is not a time of day; write for example '08:00' or '18:30'")


def _written(pattern: str, *also: dict[str, Any], **more: Any) -> WithJsonSchema:
    """How the published schema says what a text looks like, and what else is taken in its place."""
    text = {"type": "string", "pattern": f"^{pattern}$", **more}
    return WithJsonSchema({"anyOf": [text, *also]} if also else text)


_A_DURATION = _written(r"(0|P.+|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)", {"const": 0})
_A_QUANTITY = _written(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?", {"type": "number", "minimum": 0})
_A_SUBNET = {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$"}

ClockTime = Annotated[
    time,
    BeforeValidator(parse_clock_time),
    PlainSerializer(lambda clock: f"{clock:%H:%M}", when_used="json"),
    Field(examples=["'08:00'"]),
    _written("([01]?[0-9]|2[0-3]):[0-5][0-9]"),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, when_used="json"),
    Field(examples=["30s"]),
    _A_DURATION,
]
PositiveDuration = Annotated[Duration, AfterValidator(_more_than_nothing)]
Cpu = Annotated[
    int,
    BeforeValidator(_quantity(cpu_millis, "500m or 2")),
    PlainSerializer(lambda millis: f"{millis}m", when_used="json"),
    Field(ge=0, examples=["500m"]),
    _A_QUANTITY,
]
Memory = Annotated[
    int, BeforeValidator(_quantity(memory_bytes, "512Mi or 1.5G")), Field(ge=0, examples=["512Mi"]), _A_QUANTITY
]
Usd = Annotated[
    Decimal,
    BeforeValidator(_dollars),
    AfterValidator(_finite),
    Field(ge=0, examples=["25.00"]),
    _written(r"\$?[0-9]+(\.[0-9]+)?", {"type": "number", "minimum": 0}),
]
PositiveUsd = Annotated[Usd, Field(gt=0)]
"""A price: nothing is free here, and a price of zero would let every budget be passed unseen."""
Subnets = Annotated[
    tuple[IPv4Network, ...],
    BeforeValidator(parse_subnets),
    Field(examples=["10.240.0.0/24"]),
    WithJsonSchema({"anyOf": [_A_SUBNET, {"type": "array", "minItems": 1, "items": _A_SUBNET}]}),
]
Zone = Annotated[
    ZoneInfo,
    BeforeValidator(_zone),
    PlainSerializer(lambda zone: zone.key, when_used="json"),
    Field(examples=["UTC"]),
    WithJsonSchema({"type": "string"}),
]
DnsLabel = Annotated[
    str,
    AfterValidator(dns_label),
    Field(examples=["report"]),
    _written("[a-z0-9]([-a-z0-9]*[a-z0-9])?", maxLength=_DNS_LABEL_LENGTH_MAX),
]
Tenant = Annotated[str, AfterValidator(tenant_name), Field(examples=["acme"]), _written(TENANT_PATTERN)]
Count = Annotated[int, Field(ge=0, examples=["100"])]
PositiveCount = Annotated[int, Field(ge=1, examples=["100"])]
Percent = Annotated[int, Field(ge=1, le=100, examples=["80"])]
Port = Annotated[int, Field(ge=0, le=65_535, examples=["8480"])]


def parse_items_per_pod(value: Any) -> int | None:
    """Reads a number of items, or ``auto``, which is None."""
    if value is None or value == "auto":
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise ValueError(f"{value!r} is no number of items; write a whole number from 1, or auto")
    return int(text)


ItemsPerPod = Annotated[
    int | None,
    BeforeValidator(parse_items_per_pod),
    PlainSerializer(lambda count: "auto" if count is None else count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]
"""How many items a pod does; None: ``auto``."""
