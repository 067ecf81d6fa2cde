"""Keeps the catalog as the stored definitions say, and the definitions' status true.

A definition is put into the catalog before it is told to be Established, so whoever has seen that
finds it served. A definition that is deleted is held by a finalizer until its last object is gone.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from functools import partial
from typing import Final

from sampan.aio.supervise import supervise
from sampan.api.errors import Conflict, Expired, NotFound
from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Object
from sampan.apiserver.custom import names
from sampan.apiserver.custom.catalog import Catalog
from sampan.apiserver.custom.definition import FINALIZER
from sampan.apiserver.custom.kind import Definition
from sampan.apiserver.custom.watchers import Watchers
from sampan.apiserver.interface import Call, DeleteOptions
from sampan.apiserver.metadata import stamp
from sampan.apiserver.reading import Reader
from sampan.apiserver.writing import Writer
from sampan.store.interface import Page

_BATCH: Final = 64


class Keeper:
    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        catalog: Catalog,
        watchers: Watchers,
        clock: Callable[[], datetime],
    ) -> None:
        self._watchers = watchers
        self._reader = reader
        self._writer = writer
        self._catalog = catalog
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._going: Sequence[Object] = ()
        self._emptying: set[str] = set()

    async def settle(self) -> None:
        """Serve what is defined at this moment, and write down what came of each definition."""
        async with self._one_at_a_time:
            found = {one["metadata"]["name"]: one for one in await self._reader.all(DEFINITIONS)}
            for name in self._catalog.definitions.keys() - found.keys():
                self._catalog.remove(name)
            by_group: dict[str, dict[str, Object]] = {}
            for name, raw in found.items():
                by_group.setdefault(raw["spec"]["group"], {})[name] = raw
            for group in by_group.values():
                for name, raw in group.items():
                    group[name] = await self._settle(raw, group.values())
            self._going = [
                raw for group in by_group.values() for raw in group.values()
                if raw["metadata"].get("deletionTimestamp")
            ]  # fmt: skip
            self._watchers.end_unserved()

    async def _settle(self, raw: Object, everyone: Iterable[Object]) -> Object:
        status = names.status(raw, everyone, stamp(self._clock()))
        new = {**raw, "status": {**(raw.get("status") or {}), **status}}
        if names.is_true(new, names.ESTABLISHED):
            self._serve(new)
        if new["status"] == raw.get("status"):
            return raw
        with suppress(NotFound, Conflict):
            written = await self._writer.alter(
                DEFINITIONS, "", raw["metadata"]["name"],
                lambda old: _judged(old, raw, new), Call(), "status",
            )  # fmt: skip
            return written.entry.object
        return new

    def _serve(self, raw: Object) -> None:
        served = self._catalog.definitions.get(raw["metadata"]["name"])
        if served is None or _essence(served.raw) != _essence(raw):
            self._catalog.put(Definition(raw))

    async def follow(self) -> None:
        """Keep up with changes, by whichever server, and let go of what is deleted, for ever."""
        await supervise({"definitions of custom resources": self._follow})

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                page = await self._reader.store.list(DEFINITIONS.key())
                await self.settle()
                self._empty(group)
                with suppress(Expired):
                    watch = self._reader.store.watch(DEFINITIONS.key(), since=page.revision)
                    async with aclosing(watch) as changes:
                        async for _ in changes:
                            await self.settle()
                            self._empty(group)

    def _empty(self, group: asyncio.TaskGroup) -> None:
        """Begin to delete the objects of each definition that is on its way out."""
        for raw in self._going:
            definition = Definition(raw)
            if definition.uid not in self._emptying:
                self._emptying.add(definition.uid)
                group.create_task(self._emptied(definition))

    async def _emptied(self, definition: Definition) -> None:
        try:
            work = partial(self._empty_out, definition)
            await supervise({f"deleting the objects of {definition.name}": work})
        finally:
            self._emptying.discard(definition.uid)

    async def _empty_out(self, definition: Definition) -> None:
        """Delete all objects of *definition*; when the last is gone, let go of itself."""
        prefix = definition.stored.key()
        served = self._catalog.definitions.get(definition.name)
        if served is not None and served.uid == definition.uid:
            while (page := await self._reader.store.list(prefix)).items:
                await self._delete_all(definition, page)
                await self._fewer(prefix, page)
        await self._let_go(definition)
        if served:  # what was being created when the last object went
            await self._delete_all(definition, await self._reader.store.list(prefix))

    async def _fewer(self, prefix: str, page: Page) -> None:
        """Wait until an object is gone or changed that is in *page*."""
        watch = self._reader.store.watch(prefix, since=page.revision)
        with suppress(Expired):
            async with aclosing(watch) as changes:
                while (await self._reader.store.list(prefix)).items:
                    await anext(changes)

    async def _delete_all(self, definition: Definition, page: Page) -> None:
        entries = [self._reader.entry(definition.stored, change) for change in page.items]
        for start in range(0, len(entries), _BATCH):
            async with asyncio.TaskGroup() as group:
                for entry in entries[start : start + _BATCH]:
                    version = str(entry.object["apiVersion"]).rpartition("/")[2]
                    kind = definition.kinds.get(version, definition.stored)
                    group.create_task(self._delete(kind, entry.object["metadata"]))

    async def _delete(self, kind: Kind, meta: Object) -> None:
        options = DeleteOptions(uid=meta["uid"])
        with suppress(NotFound, Conflict):
            namespace = meta.get("namespace", "")
            await self._writer.delete(kind, namespace, meta["name"], options, Call())

    async def _let_go(self, definition: Definition) -> None:
        def without(old: Object) -> Object:
            left = [one for one in old["metadata"].get("finalizers") or () if one != FINALIZER]
            return {**old, "metadata": {**old["metadata"], "finalizers": left}}

        with suppress(NotFound):
            await self._writer.alter(DEFINITIONS, "", definition.name, without, Call())


def _judged(old: Object, seen: Object, new: Object) -> Object:
    """*old* with the status of *new*, if it is still what was judged; else raise Conflict."""
    if old["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]:
        raise Conflict("the definition has changed meanwhile")
    return {**old, "status": new["status"]}


def _essence(raw: Object) -> tuple[object, ...]:
    """What decides how objects are served."""
    meta = raw["metadata"]
    return (
        meta["uid"], raw["spec"], names.accepted(raw), bool(meta.get("deletionTimestamp")),
    )  # fmt: skip
