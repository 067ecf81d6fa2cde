"""What the cluster looks like, kept up to date by one list and then watches.

A cache follows a fixed set of views. It is the informer of Kubernetes clients, with two
differences: it holds narrow typed views instead of whole objects, and one cache holds all the
kinds that its owner needs, so that a snapshot across kinds is a few dictionary look-ups.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from sampan.api.errors import ApiError, Expired
from sampan.api.objects import Object, Pod, Resource
from sampan.client.interface import Client

R = TypeVar("R", bound=Resource)
Index = Callable[[Any], Iterable[str]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delta(Generic[R]):
    """One object's change: no *old* means it appeared, no *new* that it is gone."""

    view: type[R]
    old: R | None
    new: R | None

    @property
    def latest(self) -> R:
        return cast("R", self.new if self.new is not None else self.old)


_FOREVER = 1 << 63

Subscriber = Callable[[Delta[Any]], None]


def by_owner(obj: Resource) -> Iterable[str]:
    return (owner.uid for owner in obj.metadata.owner_references)


def by_node(pod: Pod) -> Iterable[str]:
    return (pod.spec.node_name,) if pod.spec.node_name else ()


@dataclass(frozen=True, slots=True)
class Interest:
    """Which objects to follow, and by what else than their name to find them."""

    view: type[Resource]
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    indexes: Mapping[str, Index] = field(default_factory=lambda: {"owner": by_owner})


class Cache:
    def __init__(self, client: Client, interests: Iterable[Interest]) -> None:
        self._client = client
        self._tables = {interest.view: _Table(interest) for interest in interests}
        self._subscribers: list[Subscriber] = []
        self._group: asyncio.TaskGroup | None = None
        self._added: dict[type[Resource], asyncio.Task[None] | None] = {}

    @property
    def added(self) -> Sequence[type[Resource]]:
        """The views that are followed only since `add`, or were until `drop`."""
        return tuple(self._added)

    def add(self, interest: Interest) -> None:
        """Follow *interest* as well."""
        table = self._tables[interest.view] = _Table(interest)
        self._added[interest.view] = (
            self._group.create_task(self._follow(table)) if self._group else None
        )

    def drop(self, view: type[Resource]) -> None:
        """Follow what was added no longer; its objects are taken for gone."""
        if task := self._added[view]:
            task.cancel()
        table = self._tables[view]
        for key in list(table.objects):
            self._publish(table.put(key, None))
        table.end()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call *subscriber* with every later change, after the cache shows it."""
        self._subscribers.append(subscriber)

    def get(self, view: type[R], namespace: str, name: str) -> R | None:
        key = f"{namespace}/{name}" if namespace else name
        return cast("R | None", self._tables[view].objects.get(key))

    def all(self, view: type[R], namespace: str = "") -> Sequence[R]:
        """Every object of a kind, or of one namespace."""
        table = self._tables[view]
        if not namespace:
            return cast("list[R]", list(table.objects.values()))
        return cast("list[R]", [table.objects[key] for key in table.namespaces[namespace]])

    def by(self, view: type[R], index: str, value: str) -> Sequence[R]:
        """The objects that the named index files under *value*, such as an owner's uid."""
        table = self._tables[view]
        keys = table.indexed[index].get(value, ())
        return cast("list[R]", [table.objects[key] for key in keys])

    async def synced(self) -> None:
        """Wait until every kind has been listed once."""
        for table in list(self._tables.values()):
            await table.listed.wait()

    async def seen(self, view: type[Resource], revision: int) -> None:
        """Wait until the cache shows *revision* of this kind, or something newer."""
        table = self._tables[view]
        while table.revision < revision:
            await table.moved.wait()

    def revision(self, view: type[Resource]) -> int:
        return self._tables[view].revision

    async def run(self) -> None:
        """Follow every kind until cancelled; lost connections are taken up again."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for view, table in self._tables.items():
                task = group.create_task(self._follow(table))
                if view in self._added:
                    self._added[view] = task

    async def _follow(self, table: "_Table") -> None:
        pause = 0.05
        while True:
            try:
                since = await self._relist(table)
                pause = 0.05
                while True:
                    since = await self._watch(table, since)
            except Expired:
                continue
            except (ApiError, OSError, TimeoutError) as error:
                log.info("%s: %s; again in %.2f s", table.interest.view.KIND.plural, error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    async def _relist(self, table: "_Table") -> str:
        interest = table.interest
        page = await self._client.list(
            interest.view.KIND, interest.namespace, labels=interest.labels, fields=interest.fields
        )
        fresh = {view.metadata.key: view for view in map(interest.view.of, page.items)}
        for key in [key for key in table.objects if key not in fresh]:
            self._publish(table.put(key, None))
        for key, view in fresh.items():
            self._publish(table.put(key, view))
        table.move(page.revision)
        table.listed.set()
        return page.revision

    async def _watch(self, table: "_Table", since: str) -> str:
        """Apply one watch until it ends; return where it ended."""
        interest = table.interest
        watch = self._client.watch(
            interest.view.KIND,
            interest.namespace,
            since=since,
            labels=interest.labels,
            fields=interest.fields,
        )
        async with aclosing(watch) as events:
            async for event in events:
                since = _revision(event.object)
                if event.type != "BOOKMARK":
                    view = interest.view.of(event.object)
                    gone = event.type == "DELETED"
                    self._publish(table.put(view.metadata.key, None if gone else view))
                table.move(since)
        return since

    def _publish(self, delta: Delta[Any] | None) -> None:
        if delta:
            for subscriber in self._subscribers:
                subscriber(delta)


class _Table:
    """The objects of one kind, and where to find them."""

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.objects: dict[str, Resource] = {}
        self.namespaces: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.indexed: dict[str, dict[str, dict[str, None]]] = {
            name: {} for name in interest.indexes
        }
        self.revision = 0
        self.listed = asyncio.Event()
        self.moved = asyncio.Event()

    def put(self, key: str, new: Resource | None) -> Delta[Any] | None:
        """File *new* under *key*, or drop what is there; None if nothing changed."""
        old = self.objects.get(key)
        if old is None and new is None:
            return None
        if old and new and old.metadata.resource_version == new.metadata.resource_version:
            return None
        if old:
            self._unfile(key, old)
        if new:
            self._file(key, new)
        return Delta(self.interest.view, old, new)

    def move(self, revision: str) -> None:
        self.revision = max(self.revision, int(revision))
        self.moved.set()
        self.moved = asyncio.Event()

    def end(self) -> None:
        """Let nobody wait for what will not come."""
        self.revision = _FOREVER
        self.listed.set()
        self.moved.set()

    def _file(self, key: str, obj: Resource) -> None:
        self.objects[key] = obj
        self.namespaces[obj.metadata.namespace][key] = None
        for name, index in self.interest.indexes.items():
            for value in index(obj):
                self.indexed[name].setdefault(value, {})[key] = None

    def _unfile(self, key: str, obj: Resource) -> None:
        del self.objects[key]
        self.namespaces[obj.metadata.namespace].pop(key, None)
        for name, index in self.interest.indexes.items():
            for value in index(obj):
                if filed := self.indexed[name].get(value):
                    filed.pop(key, None)
                    if not filed:
                        del self.indexed[name][value]


def _revision(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])
