"""Acts on single objects: create by name, delete by uid, take our finalizer off.

Decides how a reply becomes an answer: what happened, what did not, and what nobody knows. Every act names the object by
uid or by version, so that it can be repeated and never meets another one. Knows nothing of Jobs, records or ledgers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from dispatcher.cluster.api import JSON_PATCH, METADATA_ONLY, Api, NoAnswer, Reply
from dispatcher.core.jobs import FINALIZER
from dispatcher.ports import Answer

log = structlog.get_logger(__name__)

_PATCHES_MAX = 5
"""How often a finalizer is taken off anew when others change the object meanwhile."""
_FOR_GOOD = frozenset({400, 405, 413, 415, 422})
"""The object is at fault as it is written: the same request will never be taken."""

T = TypeVar("T")
R = TypeVar("R")


async def each(items: Iterable[T], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """The act for every item at once (the API's own limits pace it), results in order."""
    return list(await asyncio.gather(*(act(item) for item in items)))


def may_pass(reply: Reply) -> bool:
    """Whether a refusal may pass by itself or by an operator's hand: rights, quotas, a namespace that is not there."""
    if reply.status in _FOR_GOOD:
        return False
    text = reply.text.lower()
    # A webhook or policy that denies has looked at this very object.
    return not (reply.status == 403 and ("denied the request" in text or "denied request" in text))


async def get(api: Api, path: str) -> Mapping[str, Any] | None:
    """The object from a consistent read; None if the server says that there is none. Raises NoAnswer."""
    reply = await api.send("GET", path)
    if reply.status == 404:
        return None
    if not reply.ok:
        raise NoAnswer(f"GET {path}: {reply.status} {reply.text}")
    return reply.body


async def delete(api: Api, path: str, uid: str, *, query: Mapping[str, str] | None = None) -> Reply:
    """Deletes the object with that uid; one that carries finalizers is only marked. Raises NoAnswer."""
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, **(query or {})}
    return await api.send("DELETE", path, body=options, accept=METADATA_ONLY)


def answer_of_delete(reply: Reply) -> Answer:
    """What a delete by uid came to."""
    if reply.ok:
        return Answer.DONE
    if reply.status == 404:
        return Answer.NOT_FOUND
    if reply.status == 409:
        return Answer.CONFLICT
    log.warning("api.refused", text=reply.text, status=reply.status)
    return Answer.REFUSED


async def mark(api: Api, path: str, uid: str, *, background: bool = False) -> Answer:
    """Deletes by uid, and leaves finalizers to their owners."""
    try:
        reply = await delete(api, path, uid, query={"propagationPolicy": "Background"} if background else None)
    except NoAnswer as error:
        log.warning("api.no_answer", error=str(error))
        return Answer.UNKNOWN
    return answer_of_delete(reply)


async def let_go(
    api: Api, path: str, uid: str, *, background: bool = False, once_marked: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    """Deletes by uid and then takes our finalizer off, so that at no moment it stands unmarked and unprotected.

    ``once_marked`` is done in between, where the finalizer still keeps the object.
    """
    try:
        reply = await delete(api, path, uid, query={"propagationPolicy": "Background"} if background else None)
        if not reply.ok:
            return answer_of_delete(reply)
        if once_marked is not None and (reply.body.get("metadata") or {}).get("uid") == uid:
            await once_marked()
        return await _take_finalizer_off(api, path, uid, reply)
    except NoAnswer as error:
        log.warning("api.no_answer", error=str(error))
        return Answer.UNKNOWN


async def _take_finalizer_off(api: Api, path: str, uid: str, marked: Reply) -> Answer:
    """``marked`` is the answer to the delete: the object with its finalizers, or a Status where it is gone already."""
    reply = marked
    for _ in range(_PATCHES_MAX):
        metadata = reply.body.get("metadata") or {}
        if metadata.get("uid") != uid:
            # A Status, or another that has taken the name: the one that was meant is gone.
            return Answer.DONE
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            return Answer.DONE  # others may still hold it
        patch = _without(finalizers, uid)
        done = await api.send("PATCH", path, body=patch, content_type=JSON_PATCH, accept=METADATA_ONLY)
        if done.ok or done.status == 404:
            return Answer.DONE
        if done.status not in (409, 422):
            return answer_of_delete(done)
        # Somebody else has changed the list: look again.
        reply = await api.send("GET", path, accept=METADATA_ONLY)
        if reply.status == 404:
            return Answer.DONE  # we have marked it, and now it is gone
        if not reply.ok:
            return answer_of_delete(reply)
    return Answer.CONFLICT


def _without(finalizers: Sequence[str], uid: str) -> list[dict[str, Any]]:
    """Takes ours off, if object and place in the list are still the ones that were seen."""
    place = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": place, "value": FINALIZER},
        {"op": "remove", "path": place},
    ]
