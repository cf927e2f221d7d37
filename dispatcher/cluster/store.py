"""The LedgerStore of the Kubernetes API: the ledger and each record as a ConfigMap.

Decides how they are written down: the ledger as one key, replaced with the resourceVersion that it was read at; records
as immutable data with annotations that are replaced the same way, under our finalizer. Bounded by what a ConfigMap
holds, and refused here before the server has to. Knows nothing of what is written in them, but is told by
``namespace_of`` in which namespace the pods will look for a record.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from dispatcher.cluster import paths, writing
from dispatcher.cluster.api import JSON_PATCH, METADATA_ONLY, Api, NoAnswer, pages
from dispatcher.cluster.config import KubernetesConfig
from dispatcher.core.jobs import FINALIZER
from dispatcher.errors import Deposed, DispatcherError, LookFailed, OutcomeUnknown
from dispatcher.ports import Answer, ObjectRef, RecordCreated, StoredLedger, StoredRecord

if TYPE_CHECKING:
    from dispatcher.ports import LedgerStore

log = structlog.get_logger(__name__)

_LEDGER_KEY = "ledger.json"
_ANNOTATION_WRITE = "burst-dispatcher.io/write"
"""A mark of each write: one that changes nothing would get no new version from the server, and fence nobody."""
_DATA_BYTES_MAX = 1024 * 1024
_ANNOTATIONS_BYTES_MAX = 256 * 1024

Annotations = Mapping[str, str]


class ConfigMapStore:
    """Ledger and records in ConfigMaps."""

    def __init__(self, api: Api, config: KubernetesConfig, namespace_of: Callable[[Annotations], str]) -> None:
        self._api = api
        self._config = config
        self._namespace_of = namespace_of
        self._places: dict[str, str] = {}
        """Where records were seen, by name: a hint, so that most requests are for the right namespace at once."""

    # --- the ledger -------------------------------------------------------------------------------------------------

    async def read_ledger(self) -> StoredLedger | None:
        """The ledger as it stands; None if there is none. Raises LookFailed, also for one that cannot be read."""
        raw = await self._get(paths.config_maps(self._config.namespace, self._config.ledger_name))
        if raw is None:
            return None
        try:
            document = json.loads(raw["data"][_LEDGER_KEY])
        except (KeyError, TypeError, ValueError) as error:
            where = f"ConfigMap {self._config.namespace}/{self._config.ledger_name}"
            raise LookFailed(f"{where} holds no ledger under {_LEDGER_KEY}: {error!r}; restore it") from error
        return StoredLedger(document, raw["metadata"]["resourceVersion"])

    async def write_ledger(self, document: Mapping[str, Any], replacing: str | None) -> str:
        """Replaces the ledger and returns the new version.

        Raises Deposed or OutcomeUnknown; DispatcherError where it is too large or the server will not have it.
        """
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        size = len(text.encode())
        if size > _DATA_BYTES_MAX:
            limit = f"the {_DATA_BYTES_MAX} bytes that a ConfigMap holds"
            raise DispatcherError(
                f"the ledger has {size} bytes, more than {limit}; let attempts end before others open"
            )
        namespace, name = self._config.namespace, self._config.ledger_name
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": namespace,
            "labels": paths.labels(self._config.instance, **{paths.LABEL_KIND: paths.LEDGER}),
            "annotations": {_ANNOTATION_WRITE: str(uuid.uuid4())},
            "finalizers": [FINALIZER],
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {_LEDGER_KEY: text}}
        method, path = "POST", paths.config_maps(namespace)
        if replacing is not None:
            metadata["resourceVersion"] = replacing
            method, path = "PUT", paths.config_maps(namespace, name)
        try:
            # Not repeated where no answer came: a second try would be refused because of the first.
            reply = await self._api.send(method, path, body=body, accept=METADATA_ONLY, repeatable=False)
        except NoAnswer as error:
            raise OutcomeUnknown(str(error)) from error
        if reply.ok:
            return reply.version
        if reply.reason in ("Conflict", "AlreadyExists", "NotFound") and not _namespace_missing(reply.body):
            raise Deposed(f"the ledger has another version than {replacing}: another leader has written")
        if reply.status == 429:
            raise OutcomeUnknown(f"the ledger was not written: {reply.text}")
        raise DispatcherError(f"the ledger cannot be written to ConfigMap {namespace}/{name}: {reply.text}")

    # --- records ----------------------------------------------------------------------------------------------------

    async def create_records(
        self, records: Sequence[tuple[str, Mapping[str, str], Annotations]]
    ) -> Sequence[RecordCreated]:
        """Creates records of (name, data, annotations), each for itself; one that is refused stops no other."""
        return await writing.each(records, self._create)

    async def _create(self, record: tuple[str, Mapping[str, str], Annotations]) -> RecordCreated:
        name, data, annotations = record
        fault = _too_large(f"the data of record {name}", data, _DATA_BYTES_MAX)
        fault = fault or _too_large(f"the annotations of record {name}", annotations, _ANNOTATIONS_BYTES_MAX)
        if fault:
            return RecordCreated(Answer.REFUSED, text=fault)
        namespace = self._namespace_of(annotations)
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": paths.labels(self._config.instance, **{paths.LABEL_KIND: paths.RECORD}),
            "annotations": dict(annotations),
            "finalizers": [FINALIZER],
        }
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data), "immutable": True}
        try:
            reply = await self._api.send("POST", paths.config_maps(namespace), body=body, accept=METADATA_ONLY)
            if reply.ok:
                return RecordCreated(Answer.DONE, self._record({**reply.body, "data": dict(data)}))
            if reply.reason == "AlreadyExists":
                there = await writing.get(self._api, paths.config_maps(namespace, name))
                if there is not None:
                    return RecordCreated(Answer.DONE, self._record(there), already=True)
                return RecordCreated(Answer.UNKNOWN, text=reply.text)
        except NoAnswer as error:
            return RecordCreated(Answer.UNKNOWN, text=str(error))
        answer = Answer.UNKNOWN if reply.doubtful or writing.may_pass(reply) else Answer.REFUSED
        return RecordCreated(answer, text=reply.text)

    async def get_record(self, name: str) -> StoredRecord | None:
        """The record of that name; None if there is none in any namespace of ours. Raises LookFailed."""
        for namespace in self._where(name):
            raw = await self._get(paths.config_maps(namespace, name))
            if raw is not None:
                return self._record(raw)
        return None

    async def list_records(self) -> Sequence[StoredRecord]:
        """All records of all namespaces of ours, consistent, all pages. Raises LookFailed."""

        async def of(namespace: str) -> Sequence[StoredRecord]:
            query, size = paths.records_of(self._config.instance), self._config.records_page_size
            records, _ = await pages(self._api, paths.config_maps(namespace), query, size, self._record)
            return records

        try:
            found = await writing.each(self._namespaces(), of)
        except NoAnswer as error:
            raise LookFailed(str(error)) from error
        return [record for records in found for record in records]

    async def replace_annotations(self, name: str, version: str, annotations: Annotations) -> tuple[Answer, str]:
        """Replaces annotations if the record still has that version; the text is the new version, or why not."""
        if fault := _too_large(f"the annotations of record {name}", annotations, _ANNOTATIONS_BYTES_MAX):
            return Answer.REFUSED, fault
        # With its version in the patch the server takes it only if that is still the record's.
        patch = [
            {"op": "add", "path": "/metadata/annotations", "value": dict(annotations)},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]
        for namespace in self._where(name):
            path = paths.config_maps(namespace, name)
            try:
                # Not repeated where no answer came: a second try would meet the first one's version.
                reply = await self._api.send(
                    "PATCH", path, body=patch, content_type=JSON_PATCH, accept=METADATA_ONLY, repeatable=False
                )
            except NoAnswer as error:
                return Answer.UNKNOWN, str(error)
            if reply.ok:
                return Answer.DONE, reply.version
            if reply.status == 409:
                return Answer.CONFLICT, reply.text
            if reply.status != 404:
                return (Answer.UNKNOWN if writing.may_pass(reply) else Answer.REFUSED), reply.text
        return Answer.NOT_FOUND, f"there is no record {name}"

    async def delete_record(self, ref: ObjectRef) -> Answer:
        """Deletes the record with that uid and takes our finalizer off."""
        answer = Answer.NOT_FOUND
        for namespace in self._where(ref.name):
            answer = await writing.let_go(self._api, paths.config_maps(namespace, ref.name), ref.uid)
            if answer is Answer.DONE:
                self._places.pop(ref.name, None)
            if answer is not Answer.NOT_FOUND:
                return answer
        self._places.pop(ref.name, None)
        return answer

    # --- where ------------------------------------------------------------------------------------------------------

    def _namespaces(self) -> Sequence[str]:
        return tuple(dict.fromkeys((*self._config.namespaces, self._config.namespace)))

    def _where(self, name: str) -> Sequence[str]:
        """All namespaces of ours, the one that a record was last seen in first."""
        likely = self._places.get(name)
        return self._namespaces() if likely is None else tuple(dict.fromkeys((likely, *self._namespaces())))

    def _record(self, raw: Mapping[str, Any]) -> StoredRecord:
        metadata = raw["metadata"]
        self._places[metadata["name"]] = metadata["namespace"]
        return StoredRecord(
            metadata["name"],
            metadata["uid"],
            metadata["resourceVersion"],
            raw.get("data") or {},
            metadata.get("annotations") or {},
            "deletionTimestamp" in metadata,
        )

    async def _get(self, path: str) -> Mapping[str, Any] | None:
        try:
            return await writing.get(self._api, path)
        except NoAnswer as error:
            raise LookFailed(str(error)) from error


def _too_large(what: str, entries: Mapping[str, str], bytes_max: int) -> str:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in entries.items())
    return f"{what} are {size} bytes, more than the {bytes_max} that a ConfigMap may hold" if size > bytes_max else ""


def _namespace_missing(status: Mapping[str, Any]) -> bool:
    return (status.get("details") or {}).get("kind") == "namespaces"


if TYPE_CHECKING:

    def _is_a_ledger_store(store: ConfigMapStore) -> LedgerStore:
        return store
