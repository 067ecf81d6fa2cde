"""A registry over the memory store, and short ways to ask it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.identity import User
from sampan.apiserver.interface import (
    Call,
    DeleteOptions,
    Event,
    ListOptions,
    Page,
    Place,
    WatchOptions,
    Written,
)
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.interface import PatchType
from sampan.store.interface import Store
from sampan.store.memory import MemoryStore

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = User("admin", ("system:masters",))


class Yielding(MemoryStore):
    """Lets others run before each write, as a store with a disk does, so that writes race."""

    async def write(self, key: str, value: bytes | None, *, expect: int) -> int:
        await asyncio.sleep(0)
        return await super().write(key, value, expect=expect)


class Clock:
    def __init__(self) -> None:
        self.now = EPOCH

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Api:
    """Everything happens in namespace *default*, by kubectl, unless told otherwise."""

    def __init__(self, registry: StoreRegistry, store: Store, clock: Clock) -> None:
        self.registry = registry
        self.store = store
        self.clock = clock

    async def create(
        self, kind: Kind, obj: Object, namespace: str = "default", **how: Any
    ) -> Object:
        meta = obj.get("metadata") or {}
        place = Place(kind, namespace if kind.namespaced else "", meta.get("name", ""))
        return (await self.registry.create(place, obj, call(**how))).object

    async def post(self, kind: Kind, name: str, subresource: str, obj: Object) -> Object:
        place = Place(kind, "default", name, subresource)
        return (await self.registry.create(place, obj, call())).object

    async def get(self, kind: Kind, name: str, subresource: str = "") -> Object:
        return (await self.registry.get(self._place(kind, name, subresource))).object

    async def update(self, kind: Kind, obj: Object, subresource: str = "", **how: Any) -> Object:
        place = self._place(kind, obj["metadata"]["name"], subresource)
        return (await self.registry.update(place, obj, call(**how))).entry.object

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Any,
        subresource: str = "",
        how: PatchType = PatchType.MERGE,
        **by: Any,
    ) -> Object:
        place = self._place(kind, name, subresource)
        return (await self.registry.patch(place, patch, how, call(**by))).entry.object

    async def apply(self, kind: Kind, config: Object, subresource: str = "", **by: Any) -> Written:
        place = self._place(kind, config["metadata"]["name"], subresource)
        return await self.registry.patch(place, config, PatchType.APPLY, call(**by))

    async def delete(self, kind: Kind, name: str, **options: Any) -> Object:
        place = self._place(kind, name)
        return await self.registry.delete(place, DeleteOptions(**options), call())

    async def page(self, kind: Kind, namespace: str = "default", **options: Any) -> Page:
        place = Place(kind, namespace if kind.namespaced else "")
        return await self.registry.list(place, ListOptions(**options))

    async def names(self, kind: Kind, **options: Any) -> list[str]:
        page = await self.page(kind, **options)
        return [entry.object["metadata"]["name"] for entry in page.items]

    async def watch(self, kind: Kind, **options: Any) -> AsyncGenerator[Event, None]:
        place = Place(kind, "default" if kind.namespaced else "")
        async with aclosing(self.registry.watch(place, WatchOptions(**options))) as batches:
            async for events in batches:
                for event in events:
                    yield event

    @staticmethod
    def _place(kind: Kind, name: str, subresource: str = "") -> Place:
        return Place(kind, "default" if kind.namespaced else "", name, subresource)


def call(**how: Any) -> Call:
    return Call(**{"user": ADMIN, "manager": "kubectl", **how})


async def started(store: Store | None = None, **settings: Any) -> Api:
    clock = Clock()
    store = store or Yielding()
    registry = StoreRegistry(store, Settings(root_ca="PEM", **settings), clock=clock)
    await registry.start()
    return Api(registry, store, clock)


def pod(name: str = "web", **spec: Any) -> Object:
    containers = [{"name": "main", "image": "busybox:1"}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def config_map(name: str = "c", **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def service(name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def deployment(name: str = "web", replicas: int = 1, **spec: Any) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": template,
            **spec,
        },
    }


async def bound(api: Api, name: str = "web", node: str = "n1", **spec: Any) -> Object:
    await api.create(kinds.PODS, pod(name, **spec))
    await api.post(kinds.PODS, name, "binding", {"target": {"kind": "Node", "name": node}})
    return await api.get(kinds.PODS, name)


def changed(obj: Object, *path: Any, to: Any) -> Object:
    """A copy of *obj* with another value at *path*."""
    copy = deepcopy(obj)
    holder: Any = copy
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = to
    return copy
