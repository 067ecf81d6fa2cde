"""Objects as bytes: made once a revision, shared by every reader.

An object's revision is known only after it was written, yet its bytes carry it. So what the store
keeps has no resourceVersion, and begins with a text that depends on nothing but the kind, ending
where the metadata opens; the resourceVersion is spliced in there.
"""

from functools import cache
from typing import Final

import orjson

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.store.interface import Change

KEPT: Final = 2048
"""How many entries stay decoded; older ones are made again when somebody asks."""


@cache
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
            self._data = b"".join((self._head, version, self.value[len(self._head) :]))
        return self._data

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
    """The entries of the newest revisions, so that readers and watchers share them."""

    def __init__(self) -> None:
        self._kept: dict[int, Stored] = {}

    def of(self, kind: Kind, change: Change) -> Stored:
        """The entry of *change*; of a deletion, what was deleted, as of its deletion."""
        if found := self._kept.get(change.revision):
            return found
        value = change.value if change.value is not None else change.previous
        return self._keep(Stored(kind, change.revision, value or b""))

    def seen(self, kind: Kind, change: Change) -> Stored:
        """The entry of a watched *change*, which knows what was there before."""
        entry = self.of(kind, change)
        if entry.previous is None and change.previous is not None:
            entry.previous = Stored(kind, 0, change.previous)
        return entry

    def made(self, kind: Kind, revision: int, value: bytes, obj: Object) -> Stored:
        """The entry of what was just written; *obj* becomes the shared decoded object."""
        if found := self._kept.get(revision):
            return found
        obj["metadata"]["resourceVersion"] = str(revision)
        return self._keep(Stored(kind, revision, value, obj))

    def _keep(self, entry: Stored) -> Stored:
        kept = self._kept
        kept[entry.revision] = entry
        if len(kept) > KEPT:
            del kept[next(iter(kept))]
        return entry
