"""The Lease of the Kubernetes API: who leads, by the rules of client-go's leader election.

Decides when a lease is free: nobody holds it, or it has not been renewed for as long as it says, counted from when we
saw its last change on our own monotonic clock; what others' clocks wrote into it is never compared. While it is held
and asked for it is renewed in the background, so that one long cycle does not lose it; a leader that does not ask any
more is stuck, and its lease runs out. Nothing rests on any of this: the ledger's version is the fence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from dispatcher.cluster import paths
from dispatcher.cluster.api import Api, NoAnswer
from dispatcher.cluster.clock import boottime
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.core.units import to_text, whole_seconds

if TYPE_CHECKING:
    from dispatcher.ports import Clock, Lease

log = structlog.get_logger(__name__)

Spec = Mapping[str, Any]


class KubernetesLease:
    """One contender. ``identity`` must be its own and new with each start, such as the pod's name and a random part."""

    def __init__(
        self,
        api: Api,
        config: KubernetesConfig,
        clock: Clock,
        identity: str,
        monotonic: Callable[[], float] = boottime,
    ) -> None:
        self._api = api
        self._config = config
        self._clock = clock
        self._identity = identity
        self._monotonic = monotonic
        self._turn = asyncio.Lock()
        self._version: str | None = None
        """The version that we last wrote or read; None: not known, or there is no lease."""
        self._spec: Spec = {}
        self._observed_at = 0.0
        """When what stands in the lease was first seen so."""
        self._looked_at: float | None = None
        self._renewed_at: float | None = None
        """When the last renewal that was accepted had been sent; None: not held."""
        self._asked_at = 0.0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def holder(self) -> str:
        """Who holds it, as last seen; empty: nobody."""
        return str(self._spec.get("holderIdentity") or "")

    @property
    def renewing(self) -> bool:
        """Whether it is renewed in the background."""
        return self._renewing is not None

    async def acquire(self) -> bool:
        """Takes or renews the lease; whether we hold it now. A request without an answer leaves what was held."""
        self._asked_at = self._monotonic()
        async with self._turn:
            await self._take_or_renew()
        if self._holds() and self._renewing is None:
            self._renewing = asyncio.create_task(self._keep(), name="lease")
        return self._holds()

    async def release(self) -> None:
        """Gives the lease up if we hold it; one that cannot be given up runs out."""
        renewing = self._renewing
        if renewing is not None:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        async with self._turn:
            if self._renewed_at is None:
                return
            self._renewed_at = self._looked_at = None
            # As client-go does: nobody holds it, and whoever looks may take it at once.
            spec = {**self._spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._now_text()}
            try:
                if not await self._write(spec):
                    log.info("lease.not_released", why="another has taken it")
            except NoAnswer as error:
                log.warning("lease.not_released", error=str(error))

    def _holds(self) -> bool:
        if self._renewed_at is None:
            return False
        return self._monotonic() - self._renewed_at < self._config.lease_renew_deadline.total_seconds()

    async def _keep(self) -> None:
        """Renews while we hold the lease and somebody still asks for it."""
        retry = self._config.lease_retry.total_seconds()
        try:
            while True:
                await asyncio.sleep(retry)
                if self._monotonic() - self._asked_at > self._config.lease_kept_for.total_seconds():
                    log.error("lease.let_go", why="the dispatcher has not asked for it for too long: it is stuck")
                    return
                async with self._turn:
                    if not self._holds():
                        return
                    await self._take_or_renew()
        finally:
            self._renewing = None

    async def _take_or_renew(self) -> None:
        now = self._monotonic()
        retry = self._config.lease_retry.total_seconds()
        since = self._renewed_at if self._holds() else self._looked_at
        if since is not None and now - since < retry:
            return  # looked at a moment ago
        try:
            if self._holds() and self._version is not None and await self._claim(now):
                return  # nobody has written in between, as is usual: one request
            self._looked_at = self._monotonic()
            await self._look()
            if self._may_take():
                await self._claim(self._monotonic())
            elif self.holder != self._identity:
                self._renewed_at = None
        except NoAnswer as error:
            log.warning("lease.not_renewed", error=str(error), still_held=self._holds())

    async def _look(self) -> None:
        path = paths.leases(self._config.namespace, self._config.lease_name)
        reply = await self._api.send("GET", path)
        if reply.status == 404:
            self._version, self._spec = None, {}
            return
        if not reply.ok:
            raise NoAnswer(f"GET {path}: {reply.status} {reply.text}")
        if reply.version != self._version:
            self._observed_at = self._monotonic()
        self._version, self._spec = reply.version, reply.body.get("spec") or {}

    def _may_take(self) -> bool:
        if self._version is None or self.holder in ("", self._identity):
            return True
        lasts = self._spec.get("leaseDurationSeconds") or whole_seconds(self._config.lease_duration)
        return self._monotonic() - self._observed_at >= float(lasts)

    async def _claim(self, sent_at: float) -> bool:
        """Writes ourselves into the lease; False where another was faster."""
        now = self._now_text()
        mine = self.holder == self._identity
        transitions = int(self._spec.get("leaseTransitions") or 0)
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, whole_seconds(self._config.lease_duration)),
            "acquireTime": self._spec.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or self._version is None else transitions + 1,
        }
        before = self.holder
        if not await self._write(spec):
            if not mine:
                self._renewed_at = None
            return False
        self._renewed_at = sent_at
        if not mine:
            log.info("lease.taken", identity=self._identity, before=before)
        return True

    async def _write(self, spec: Spec) -> bool:
        """Replaces the lease as we know it; False where another has written since. Raises NoAnswer."""
        namespace, name = self._config.namespace, self._config.lease_name
        metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": paths.labels(self._config.instance)}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        method, path = "POST", paths.leases(namespace)
        if self._version is not None:
            metadata["resourceVersion"] = self._version
            method, path = "PUT", paths.leases(namespace, name)
        reply = await self._api.send(method, path, body=body, repeatable=False)
        if reply.ok:
            self._version, self._spec = reply.version, reply.body.get("spec") or {}
            self._observed_at = self._monotonic()
            return True
        if reply.status == 409 or (reply.status == 404 and method == "PUT"):
            return False
        raise NoAnswer(f"{method} {path}: {reply.status} {reply.text}")

    def _now_text(self) -> str:
        now: datetime = self._clock.now()
        return to_text(now)


if TYPE_CHECKING:

    def _is_a_lease(lease: KubernetesLease) -> Lease:
        return lease
