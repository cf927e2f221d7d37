"""What a record may be called and hold: as strict as the Kubernetes API is with a ConfigMap. Pure.

Decides what is refused, in a sentence, so that what the embedded store and the simulator take, a cluster takes too.
Figures: ``ValidateConfigMap`` (1 MiB of keys and values) and ``TotalAnnotationSizeLimitB`` (256 KiB) of the API server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DATA_BYTES_MAX = 1024 * 1024
ANNOTATIONS_BYTES_MAX = 256 * 1024
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")


def record_fault(name: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Why there can be no such record; empty where there can."""
    if not _NAME.match(name):
        return f"{name!r} is no object name: use lower-case letters, digits, '-' and '.', at most 253"
    for key in data:
        if not _KEY.match(key) or key in (".", ".."):
            return f"{key!r} in record {name} is no key: use letters, digits, '-', '_' and '.'"
    size = _bytes(data)
    if size > DATA_BYTES_MAX:
        return f"the data of record {name} is {size} bytes, more than the {DATA_BYTES_MAX} that an object may hold"
    return annotations_fault(annotations)


def annotations_fault(annotations: Mapping[str, str]) -> str:
    """Why no object can have such annotations; empty where one can."""
    size = _bytes(annotations)
    if size > ANNOTATIONS_BYTES_MAX:
        return f"the annotations are {size} bytes, more than the {ANNOTATIONS_BYTES_MAX} that an object may hold"
    return ""


def _bytes(entries: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in entries.items())
