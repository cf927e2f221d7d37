"""Stands in for the SDK's `servicebus_preparer`: decorators that say what a test needs.

The real ones create it in Azure, one after the other. These gather what is asked for, and start one broker with
all of it just before the test.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

from dispatcher.embedded.broker import AccessPolicy, Broker, BrokerConfig, QueueConfig, Right

from .hosting import SUFFIX, broker_for, tls_files

KEY_NAME, KEY = "RootManageSharedAccessKey", "bm90LWEtc2VjcmV0LW9mLWFueWJvZHk="
SERVICEBUS_ENDPOINT_SUFFIX = SUFFIX

_numbers = count(1)


class Plan:
    """What one test needs, gathered from its decorators, and what they promise to pass to it."""

    def __init__(self, preparers: list[Preparer]) -> None:
        self.namespace = f"ns{next(_numbers)}"
        self.host = self.namespace + SUFFIX
        self.queues: list[QueueConfig] = []  # the last one is what rules of a queue are for
        self.policies: list[AccessPolicy] = []
        self.arguments: dict[str, Any] = {}
        for preparer in preparers:
            preparer.prepare(self)

    def name(self, prefix: str) -> str:
        """A name nothing else has."""
        return f"{prefix}{next(_numbers)}"

    def connection_string(self, name: str = KEY_NAME, key: str = KEY, queue: str | None = None) -> str:
        """With a key of this namespace, for all of it or for one queue."""
        text = f"Endpoint=sb://{self.host}/;SharedAccessKeyName={name};SharedAccessKey={key}"
        return f"{text};EntityPath={queue}" if queue else text

    def broker(self) -> AbstractContextManager[Broker]:
        """The broker that has all of it."""
        queues = tuple(self.queues) or (QueueConfig("unused"),)
        config = BrokerConfig(
            queues,
            shared_access_keys={KEY_NAME: KEY},
            access_policies=tuple(self.policies),
            tls=tls_files(),
            unknown_queue_refuses_token=True,
        )
        return broker_for(self.host, config)


class Preparer:
    """A decorator; the innermost one wraps the test, the others add themselves to its list."""

    def __init__(self, name_prefix: str = "", parameter_name: str | None = None, **options: Any) -> None:
        self.name_prefix = name_prefix or "conformance"
        self.parameter_name = parameter_name
        self.options = options

    def __call__(self, test: Callable[..., Any]) -> Callable[..., Any]:
        wrapped: Any = test if hasattr(test, "preparers") else _with_broker(test)
        wrapped.preparers.insert(0, self)
        return wrapped  # type: ignore[no-any-return]

    def prepare(self, plan: Plan) -> None:
        """Adds what is needed to the plan."""


def _with_broker(test: Callable[..., Any]) -> Callable[..., Any]:
    preparers: list[Preparer] = []
    run: Any
    if inspect.iscoroutinefunction(test):

        async def run_async(test_class: object, **arguments: Any) -> None:
            plan = Plan(preparers)
            with plan.broker():
                await test(test_class, **arguments, **plan.arguments)

        run = functools.wraps(test)(run_async)
    else:

        def run_blocking(test_class: object, **arguments: Any) -> None:
            plan = Plan(preparers)
            with plan.broker():
                test(test_class, **arguments, **plan.arguments)

        run = functools.wraps(test)(run_blocking)
    run.preparers = preparers
    return run  # type: ignore[no-any-return]


class ServiceBusResourceGroupPreparer(Preparer):
    """Nothing to prepare: there are no resource groups here."""


class ServiceBusNamespacePreparer(Preparer):
    """The broker itself, with a key that may do everything."""

    def prepare(self, plan: Plan) -> None:
        parameter = self.parameter_name or "servicebus_namespace"
        plan.arguments |= {
            parameter: SimpleNamespace(name=plan.namespace),
            f"{parameter}_connection_string": plan.connection_string(),
            f"{parameter}_key_name": KEY_NAME,
            f"{parameter}_primary_key": KEY,
        }


class ServiceBusQueuePreparer(Preparer):
    """A queue as the decorator describes it."""

    def prepare(self, plan: Plan) -> None:
        name = plan.name(self.name_prefix)
        window = timedelta(minutes=10) if self.options.get("requires_duplicate_detection") else None
        plan.queues.append(
            QueueConfig(
                name,
                lock_duration=_duration(self.options.get("lock_duration", "PT30S")),
                dead_letter_expired=bool(self.options.get("dead_lettering_on_message_expiration")),
                duplicate_detection_window=window,
            )
        )
        plan.arguments[self.parameter_name or "servicebus_queue"] = SimpleNamespace(name=name)


class _NamePreparer(Preparer):
    """Something the broker does not have; a test that only needs its name can still run."""

    default_parameter = ""

    def prepare(self, plan: Plan) -> None:
        parameter = self.parameter_name or self.default_parameter
        plan.arguments[parameter] = SimpleNamespace(name=plan.name(self.name_prefix))


class ServiceBusTopicPreparer(_NamePreparer):
    """The name of a topic."""

    default_parameter = "servicebus_topic"


class ServiceBusSubscriptionPreparer(_NamePreparer):
    """The name of a subscription."""

    default_parameter = "servicebus_subscription"


class ServiceBusNamespaceAuthorizationRulePreparer(Preparer):
    """A key with some of the rights for every queue."""

    default_parameter = "servicebus_authorization_rule"

    def prepare(self, plan: Plan) -> None:
        self.add_policy(plan, None)

    def add_policy(self, plan: Plan, queue: str | None) -> None:
        """Adds the key, and the connection string that uses it."""
        parameter = self.parameter_name or self.default_parameter
        rights = frozenset(Right(right.value) for right in self.options.get("access_rights", (Right.MANAGE,)))
        policy = AccessPolicy(plan.name("rule"), KEY, rights, queue)
        plan.policies.append(policy)
        plan.arguments[parameter] = SimpleNamespace(name=policy.name)
        plan.arguments[f"{parameter}_connection_string"] = plan.connection_string(policy.name, policy.key, queue)


class ServiceBusQueueAuthorizationRulePreparer(ServiceBusNamespaceAuthorizationRulePreparer):
    """A key for the queue whose decorator stands above."""

    default_parameter = "servicebus_queue_authorization_rule"

    def prepare(self, plan: Plan) -> None:
        self.add_policy(plan, plan.queues[-1].name)


# Nothing is shared between tests here, so nothing is cached.
CachedServiceBusResourceGroupPreparer = ServiceBusResourceGroupPreparer
CachedServiceBusNamespacePreparer = ServiceBusNamespacePreparer
CachedServiceBusQueuePreparer = ServiceBusQueuePreparer
CachedServiceBusTopicPreparer = ServiceBusTopicPreparer
CachedServiceBusSubscriptionPreparer = ServiceBusSubscriptionPreparer


def _duration(text: str) -> timedelta:
    """ISO 8601, as far as the decorators use it."""
    found = re.fullmatch(r"PT(?:(\d+)M)?(?:(\d+)S)?", text)
    if found is None:
        raise ValueError(f"not a duration: {text}")
    minutes, seconds = (int(number or 0) for number in found.groups())
    return timedelta(minutes=minutes, seconds=seconds)
