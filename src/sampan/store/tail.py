"""The last part of the history, kept in memory for watches.

Revisions in it have no gaps, so a cursor is a number and finding its place is a subtraction. A
watch that waits for its prefix is not woken by other changes, and does not grow old through them.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from sampan.api.errors import Expired
from sampan.store.interface import Change

MAX_CHANGES = 10_000
MAX_BYTES = 64 * 1024 * 1024
AT_ONCE = 256
"""How many changes a watch looks at before others get their turn."""


class Tail:
    """Changes after *start*; at most about *max_changes* and *max_bytes* of them."""

    def __init__(
        self, start: int, *, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._start = start
        self._changes: list[Change] = []
        self._bytes = 0
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._waits: dict[str, _Wait] = {}

    @property
    def end(self) -> int:
        return self._start + len(self._changes)

    def extend(self, changes: Sequence[Change]) -> None:
        """Append *changes*, whose revisions go on without a gap, and wake who waits for them."""
        self._changes += changes
        self._bytes += sum(map(_size, changes))
        if len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            self._trim()
        for prefix, wait in list(self._waits.items()):
            first = next((c.revision for c in changes if c.key.startswith(prefix)), None)
            if first is not None:
                del self._waits[prefix]
                wait.end(first)

    async def watch(self, prefix: str, since: int) -> AsyncGenerator[Sequence[Change], None]:
        while True:
            if since < self._start:
                raise Expired(
                    f"changes after revision {since} are no longer kept (the oldest are after "
                    f"{self._start}); list again and watch from there"
                )
            place = since - self._start
            if ahead := self._changes[place : place + AT_ONCE]:
                since = ahead[-1].revision
                if mine := [change for change in ahead if change.key.startswith(prefix)]:
                    yield mine
            else:
                first = await self._waits.setdefault(prefix, _Wait()).ended()
                since = max(since, first - 1)

    def drop(self, through: int) -> None:
        """Forget what is not after *through*; a future or long forgotten *through* is fine."""
        through = min(max(through, self._start), self.end)
        gone = through - self._start
        self._bytes -= sum(map(_size, self._changes[:gone]))
        del self._changes[:gone]
        self._start = through

    def _trim(self) -> None:
        """Drop an eighth more than needed, so that not every change moves the whole list."""
        keep = self._max_changes * 7 // 8
        size, count = self._bytes, 0
        while count < len(self._changes) - 1 and (
            len(self._changes) - count > keep or size > self._max_bytes * 7 // 8
        ):
            size -= _size(self._changes[count])
            count += 1
        self.drop(self._start + count)


class _Wait:
    """All watches of one prefix that have caught up, until the next change of that prefix."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._revision = 0

    def end(self, revision: int) -> None:
        self._revision = revision
        self._event.set()

    async def ended(self) -> int:
        await self._event.wait()
        return self._revision


def _size(change: Change) -> int:
    return len(change.value or b"") + len(change.previous or b"")
