"""The state that every store has in memory: live keys, and the tail of their history.

Writing has two steps, so that a durable store can put its commit between them: `stage` decides,
against the live keys, what becomes of each write; `publish` makes the outcome visible.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from itertools import islice, takewhile

from msgspec import Struct
from sortedcontainers import SortedDict

from sampan.api.errors import Conflict
from sampan.store.interface import ABSENT, Change, Page
from sampan.store.tail import Tail


class Write(Struct, frozen=True):
    """Set *key* to *value*, or delete it, if its revision is *expect*."""

    key: str
    value: bytes | None
    expect: int


class History:
    def __init__(self, revision: int, live: Iterable[Change] = ()) -> None:
        self._live: SortedDict = SortedDict((change.key, change) for change in live)
        self.tail = Tail(revision)

    @property
    def revision(self) -> int:
        return self.tail.end

    def stage(self, writes: Sequence[Write]) -> list[Change | Conflict]:
        """Decide each of *writes* in order, as if those before it had been published."""
        ahead: dict[str, Change] = {}
        outcomes: list[Change | Conflict] = []
        revision = self.revision
        for write in writes:
            old = ahead.get(write.key) or self._live.get(write.key)
            there = old is not None and old.value is not None
            found = old.revision if there else ABSENT
            if write.expect != found or (write.value is None and not there):
                outcomes.append(_conflict(write, found))
                continue
            revision += 1
            change = Change(write.key, revision, write.value, old.value if there else None)
            ahead[write.key] = change
            outcomes.append(change)
        return outcomes

    def publish(self, changes: Sequence[Change]) -> None:
        """Show *changes*, as `stage` returned them, to lists and watches."""
        for change in changes:
            if change.value is None:
                self._live.pop(change.key, None)
            else:
                self._live[change.key] = Change(change.key, change.revision, change.value)
        self.tail.extend(changes)

    def list(self, prefix: str, after: str, limit: int | None) -> Page:
        if limit == 1 and not after and (exact := self._live.get(prefix)):
            return Page(self.revision, [exact])  # no key is before it: how one object is read
        first = max(prefix, after)
        keys = self._live.irange(first, inclusive=(first != after, True))
        mine = islice(takewhile(lambda key: key.startswith(prefix), keys), limit)
        return Page(self.revision, [self._live[key] for key in mine])

    def watch(self, prefix: str, since: int) -> AsyncGenerator[Sequence[Change], None]:
        return self.tail.watch(prefix, since)


def _conflict(write: Write, found: int) -> Conflict:
    if found == ABSENT:
        if write.expect == ABSENT:
            return Conflict(f"{write.key}: is not there, so it cannot be deleted")
        return Conflict(f"{write.key}: is not there, although revision {write.expect} was expected")
    wanted = f"revision {write.expect}" if write.expect else "nothing"
    return Conflict(f"{write.key}: has revision {found}, where {wanted} was expected; read it anew")
