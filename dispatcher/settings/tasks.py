"""The tasks of tasks.yaml: kinds of work, as operators define them.

Decides what a task may say and what one pod of it may be. What tasks, queues and budgets must be to each other stands
in `checks`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dispatcher.core.units import Resources
from dispatcher.core.work import Placement, Task
from dispatcher.settings.values import (
    Count,
    Cpu,
    DnsLabel,
    Duration,
    ItemsPerPod,
    Memory,
    PositiveCount,
    PositiveDuration,
)

RESULT_REF_NAMES = ("id", "task", "tenant")
RESERVED_ENV = ("JOB_COMPLETION_INDEX",)
RESERVED_ENV_PREFIX = "BURST_"
RESERVED_LABEL_PREFIXES = ("burst-dispatcher.io/", "app.kubernetes.io/managed-by", "batch.kubernetes.io/")
OWN_ENV = (
    "BURST_ITEMS_DIR", "BURST_BATCH", "BURST_ATTEMPT", "BURST_STOP_AT", "BURST_POD_UID", "TRACEPARENT", "TRACESTATE",
    "BURST_PODS", "BURST_ITEM_TIMEOUT", "BURST_REPORTS_DIR",
)  # fmt: skip
"""What the dispatcher itself sets in every pod."""

_DEFAULTS = Task(name="-", image="-", command=("-",), requests=Resources(0, 0))
"""The core's own defaults, so that they are written down once."""
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EVENT_TYPE = re.compile(r"[\x21-\x7e]{1,255}")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Section(BaseModel):
    """A part of the configuration: a key that it does not know is a mistake, and it does not change once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True, populate_by_name=True
    )


def _env_names(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not _ENV_NAME.fullmatch(name) or len(name) > 63:
            raise ValueError(f"{name!r} is not a name for a variable; use letters, digits and _, at most 63 of them")
        if name in RESERVED_ENV or name in OWN_ENV:
            raise ValueError(f"{name} is set by the dispatcher itself; choose another name")
    return env


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if key.startswith(RESERVED_LABEL_PREFIXES):
            raise ValueError(f"label {key!r} is set by the dispatcher itself; choose another")
        if not _LABEL_KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a label that Kubernetes takes; write for example team")
        if not _LABEL_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of label {key!r} is none that Kubernetes takes; "
                "use at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit"
            )
    return labels


def _schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        place = f" at {where.lstrip('.')}" if where else ""
        raise ValueError(
            f"is not a valid JSON Schema{place}: {error.message.splitlines()[0][:200]}; see https://json-schema.org"
        ) from None
    return schema


def _not_empty_words(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command[0].strip():
        raise ValueError("the program's name is empty; write for example [python, worker.py]")
    return command


def _event_types(types: tuple[str, ...]) -> tuple[str, ...]:
    for each in types:
        if not _EVENT_TYPE.fullmatch(each):
            raise ValueError(
                f"{each!r} is no type of an event; write printable characters without spaces, "
                "for example com.example.report.requested"
            )
    return types


def _result_ref(text: str | None) -> str | None:
    for name in re.findall(r"\{([^{}]*)\}", text or ""):
        if name not in RESULT_REF_NAMES:
            known = ", ".join(f"{{{each}}}" for each in RESULT_REF_NAMES)
            raise ValueError(f"{{{name}}} is nothing that is filled in; known are {known}")
    if text is not None and not (text.isprintable() and 1 <= len(text) <= 1024):
        raise ValueError("must be one line of 1 to 1024 characters; write for example https://store.example/{id}.pdf")
    return text


class ResourceSettings(Section):
    """What one pod requests; limits are the same."""

    cpu: Cpu = Field(gt=0)
    """Processor time as a Kubernetes quantity: `500m` is half a core."""
    memory: Memory = Field(gt=0)
    """Memory as a Kubernetes quantity: `512Mi`, `1.5G`."""

    def resources(self) -> Resources:
        """The core's value."""
        return Resources(self.cpu, self.memory)


class NamedObject(Section):
    """A ConfigMap or Secret, by name."""

    name: DnsLabel
    optional: bool = False


class EnvFromSettings(Section):
    """Variables from a ConfigMap or a Secret, as Kubernetes writes it."""

    config_map_ref: NamedObject | None = Field(default=None, alias="configMapRef")
    secret_ref: NamedObject | None = Field(default=None, alias="secretRef")
    prefix: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.config_map_ref is None) == (self.secret_ref is None):
            raise ValueError("needs exactly one source; write for example secretRef: {name: mail-password}")
        return self

    def source(self) -> dict[str, object]:
        """The entry of a pod's envFrom."""
        return self.model_dump(by_alias=True, exclude_none=True)


class TaskSettings(Section):
    """One kind of work. A message names it and can change nothing in it but the params."""

    name: DnsLabel
    """What messages call it."""
    image: str = Field(min_length=1, examples=["myregistry.azurecr.io/report:1.4"])
    """The container image; local mode runs the command without it."""
    command: Annotated[tuple[str, ...], AfterValidator(_not_empty_words)] = Field(
        min_length=1, examples=["[python, worker.py]"]
    )
    """The program that a pod runs, always written out."""
    args: tuple[str, ...] = ()
    """Arguments after the command."""
    env: Annotated[dict[str, str], AfterValidator(_env_names)] = Field(default_factory=dict, repr=False)
    """Variables for the program; not the place for secrets."""
    env_from: tuple[EnvFromSettings, ...] = ()
    """Variables from ConfigMaps and Secrets."""
    image_pull_secrets: tuple[DnsLabel, ...] = ()
    """Names of Secrets that open the registry."""
    service_account_name: DnsLabel | None = None
    """The service account of the pods; its token is not mounted."""
    namespace: DnsLabel = "default"
    """Where Jobs and pods are made."""
    resources: ResourceSettings
    """What one pod requests."""
    item_timeout: PositiveDuration = Field(default=_DEFAULTS.item_timeout)
    """How long one try of one item may run."""
    start_deadline: PositiveDuration = Field(default=_DEFAULTS.start_deadline)
    """How long a pod may take to start."""
    backoff_limit: Count = _DEFAULTS.backoff_limit
    """How many failures of its own an item may have and still be tried again."""
    batch_size_max: PositiveCount = _DEFAULTS.batch_size_max
    """Most items in one Job."""
    items_per_pod: ItemsPerPod = Field(default=_DEFAULTS.items_per_pod, examples=["5"])
    """How many items one pod does, one after another; above 1 its command must be the worker kit or speak its protocol
    (docs/worker.md). `auto`: as many as the creates that Azure still allows this hour make necessary."""
    linger: Duration = Field(default=_DEFAULTS.linger)
    """How long a batch waits for company while the task has work in flight."""
    parallelism_max: PositiveCount = _DEFAULTS.parallelism_max
    """Most pods of the task at once."""
    placements: tuple[Placement, ...] = Field(
        default=_DEFAULTS.placements, min_length=1, examples=["[node_pool, virtual_node]"]
    )
    """Where it may run."""
    spill_after: Duration = Field(default=_DEFAULTS.spill_after)
    """How long an item waits for room on the nodes before it may go to the virtual node."""
    start_by: PositiveDuration | None = None
    """The objective: so long after it came an item's pod has started. It then spills as soon as the nodes are not
    expected to have room in time, and no sooner."""
    virtual_pods_max: PositiveCount | None = None
    """Most of its pods on the virtual node at once; empty: whatever fits."""
    params_schema: Annotated[dict[str, Any] | None, AfterValidator(_schema)] = None
    """A JSON Schema that an item's params must satisfy; an item that does not is dead-lettered at once."""
    event_types: Annotated[tuple[str, ...], AfterValidator(_event_types)] = ()
    """Types of CloudEvents that are work for it; events whose type is the task's name are work for it too."""
    result_ref: Annotated[str | None, AfterValidator(_result_ref)] = Field(
        default=None, examples=["https://store.example/reports/{id}.pdf"]
    )
    """Where an item's result lies, told to whoever asks for the outcome: {id}, {task} and {tenant} are filled in."""
    labels: Annotated[dict[str, str], AfterValidator(_labels)] = Field(default_factory=dict)
    """Labels on Jobs and pods."""

    def task(self) -> Task:
        """The core's value."""
        return Task(
            name=self.name,
            image=self.image,
            command=self.command,
            requests=self.resources.resources(),
            args=self.args,
            env=dict(self.env),
            env_from=tuple(entry.source() for entry in self.env_from),
            image_pull_secrets=self.image_pull_secrets,
            service_account_name=self.service_account_name,
            namespace=self.namespace,
            labels=dict(self.labels),
            item_timeout=self.item_timeout,
            start_deadline=self.start_deadline,
            backoff_limit=self.backoff_limit,
            batch_size_max=self.batch_size_max,
            items_per_pod=self.items_per_pod,
            linger=self.linger,
            parallelism_max=self.parallelism_max,
            placements=tuple(dict.fromkeys(self.placements)),
            spill_after=self.spill_after,
            start_by=self.start_by,
            virtual_pods_max=self.virtual_pods_max,
            params_schema=self.params_schema,
            event_types=self.event_types,
            result_ref=self.result_ref,
        )
