"""Objects as they are now: what every rule about other objects is decided from."""

from collections.abc import Sequence

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.entries import Entries, Stored
from sampan.store.interface import Change, Store


class Reader:
    """Reads of stored kinds, straight from the store, sharing *entries*."""

    def __init__(self, store: Store, entries: Entries) -> None:
        self.store = store
        self.entries = entries

    async def find(self, kind: Kind, namespace: str, name: str) -> Stored | None:
        key = kind.key(namespace, name)
        page = await self.store.list(key, limit=1)
        if not page.items or page.items[0].key != key:
            return None
        return self.entries.of(kind, page.items[0])

    async def exists(self, kind: Kind, namespace: str, name: str) -> bool:
        key = kind.key(namespace, name)
        page = await self.store.list(key, limit=1)
        return bool(page.items) and page.items[0].key == key

    async def all(self, kind: Kind, namespace: str = "") -> Sequence[Object]:
        page = await self.store.list(kind.key(namespace))
        return [self.entries.of(kind, change).object for change in page.items]

    def entry(self, kind: Kind, change: Change) -> Stored:
        return self.entries.of(kind, change)
