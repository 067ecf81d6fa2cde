"""Objects as bytes: made once a revision, shared by every reader.

An object's revision is known only after it was written, yet its bytes carry it. So what the store
keeps has no resourceVersion, and begins with a text that depends on nothing but the kind, ending
where the metadata opens; the resourceVersion is spliced in there.
"""

from functools import lru_cache
from typing import Final

import orjson

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.store.interface import Change

KEPT: Final = 1024
"""How many objects stay decoded; others are decoded again when somebody asks."""
RECENT: Final = 256
"""How many changes are shared by watchers that do not follow at once."""

_OPENING: Final = b'"metadata":{'


@lru_cache(maxsize=1024)
def head(kind: Kind) -> bytes:
    return f'{{"kind":"{kind.kind}","apiVersion":"{kind.api_version}","metadata":{{'.encode()


def encode(kind: Kind, obj: Object) -> bytes:
    """The bytes that the store keeps of *obj*, whose metadata has at least a name."""
    meta = obj["metadata"]
    if "resourceVersion" in meta:
        meta = {key: value for key, value in meta.items() if key != "resourceVersion"}
    ordered = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    ordered.update((key, value) for key, value in obj.items() if key not in ordered)
    return orjson.dumps(ordered)


class Stored:
    """What a key held as of one revision; *previous* is what it held before that."""

    __slots__ = ("_data", "_head", "_object", "previous", "revision", "value")

    def __init__(self, kind: Kind, revision: int, value: bytes, obj: Object | None = None) -> None:
        self.revision = revision
        self.value = value
        self.previous: Stored | None = None
        self._head = head(kind)
        self._data: bytes | None = None
        self._object = obj

    @property
    def data(self) -> bytes:
        if self._data is None:
            version = b'"resourceVersion":"%d",' % self.revision
            at = len(self._head)
            if not self.value.startswith(self._head):  # kept in another version of its kind
                at = self.value.index(_OPENING) + len(_OPENING)
            self._data = b"".join((self.value[:at], version, self.value[at:]))
        return self._data

    def is_of(self, kind: Kind) -> bool:
        """Say whether it is kept in the version that *kind* is."""
        return self.value.startswith(head(kind))

    @property
    def object(self) -> Object:
        if self._object is None:
            self._object = orjson.loads(self.data)
        return self._object


class Answer:
    """An entry that is no stored object: a Status, a Scale, a bookmark, another version."""

    __slots__ = ("_data", "object", "revision")

    def __init__(self, revision: int, obj: Object) -> None:
        self.revision = revision
        self.object = obj
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = orjson.dumps(self.object)
        return self._data


class Entries:
    """Entries that readers and watchers share: the newest of each key, and the newest of all."""

    def __init__(self) -> None:
        self._live: dict[str, Stored] = {}
        self._recent: dict[int, Stored] = {}

    def of(self, kind: Kind, change: Change) -> Stored:
        """The entry of *change*; of a deletion, what was deleted, as of its deletion."""
        live = self._live.get(change.key)
        if live is not None and live.revision == change.revision:
            return live
        if found := self._recent.get(change.revision):
            return found
        if change.value is None:
            self.forget(change.key, change.revision)
            return self._note(Stored(kind, change.revision, change.previous or b""))
        return self._keep(change.key, Stored(kind, change.revision, change.value))

    def seen(self, kind: Kind, change: Change) -> Stored:
        """The entry of a watched *change*, which knows what was there before."""
        entry = self.of(kind, change)
        before = entry.previous.value if entry.previous else None
        if before != change.previous:
            past = change.previous
            entry.previous = Stored(kind, 0, past) if past is not None else None
        return entry

    def made(self, kind: Kind, key: str, revision: int, value: bytes, obj: Object) -> Stored:
        """The entry of what was just written; *obj* becomes the shared decoded object."""
        if found := self._recent.get(revision):
            return found
        obj["metadata"]["resourceVersion"] = str(revision)
        return self._keep(key, Stored(kind, revision, value, obj))

    def forget(self, key: str, revision: int) -> None:
        """Let go of what *key* held before its deletion at *revision*."""
        live = self._live.get(key)
        if live is not None and live.revision < revision:
            del self._live[key]

    def _keep(self, key: str, entry: Stored) -> Stored:
        before = self._live.get(key)
        if before is None or before.revision < entry.revision:
            if before is not None:
                before.previous = None
                entry.previous = before
            self._live[key] = entry
            if len(self._live) > KEPT:
                del self._live[next(iter(self._live))]
        return self._note(entry)

    def _note(self, entry: Stored) -> Stored:
        self._recent[entry.revision] = entry
        if len(self._recent) > RECENT:
            self._recent.pop(next(iter(self._recent))).previous = None
        return entry
