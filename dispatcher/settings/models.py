"""The sections of dispatcher.yaml, and what each becomes in the core.

Decides the keys, their types, bounds and defaults (the core's own, wherever it has one). Knows nothing of files,
environment or commands; settings stop here: behind this door there are only the core's frozen values.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dispatcher.core.budgets import Budget, Scope, WhenExhausted
from dispatcher.core.jobs import BACKOFF_FIRST, ReportsTo
from dispatcher.core.policy import (
    Autoscaling,
    CircuitPolicy,
    GuardAction,
    GuardPolicy,
    NodePoolPolicy,
    Policy,
    ShareBy,
    VirtualNodePolicy,
)
from dispatcher.core.pricing import NodePrice, Rates
from dispatcher.core.units import Money, Resources
from dispatcher.core.windows import BusinessHours, WindowKind
from dispatcher.settings.azure import AzureSettings
from dispatcher.settings.kubernetes import KubernetesSettings
from dispatcher.settings.placements import ProfileName, placement_profile
from dispatcher.settings.price_book import DEFAULT_REGION, PAY_AS_YOU_GO, BadPriceBook, PriceBook, price_book
from dispatcher.settings.tasks import Section, TaskSettings
from dispatcher.settings.values import (
    ClockTime,
    Count,
    Cpu,
    DnsLabel,
    Duration,
    Memory,
    Percent,
    Port,
    PositiveCount,
    PositiveDuration,
    PositiveUsd,
    Subnets,
    Tenant,
    Usd,
    Zone,
    parse_duration,
)

ENV_PREFIX = "BURST_"
ENV_DELIMITER = "__"
DEFAULT_TENANT = "default"
_POLICY = Policy(tasks={})
_NODES = VirtualNodePolicy()
_AUTOSCALING = Autoscaling()


class ServiceSettings(Section):
    """The service itself: how it logs, and where it is asked how it is doing."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: `debug` tells most, `error` least."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto` is for people on a terminal and JSON lines everywhere else."""
    web_host: str = Field(default="0.0.0.0", min_length=1, examples=["0.0.0.0"])  # noqa: S104 - a pod's own network
    """The address of the HTTP service (health, metrics, status) in a cluster; local mode is on 127.0.0.1 alone."""
    web_port: Port = 8480
    """The port of the HTTP service in a cluster; local mode has its own."""
    event_log: Path | None = Field(default=None, examples=["/var/log/burst-dispatcher/events.jsonl"])
    """A file for every decision, as JSON lines; empty: only the log has them. Local mode has its own."""


QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$")]
"""As Service Bus takes it."""


class QueueSettings(Section):
    """One queue, and what may come from it."""

    name: QueueName = Field(examples=["work"])
    """The queue's name on the broker."""
    tasks: tuple[str, ...] = Field(min_length=1, examples=["[report]"])
    """The tasks that messages on it may name."""
    tenants: tuple[Tenant, ...] = Field(default=(DEFAULT_TENANT,), min_length=1, examples=["[default]"])
    """The tenants that messages on it may name; one that names none is taken only where exactly one is listed."""
    priority_max: Count = 0
    """The highest priority that a message may ask for."""
    reply_to: tuple[QueueName, ...] = Field(default=(), examples=["[outcomes]"])
    """The queues on which a sender may ask to hear how its item ended; none: it may not ask."""


class ServiceBusSettings(Section):
    """The broker, as the dispatcher reaches and uses it."""

    connection_string: SecretStr | None = Field(default=None, repr=False)
    """A secret: give it as BURST_SERVICE_BUS__CONNECTION_STRING or as a mounted file. Local mode makes its own."""
    connection_string_file: Path | None = Field(
        default=None, examples=["/var/run/secrets/servicebus/connection-string"]
    )
    """A file that holds nothing but the connection string; it is read again whenever it may have changed."""
    namespace: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        examples=["orders.servicebus.windows.net"],
    )
    """The namespace's host name, where an identity opens it and no connection string is used."""
    identity: Literal["workload", "managed", "cli"] = "workload"
    """Whose tokens open the namespace: the pod's workload identity, the machine's managed one, or the CLI's login."""
    client_id: str | None = Field(default=None, min_length=1, examples=["11111111-2222-3333-4444-555555555555"])
    """Which identity, where there are several; empty: what the environment says."""
    custom_endpoint: str | None = Field(
        default=None, pattern=r"^sb://[A-Za-z0-9.\[\]:-]+/?$", examples=["sb://10.1.2.3:5671"]
    )
    """Where to connect instead of the namespace's own address; the certificate must name this host."""
    ca_file: Path | None = Field(default=None, examples=["/etc/ssl/certs/company-ca.pem"])
    """Certificates (PEM) to trust in place of the public authorities."""
    operations_per_second: PositiveCount | None = None
    """At most so many messages and requests a second, all queues together; empty: as many as there are."""
    lock_duration: PositiveDuration = Field(default=_POLICY.lock_duration, le=parse_duration("5m"), examples=["60s"])
    """The queues' own lock duration; Service Bus takes at most 5 minutes."""
    max_delivery_count: PositiveCount = 100
    """The queues' own bound on deliveries; generous, so that the broker dead-letters nothing by itself."""
    duplicate_detection_window: Duration = Field(default=parse_duration("1d"), le=parse_duration("7d"))
    """For how long the queues drop a second message of the same id; Service Bus takes at most 7 days. `0s`: never."""
    time_to_live: PositiveDuration | None = Field(default=None, examples=["14d"])
    """The queues' own default time to live; empty: messages do not end by themselves."""
    dead_letter_expired: bool = True
    """Whether the queues dead-letter what outlives its time to live."""
    item_bytes_max: int = Field(default=16 * 1024, ge=256, le=256 * 1024, examples=["16384"])
    """Longest body of a message; a longer one is dead-lettered with advice."""


class ReportSettings(Section):
    """How pods that carry several items report each (docs/worker.md)."""

    queue: QueueName | None = Field(default=None, examples=["reports"])
    """The queue that they report to; empty: no task may have more than one item in a pod. Local mode makes it."""
    secret: DnsLabel = "burst-reports"  # noqa: S105 - the name of a Secret
    """The Secret, in the namespace of each such task, whose key `connection-string` lets a pod send to that queue."""
    grace: PositiveDuration = Field(default=_POLICY.report_grace)
    """How long after a pod has ended a report of it may still be on its way; then an item without one is done again."""


class ReserveSettings(Section):
    """Processor and memory that are left alone."""

    cpu: Cpu = 0
    """Processor time, for example `500m`."""
    memory: Memory = 0
    """Memory, for example `1Gi`."""

    def resources(self) -> Resources:
        """The core's value."""
        return Resources(self.cpu, self.memory)


class AutoscalingSettings(Section):
    """Nodes that an autoscaler starts and removes; how many the work deserves is reckoned (docs/routing.md)."""

    enabled: bool = False
    """false: there are as many nodes as there are, and none is asked for."""
    nodes_min: Count = _AUTOSCALING.nodes_min
    """The fewest nodes that are ever wanted."""
    nodes_max: PositiveCount = _AUTOSCALING.nodes_max
    """The most nodes that are ever wanted."""
    start_up: PositiveDuration = Field(default=_AUTOSCALING.start_up)
    """From the request for a node until a pod runs there."""
    scale_down_after: PositiveDuration = Field(default=_AUTOSCALING.scale_down_after)
    """How long the autoscaler keeps a node that nobody needs."""

    @model_validator(mode="after")
    def _min_before_max(self) -> Self:
        if self.nodes_min > self.nodes_max:
            raise ValueError("nodes_min is more than nodes_max; make the second at least as many")
        return self

    def policy(self) -> Autoscaling | None:
        """The core's value; None where it is off."""
        if not self.enabled:
            return None
        return Autoscaling(self.nodes_min, self.nodes_max, self.start_up, self.scale_down_after)


class NodePoolSettings(Section):
    """How much of the real nodes is ours."""

    keep_back: ReserveSettings = ReserveSettings()
    """Left free on every node for other workloads."""
    pods_max: PositiveCount | None = None
    """At most so many of our pods on all nodes together; empty: whatever fits."""
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    """Nodes that come and go."""

    def policy(self, price: NodePrice | None = None) -> NodePoolPolicy:
        """The core's value."""
        return NodePoolPolicy(
            self.keep_back.resources(), self.pods_max, price=price, autoscaling=self.autoscaling.policy()
        )


class VirtualNodeSettings(Section):
    """What Azure allows on the virtual node."""

    enabled: bool = True
    """`false`: never spill; everything waits for the nodes."""
    profile: ProfileName = _NODES.profile.name
    """What it is like: `virtual-node-v1` is the AKS add-on, `virtual-node-v2` virtual nodes on Azure Container
    Instances; or a YAML file of your own (docs/virtual-node-rules.md)."""
    subnet: Subnets = Field(default=(IPv4Network("10.240.0.0/24"),), examples=["10.240.0.0/24"])
    """The delegated subnet as a CIDR (or a list of them); Azure keeps five addresses of each."""
    address_headroom: Count = _NODES.address_headroom
    """Addresses that the dispatcher leaves alone."""
    release_hold: Duration = Field(default=_NODES.release_hold)
    """How long an address is not counted on after its container group is gone."""
    groups_max: Count = _NODES.groups_max
    """Azure's quota of container groups in the region."""
    cores_max: Count = _NODES.cores_max
    """Azure's quota of cores in the region."""
    creates_per_5min: Count = _NODES.creates_per_5min
    """Azure's limit on group creates in five minutes."""
    creates_per_hour: Count = _NODES.creates_per_hour
    """Azure's limit on group creates in an hour."""
    deletes_per_5min: Count = _NODES.deletes_per_5min
    """Azure's limit on group deletes in five minutes."""
    deletes_per_hour: Count = _NODES.deletes_per_hour
    """Azure's limit on group deletes in an hour."""
    rate_window_short: PositiveDuration = Field(default=_NODES.rate_windows[0])
    """The shorter window of these four limits: Azure's five minutes."""
    rate_window_long: PositiveDuration = Field(default=_NODES.rate_windows[1], le=parse_duration("1h"))
    """The longer window of these four limits: Azure's hour, and no longer than that."""
    tail: Duration = Field(default=_NODES.tail)
    """By how much a group may outlive its pod and bill on; reserved for every group."""
    pod_cpu_max: Cpu = 4000
    """The largest pod that the region gives without a quota request, processor."""
    pod_memory_max: Memory = 16 * 10**9
    """The largest pod that the region gives without a quota request, memory."""

    @property
    def addresses(self) -> int:
        """Addresses that the subnets give: Azure keeps five of each."""
        return sum(network.num_addresses - 5 for network in self.subnet)

    def policy_of_place(self) -> VirtualNodePolicy:
        """What is known of the place alone: its profile."""
        return VirtualNodePolicy(profile=placement_profile(self.profile).place)

    def policy(self, rates: Rates) -> VirtualNodePolicy:
        """The core's value. Several subnets count as the smallest single one with as many addresses, less the rest."""
        prefix = next(bits for bits in range(32, -1, -1) if 2 ** (32 - bits) - 5 >= self.addresses)
        surplus = 2 ** (32 - prefix) - 5 - self.addresses
        return VirtualNodePolicy(
            subnet_prefix=prefix,
            address_headroom=self.address_headroom + surplus,
            release_hold=self.release_hold,
            groups_max=self.groups_max,
            cores_max=self.cores_max,
            creates_per_5min=self.creates_per_5min,
            creates_per_hour=self.creates_per_hour,
            deletes_per_5min=self.deletes_per_5min,
            deletes_per_hour=self.deletes_per_hour,
            rate_windows=(self.rate_window_short, self.rate_window_long),
            rates=rates,
            tail=self.tail,
            profile=placement_profile(self.profile).place,
        )


class PriceSettings(Section):
    """What Azure charges. What is not said here is as in the price book; `dispatcher prices` shows what comes of it."""

    region: str = Field(default=DEFAULT_REGION, min_length=1, examples=["eastus"])
    """Whose prices: a region of the price book. `default`: the round figures that the product was described with."""
    file: Path | None = Field(default=None, examples=["prices.yaml"])
    """A price book of your own, beside this file, laid over the shipped one."""
    virtual_node_plan: str = Field(default=PAY_AS_YOU_GO, min_length=1, examples=["savings_plan_1y"])
    """Under which commitment container groups are paid: a plan of the price book."""
    node_plan: str = Field(default=PAY_AS_YOU_GO, min_length=1, examples=["reservation_1y"])
    """Under which commitment nodes are paid, `spot` included: a plan of the price book."""
    node_size: str = Field(default="D2s_v5", min_length=1, examples=["D4s_v5"])
    """The size of one node of the pool, by its name in the price book; for comparisons: it is paid for anyway."""
    per_cpu_second_usd: PositiveUsd | None = Field(default=None, examples=["0.000012"])
    """Dollars for one vCPU for one second, whatever region and plan say."""
    per_gb_second_usd: PositiveUsd | None = Field(default=None, examples=["0.0000013"])
    """Dollars for one GB of memory for one second, whatever region and plan say."""
    node_hour_usd: PositiveUsd | None = Field(default=None, examples=["0.096"])
    """Dollars for one node for one hour, whatever region and plan say."""

    @model_validator(mode="after")
    def _all_is_in_the_book(self) -> Self:
        try:
            self.rates()
            self.node()
        except BadPriceBook as error:
            raise ValueError(str(error)) from None
        return self

    @cached_property
    def book(self) -> PriceBook:
        """The price book that counts, as it was when this was read. Raises BadPriceBook."""
        return price_book(self.file)

    def rates(self) -> Rates:
        """The core's value. Raises BadPriceBook where no price of container groups is known."""
        cpu, memory = self.per_cpu_second_usd, self.per_gb_second_usd
        if cpu is not None and memory is not None:
            return Rates(Money.from_usd(cpu), Money.from_usd(memory))
        rates = self.book.rates(self.region, self.virtual_node_plan)
        return Rates(
            rates.per_cpu_second if cpu is None else Money.from_usd(cpu),
            rates.per_gb_second if memory is None else Money.from_usd(memory),
        )

    def node(self) -> NodePrice | None:
        """What one node costs; None: the book has no reading for the region. Raises BadPriceBook."""
        found = self.book.node(self.region, self.node_size, self.node_plan)
        if self.node_hour_usd is None:
            return found
        room = self.book.sizes[self.node_size]
        return NodePrice(self.node_size, Money.from_usd(self.node_hour_usd), Resources(room.cpu, room.memory))


class Weekday(StrEnum):
    """A day of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_COUNTS = {
    Scope.ALL: "everything",
    Scope.TENANT: "tenants",
    Scope.TASK: "tasks",
    Scope.TENANT_TASK: "tasks of tenants",
}


class BusinessHoursSettings(Section):
    """The hours that a budget counts."""

    days: tuple[Weekday, ...] = Field(
        default=(Weekday.MON, Weekday.TUE, Weekday.WED, Weekday.THU, Weekday.FRI), min_length=1, examples=["[mon, tue]"]
    )
    """Days of the week on which they begin."""
    opens: ClockTime = BusinessHours().opens
    """When they begin, by the budget's time zone."""
    closes: ClockTime = BusinessHours().closes
    """When they end; not after `opens`: on the following day."""

    @model_validator(mode="after")
    def _opens_at_all(self) -> Self:
        if self.opens == self.closes:
            raise ValueError(
                f"opens and closes at {self.opens:%H:%M}, so that it never opens; write another time, or leave "
                "business_hours out to count all hours"
            )
        return self

    def hours(self) -> BusinessHours:
        """The core's value."""
        return BusinessHours(frozenset(list(Weekday).index(day) for day in self.days), self.opens, self.closes)


class BudgetSettings(Section):
    """A limit on spending on the virtual node."""

    name: DnsLabel
    """What status and logs call it."""
    scope: Scope = Scope.ALL
    """`all` counts everything; `tenant`, `task` and `tenant_task` count one, or each by itself where none is named."""
    tenant: str | None = Field(default=None, min_length=1, examples=["default"])
    """The tenant that it is for, with scope `tenant` or `tenant_task`."""
    task: str | None = Field(default=None, min_length=1, examples=["report"])
    """The task that it is for, with scope `task` or `tenant_task`."""
    window: WindowKind = WindowKind.DAY
    """`hour`, `day`, `week` (from Monday) or `month`, by the calendar of the time zone."""
    time_zone: Zone = ZoneInfo("UTC")
    """Whose calendar."""
    business_hours: BusinessHoursSettings | None = None
    """Only what is billed in these hours counts; empty: all hours."""
    limit_usd: Usd
    """Most dollars in one window."""
    warn_at_percent: tuple[Percent, ...] = Field(default=(), examples=["[80, 95]"])
    """When so much of the limit is spent an event says so, once a window."""
    when_exhausted: WhenExhausted = WhenExhausted.NODES_ONLY
    """What becomes of work when the limit is spent: `nodes_only`, `hold` until the next window, or `dead_letter`."""

    @model_validator(mode="after")
    def _names_go_with_the_scope(self) -> Self:
        if self.tenant is not None and self.scope not in (Scope.TENANT, Scope.TENANT_TASK):
            raise ValueError(f"names a tenant but counts {_COUNTS[self.scope]}; write scope: tenant, or take it out")
        if self.task is not None and self.scope not in (Scope.TASK, Scope.TENANT_TASK):
            raise ValueError(f"names a task but counts {_COUNTS[self.scope]}; write scope: task, or take it out")
        return self

    def budget(self) -> Budget:
        """The core's value."""
        return Budget(
            self.name,
            Money.from_usd(self.limit_usd),
            self.scope,
            self.window,
            self.time_zone,
            self.tenant,
            self.task,
            self.business_hours.hours() if self.business_hours else None,
            tuple(sorted(self.warn_at_percent)),
            self.when_exhausted,
        )


class FairnessSettings(Section):
    """Who goes first where there is not room for all; the weights of tenants are `tenant_weights`."""

    share_by: ShareBy = _POLICY.share_by
    """What shares are counted in: `pods`, or `cost` (what pods would cost a second: large ones count for more)."""
    priority_ageing: Duration = Field(default=_POLICY.priority_ageing or parse_duration("0s"), examples=["10m"])
    """For every so long that work has waited it counts as one priority higher; `0s`: priorities are absolute."""
    tenant_pods_max: dict[str, PositiveCount] = Field(default_factory=dict, examples=["{acme: 20}"])
    """Most pods of a tenant in flight, all its tasks together; a tenant that is not named has no bound."""


class CircuitSettings(Section):
    """When the virtual node is left alone after failures of its own."""

    failures: PositiveCount = CircuitPolicy().failures
    """So many in a row open the circuit."""
    cool_down_min: PositiveDuration = Field(default=CircuitPolicy().cool_down_min)
    """How long it is left alone at first."""
    cool_down_max: PositiveDuration = Field(default=CircuitPolicy().cool_down_max)
    """The pause doubles up to this while probes fail."""

    @model_validator(mode="after")
    def _min_before_max(self) -> Self:
        if self.cool_down_min > self.cool_down_max:
            raise ValueError("cool_down_min is longer than cool_down_max; make the second at least as long")
        return self

    def policy(self) -> CircuitPolicy:
        """The core's value."""
        return CircuitPolicy(self.failures, self.cool_down_min, self.cool_down_max)


class GuardSettings(Section):
    """When operators are told that work on the virtual node is steady, and would be cheaper on nodes."""

    duty_percent: Percent = GuardPolicy().duty_percent
    """The rule of thumb: what runs more than so much of the time belongs on nodes."""
    window: PositiveDuration = Field(default=GuardPolicy().window)
    """Over which that is measured."""
    seen_at_least: PositiveDuration = Field(default=GuardPolicy().seen_at_least)
    """Nothing is said before so much was seen."""
    action: GuardAction = GuardPolicy().action
    """advise: tell, with nodes and money; stop: such work spills no more and waits for nodes."""

    def policy(self) -> GuardPolicy:
        """The core's value."""
        return GuardPolicy(self.duty_percent, self.window, self.seen_at_least, self.action)


class RetrySettings(Section):
    """How often and when an item is tried again."""

    platform_retries_max: Count = _POLICY.platform_retries_max
    """Failures of the platform that an item may meet before a person must look."""
    delay_min: Duration = Field(default=_POLICY.retry_delay_min)
    """The wait before the first retry."""
    delay_max: Duration = Field(default=_POLICY.retry_delay_max)
    """The wait doubles up to this."""

    @model_validator(mode="after")
    def _min_before_max(self) -> Self:
        if self.delay_min > self.delay_max:
            raise ValueError("delay_min is longer than delay_max; make the second at least as long")
        return self


class TimingSettings(Section):
    """How often the dispatcher looks, and how much it takes on at once."""

    cycle_pause_min: Duration = Field(default=parse_duration("50ms"), examples=["50ms"])
    """Shortest pause between two cycles, however much news there is."""
    cycle_stuck_after: PositiveDuration = Field(default=parse_duration("2m"), examples=["2m"])
    """A cycle that takes longer makes the service unhealthy."""
    stop_timeout: PositiveDuration = Field(default=parse_duration("20s"), examples=["20s"])
    """Longest time that stopping may take."""
    lock_hold_max: PositiveDuration = Field(default=_POLICY.lock_hold_max, examples=["10s"])
    """How long a received item waits under its lock before it is deferred."""
    sweep_every: PositiveDuration = Field(default=_POLICY.sweep_every, examples=["5m"])
    """How often the queue is searched for deferred messages that nothing claims."""
    reply_hold_max: PositiveDuration = Field(default=_POLICY.reply_hold_max, examples=["10m"])
    """How long an outcome is held that its reply queue does not take; then it is given up, and an event says so."""
    lookahead_max: PositiveCount = _POLICY.lookahead_max
    """So many items are known at once; the rest waits on the queue."""
    launches_per_cycle_max: PositiveCount = _POLICY.launches_per_cycle_max
    """Most Jobs launched in one cycle."""
    manifest_bytes_max: int = Field(default=_POLICY.manifest_bytes_max, ge=1024, le=900_000, examples=["100000"])
    """Most bytes that the items of one batch may have together."""


class LocalNodesSettings(Section):
    """The real nodes, as local mode plays them."""

    count: PositiveCount = 1
    """How many nodes."""
    cpu: Cpu = 2000
    """Processor of each; pods are counted by their requests, as on a real node."""
    memory: Memory = 4 * 2**30
    """Memory of each."""
    pods_max: PositiveCount = 30
    """Most pods on each."""


class LocalVirtualNodeSettings(Section):
    """The virtual node, as local mode plays it."""

    start_delay: Duration = Field(default=parse_duration("2s"), examples=["2s"])
    """How long a group takes to start."""
    address_release_lag: Duration = Field(default=parse_duration("30s"), examples=["30s"])
    """How long an address stays taken after its group is gone."""
    groups_max: Count | None = None
    """Most groups at once; more are refused, as Azure does. Empty, here and below: as the dispatcher is told."""
    cores_max: Count | None = None
    """Most cores at once."""
    creates_per_5min: Count | None = None
    """Most creates in five minutes."""
    creates_per_hour: Count | None = None
    """Most creates in an hour."""
    deletes_per_5min: Count | None = None
    """Most deletes in five minutes."""
    deletes_per_hour: Count | None = None
    """Most deletes in an hour."""


class LocalSettings(Section):
    """Everything that only local mode needs: it plays broker, cluster and virtual node on this machine."""

    data_dir: Path = Path("local-data")
    """Where broker, cluster and event log keep their files."""
    web_port: Port = 8480
    """The port of the HTTP service on 127.0.0.1; 0: any free one."""
    broker_port: Port = 5690
    """The port of the embedded broker on 127.0.0.1; 0: any free one."""
    working_dir: Path = Path()
    """Where commands of tasks run, as seen from the folder of this file."""
    job_backoff_min: Duration = Field(default=BACKOFF_FIRST, examples=["10s"])
    """How long the Job controller waits before an index's first retry; it doubles from there. Kubernetes waits 10 s."""
    nodes: LocalNodesSettings = LocalNodesSettings()
    """The real nodes."""
    virtual_node: LocalVirtualNodeSettings = LocalVirtualNodeSettings()
    """The virtual node."""


class Settings(BaseSettings):
    """The whole configuration, as read from both files, mounted secrets and the environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    service: ServiceSettings = ServiceSettings()
    queues: tuple[QueueSettings, ...] = Field(min_length=1, examples=["[{name: work, tasks: [report]}]"])
    service_bus: ServiceBusSettings = ServiceBusSettings()
    reports: ReportSettings = ReportSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    node_pool: NodePoolSettings = NodePoolSettings()
    virtual_node: VirtualNodeSettings | None = None
    azure: AzureSettings | None = None
    prices: PriceSettings = PriceSettings()
    budgets: tuple[BudgetSettings, ...] = ()
    circuit: CircuitSettings = CircuitSettings()
    guard: GuardSettings = GuardSettings()
    retry: RetrySettings = RetrySettings()
    timing: TimingSettings = TimingSettings()
    fairness: FairnessSettings = FairnessSettings()
    tenant_weights: dict[str, PositiveCount] = Field(default_factory=dict, examples=["{default: 1}"])
    local: LocalSettings = LocalSettings()
    tasks: tuple[TaskSettings, ...] = Field(min_length=1, examples=["[{name: report, ...}]"])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed over: `loading` reads the sources, so that each mistake can be told with its place."""
        return (init_settings,)

    def policy(self) -> Policy:
        """Everything that a plan is made under, as the core's frozen value."""
        spills = self.virtual_node is not None and self.virtual_node.enabled
        return Policy(
            tasks={entry.name: entry.task() for entry in self.tasks},
            node_pool=self.node_pool.policy(self.prices.node()),
            virtual_node=self.virtual_node.policy(self.prices.rates()) if self.virtual_node and spills else None,
            budgets=tuple(entry.budget() for entry in self.budgets),
            circuit=self.circuit.policy(),
            guard=self.guard.policy(),
            lookahead_max=self.timing.lookahead_max,
            platform_retries_max=self.retry.platform_retries_max,
            retry_delay_min=self.retry.delay_min,
            retry_delay_max=self.retry.delay_max,
            lock_hold_max=self.timing.lock_hold_max,
            sweep_every=self.timing.sweep_every,
            reply_hold_max=self.timing.reply_hold_max,
            lock_duration=self.service_bus.lock_duration,
            manifest_bytes_max=self.timing.manifest_bytes_max,
            report_grace=self.reports.grace,
            reports_to=ReportsTo(secret=self.reports.secret) if self.reports.queue else None,
            launches_per_cycle_max=self.timing.launches_per_cycle_max,
            share_by=self.fairness.share_by,
            priority_ageing=self.fairness.priority_ageing or None,
            tenant_pods_max=dict(self.fairness.tenant_pods_max),
            tenant_weights=dict(self.tenant_weights),
        )
