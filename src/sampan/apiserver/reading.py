"""Objects as they are now: what every rule about other objects is decided from."""

from collections.abc import Sequence

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.custom.conversion import Converter
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.entries import Entries, Stored
from sampan.apiserver.interface import Entry
from sampan.store.interface import Change, Store


class Reader:
    """Reads of kinds, straight from the store, sharing *entries*."""

    def __init__(self, store: Store, entries: Entries, converter: Converter) -> None:
        self.store = store
        self.entries = entries
        self.converter = converter

    async def find(self, kind: Kind, namespace: str, name: str) -> Entry | None:
        key = kind.key(namespace, name)
        page = await self.store.list(key, limit=1)
        if not page.items or page.items[0].key != key:
            return None
        entry = self.entries.of(kind, page.items[0])
        if isinstance(kind, CustomKind):
            return await self.converter.presented(kind, entry)
        return entry

    async def exists(self, kind: Kind, namespace: str, name: str) -> bool:
        key = kind.key(namespace, name)
        page = await self.store.list(key, limit=1)
        return bool(page.items) and page.items[0].key == key

    async def all(self, kind: Kind, namespace: str = "") -> Sequence[Object]:
        page = await self.store.list(kind.key(namespace))
        found = [self.entries.of(kind, change) for change in page.items]
        if isinstance(kind, CustomKind):
            return [one.object for one in await self.converter.presented_all(kind, found)]
        return [entry.object for entry in found]

    def entry(self, kind: Kind, change: Change) -> Stored:
        return self.entries.of(kind, change)
