"""The API in process: what controllers and scheduler use where the server runs them itself."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.interface import (
    Call,
    DeleteOptions,
    ListOptions,
    Place,
    Registry,
    WatchOptions,
)
from sampan.client.interface import Listing, PatchType, WatchEvent

log = logging.getLogger(__name__)


class LocalClient:
    """A `sampan.client.interface.Client` that writes as the control plane, named *manager*."""

    def __init__(self, registry: Registry, *, manager: str = "sampan") -> None:
        self._registry = registry
        self._manager = manager

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return (await self._registry.get(Place(kind, namespace, name))).object

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        options = ListOptions(labels=labels, fields=fields)
        page = await self._registry.list(Place(kind, namespace), options)
        return Listing([entry.object for entry in page.items], str(page.revision))

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        options = WatchOptions(since=since, labels=labels, fields=fields, bookmarks=True)
        async with aclosing(self._registry.watch(Place(kind, namespace), options)) as batches:
            async for events in batches:
                for event in events:
                    yield WatchEvent(event.type, event.entry.object)

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        place = _place(kind, obj, subresource)
        call = self._call()
        entry = await self._registry.create(place, obj, call)
        _complain(place, call)
        return entry.object

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        place = _place(kind, obj, subresource)
        call = self._call()
        written = await self._registry.update(place, obj, call)
        _complain(place, call)
        return written.entry.object

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str = "",
        *,
        subresource: str = "",
        how: PatchType = PatchType.MERGE,
    ) -> Object:
        place = Place(kind, namespace, name, subresource)
        call = self._call()
        written = await self._registry.patch(place, patch, how, call)
        _complain(place, call)
        return written.entry.object

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> None:
        options = DeleteOptions(uid=uid, grace_seconds=grace_seconds, propagation=propagation)
        await self._registry.delete(Place(kind, namespace, name), options, self._call())

    def _call(self) -> Call:
        return Call(manager=self._manager)


def _place(kind: Kind, obj: Object, subresource: str) -> Place:
    meta = obj.get("metadata") or {}
    namespace = meta.get("namespace", "") if kind.namespaced else ""
    return Place(kind, namespace, meta.get("name", ""), subresource)


def _complain(place: Place, call: Call) -> None:
    for warning in call.warnings:
        log.warning("%s %s/%s: %s", place.kind.resource, place.namespace, place.name, warning)
