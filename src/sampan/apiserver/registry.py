"""The API without a wire: every rule about objects, over one ordered store.

This is the front; the parts are modules beside it: `listing` and `watching` read, `writing` orders
the steps of a write, and what decides (`decoding`, `defaults`, `admission`, `validation`,
`strategy`, `deletion`, `patches`) is pure. Kinds that are only another version of a stored kind are
turned into it, and back, at this door (`conversion`).
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any, Final

from msgspec.structs import replace

from sampan.api import kinds
from sampan.api.errors import (
    AlreadyExists,
    Forbidden,
    MethodNotAllowed,
    NotFound,
)
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import conversion, furnishing, watching
from sampan.apiserver.actions import Actions
from sampan.apiserver.admission import Admission, Users
from sampan.apiserver.allocation import Allocator
from sampan.apiserver.custom.catalog import Catalog
from sampan.apiserver.custom.conversion import Converter, no_webhook
from sampan.apiserver.custom.keeper import Keeper
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.custom.watchers import Watchers
from sampan.apiserver.decoding import decoded
from sampan.apiserver.entries import Answer, Entries
from sampan.apiserver.expiry import Expiry
from sampan.apiserver.interface import (
    Call,
    Caller,
    DeleteOptions,
    Entry,
    Event,
    ListOptions,
    Page,
    Place,
    WatchOptions,
    Written,
)
from sampan.apiserver.listing import Lister
from sampan.apiserver.metadata import check_identity
from sampan.apiserver.patching import Configuration, proposal
from sampan.apiserver.problems import not_found
from sampan.apiserver.reading import Reader
from sampan.apiserver.settings import Settings
from sampan.apiserver.subresources import BINDING, PARTS, SCALE, scale_of
from sampan.apiserver.writing import Clock, Writer
from sampan.client.interface import PatchType
from sampan.store.interface import Store

_GOING: Final = (NotFound, Forbidden)
"""What a write gets whose namespace was deleted meanwhile."""
_BATCH: Final = 64
"""Deletions of a collection that go out at once, so that they share commits."""


def _now() -> datetime:
    return datetime.now(UTC)


class StoreRegistry:
    def __init__(
        self, store: Store, settings: Settings, *, clock: Clock = _now, call: Caller = no_webhook
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._entries = Entries()
        self.catalog = Catalog()
        self._caller = call
        self._converter = Converter(self._call)
        self._watchers = Watchers(self.catalog, self._converter)
        self._reader = Reader(store, self._entries, self._converter)
        self._lister = Lister(store, self._entries)
        self._allocator = Allocator(settings, SystemRandom())
        users = Users(self._reader, lambda: self.catalog.kinds, self._call)
        admission = Admission(self._reader, self._furnish, users)
        self._writer = Writer(self._reader, admission, self._allocator, clock)
        self._actions = Actions(self._reader, self._writer, clock)
        self._expiry = Expiry(self._reader, self._writer, clock)
        self._keeper = Keeper(self._reader, self._writer, self.catalog, self._watchers, clock)

    def call_with(self, call: Caller) -> None:
        self._caller = call

    async def _call(self, config: Object, body: Object, within: float) -> Object:
        return await self._caller(config, body, within)

    async def start(self) -> None:
        """Make what every cluster has, and bring what was advertised up to date.

        What does not need each other is made at once, so that it shares commits.
        """
        self._allocator.rebuild(await self._reader.all(kinds.SERVICES))
        async with asyncio.TaskGroup() as group:
            for kind, obj in furnishing.of_cluster():
                group.create_task(self._make(kind, obj))
        async with asyncio.TaskGroup() as group:
            for namespace in furnishing.NAMESPACES:
                group.create_task(self._furnish(namespace))
            for kind, obj in furnishing.of_api(self._settings):
                group.create_task(self._make(kind, obj, renew=True))
        await self._keeper.settle()
        await self._writer.settle()

    async def follow(self) -> None:
        """Carry out what definitions of custom resources ask for, until cancelled."""
        await self._keeper.follow()

    async def _settled(self, kind: Kind, call: Call) -> None:
        """Serve what was just defined before its definer is answered."""
        if kind == kinds.DEFINITIONS and not call.dry_run:
            await self._keeper.settle()

    async def _furnish(self, namespace: str) -> None:
        for kind, obj in furnishing.of_namespace(namespace, self._settings):
            await self._make(kind, obj, renew=kind == kinds.CONFIGMAPS)

    async def _advertise_again(self, kind: Kind, place: Place) -> None:
        """Make again what says where the API is, if that is what was deleted."""
        for own, obj in furnishing.of_api(self._settings):
            meta = obj["metadata"]
            if (own, meta["namespace"], meta["name"]) == (kind, place.namespace, place.name):
                await self._make(own, obj)

    async def _make(self, kind: Kind, obj: Object, *, renew: bool = False) -> None:
        """Create *obj* unless it is there; with *renew* bring it up to date if it is."""
        meta = obj["metadata"]
        place = Place(kind, meta.get("namespace", ""), meta["name"])
        found = await self._reader.find(kind, place.namespace, place.name)
        if found is None:
            with suppress(AlreadyExists, *_GOING):
                await self._writer.furnish(kind, place.namespace, obj)
        elif renew and not furnishing.covers(found.object, obj):
            await self.patch(place, obj, PatchType.MERGE, Call())

    async def get(self, place: Place) -> Entry:
        place = self._current(place)
        _check_subresource(place)
        found = await self._reader.find(stored(place.kind), place.namespace, place.name)
        if found is None:
            raise not_found(place.kind, place.name)
        if place.subresource == "scale":
            return Answer(found.revision, scale_of(place.kind, found.object))
        if place.subresource and place.subresource not in PARTS:
            raise NotFound(f"{place.kind.resource}/{place.subresource} cannot be read")
        return turned(place.kind, found)

    def _current(self, place: Place) -> Place:
        """*place* with its kind as it is served at this moment."""
        now = self.catalog.current(place.kind)
        if now is None:
            raise NotFound("the server could not find the requested resource")
        return place if now is place.kind else replace(place, kind=now)

    async def list(self, place: Place, options: ListOptions) -> Page:
        place = self._current(place)
        page = await self._lister.list(place, stored(place.kind), options)
        if isinstance(place.kind, CustomKind):
            shown = await self._converter.presented_all(place.kind, page.items)
            return replace(page, items=shown)
        if stored(place.kind) == place.kind:
            return page
        items = [turned(place.kind, entry) for entry in page.items]
        return Page(items, page.revision, page.continue_, page.remaining)

    def watch(self, place: Place, options: WatchOptions) -> AsyncGenerator[Sequence[Event], None]:
        place = self._current(place)
        kind = stored(place.kind)
        events = watching.watch(self._store, self._entries, place, kind, options)
        if isinstance(kind, CustomKind):
            return self._watchers.presented(kind, events)
        return events if kind == place.kind else _all_turned(place.kind, events)

    async def create(self, place: Place, obj: Object, call: Call) -> Entry:
        if place.subresource or place.kind == BINDING:
            return await self._actions.post(place, obj, call)
        place = self._current(place)
        kind, body = _to_stored(place.kind, obj, call)
        entry = await self._writer.create(kind, place.namespace, body, call)
        if kind == kinds.NAMESPACES and not call.dry_run:
            await self._furnish(entry.object["metadata"]["name"])
        elif kind == kinds.EVENTS:
            await self._expiry.one_more()
        await self._settled(kind, call)
        return turned(place.kind, entry)

    async def connect(self, place: Place, options: Object, call: Call) -> None:
        await self._actions.connect(place, options, call)

    async def update(self, place: Place, obj: Object, call: Call) -> Written:
        place = self._current(place)
        _check_subresource(place)
        if place.subresource == "scale":
            scale = decoded(SCALE, obj, call)
            return await self._actions.scale(place, lambda _: scale, call)
        kind, body = _to_stored(place.kind, obj, call)
        written = await self._writer.update(
            kind, place.namespace, place.name, body, call, place.subresource
        )
        await self._settled(kind, call)
        return Written(turned(place.kind, written.entry), written.created)

    async def patch(self, place: Place, patch: Any, how: PatchType, call: Call) -> Written:
        place = self._current(place)
        _check_subresource(place)
        kind = stored(place.kind)
        if place.subresource == "scale":
            return await self._actions.patch_scale(place, patch, how, call)

        if how is PatchType.APPLY:
            applied = await self._apply(place, patch, call)
            await self._settled(kind, call)
            return applied

        def make(old: Object) -> Object:
            if kind == place.kind:
                return proposal(kind, old, patch, how, call)
            shown = conversion.from_stored(place.kind, old)
            return conversion.to_stored(place.kind, proposal(place.kind, shown, patch, how, call))

        written = await self._writer.alter(
            kind, place.namespace, place.name, make, call, place.subresource
        )
        await self._settled(kind, call)
        return Written(turned(place.kind, written.entry), written.created)

    async def _apply(self, place: Place, raw: Any, call: Call) -> Written:
        """Server-side apply: create what is not there, else lay the configuration over it."""
        kind = stored(place.kind)
        if kind != place.kind:
            raw = conversion.to_stored(place.kind, decoded(place.kind, raw, call))
            applied = await self._apply(replace(place, kind=kind), raw, call)
            return Written(turned(place.kind, applied.entry), applied.created)
        config = Configuration(kind, raw, place.subresource, call, self._clock())
        if not place.subresource and not await self._reader.exists(
            kind, place.namespace, place.name
        ):
            check_identity(kind, place.namespace, place.name, config.config)
            entry = await self.create(place, config.first(), call)
            return Written(entry, created=True)
        return await self._writer.alter(
            kind, place.namespace, place.name, config.laid_over, call, place.subresource,
            track=False,
        )  # fmt: skip

    async def delete(self, place: Place, options: DeleteOptions, call: Call) -> Object:
        place = self._current(place)
        kind = stored(place.kind)
        gone = await self._writer.delete(kind, place.namespace, place.name, options, call)
        await self._settled(kind, call)
        if not call.dry_run:
            await self._advertise_again(kind, place)
        return gone if gone["kind"] == "Status" else conversion.from_stored(place.kind, gone)

    async def delete_collection(
        self, place: Place, which: ListOptions, options: DeleteOptions, call: Call
    ) -> Page:
        """Delete what *which* selects; what others deleted meanwhile is no error."""
        if "deletecollection" not in place.kind.verbs:
            raise MethodNotAllowed(f"{place.kind.resource} cannot be deleted all at once")
        page = await self.list(place, which)
        for start in range(0, len(page.items), _BATCH):
            async with asyncio.TaskGroup() as group:
                for entry in page.items[start : start + _BATCH]:
                    group.create_task(self._delete_one(place.kind, entry, options, call))
        return page

    async def _delete_one(
        self, kind: Kind, entry: Entry, options: DeleteOptions, call: Call
    ) -> None:
        meta = entry.object["metadata"]
        only = DeleteOptions(
            uid=meta["uid"],
            grace_seconds=options.grace_seconds,
            propagation=options.propagation,
        )
        place = Place(kind, meta.get("namespace", ""), meta["name"])
        with suppress(NotFound):
            await self.delete(place, only, call)


def stored(kind: Kind) -> Kind:
    """The kind that the store keeps objects of *kind* as."""
    found = conversion.conversion(kind)
    return found.stored if found else kind


def _check_subresource(place: Place) -> None:
    if place.subresource and place.subresource not in place.kind.subresources:
        raise NotFound("the server could not find the requested resource")


def turned(kind: Kind, entry: Entry) -> Entry:
    """*entry* of the stored kind, as an entry of *kind*."""
    if conversion.conversion(kind) is None:
        return entry
    return Answer(entry.revision, conversion.from_stored(kind, entry.object))


async def _all_turned(
    kind: Kind, batches: AsyncGenerator[Sequence[Event], None]
) -> AsyncGenerator[Sequence[Event], None]:
    async with aclosing(batches):
        async for events in batches:
            yield [Event(event.type, turned(kind, event.entry)) for event in events]


def _to_stored(kind: Kind, obj: Object, call: Call) -> tuple[Kind, Object]:
    """*obj* as it is kept; what has to be turned for that is checked before."""
    if conversion.conversion(kind) is None:
        return kind, obj
    return stored(kind), conversion.to_stored(kind, decoded(kind, obj, call))
