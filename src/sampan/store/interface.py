"""One totally ordered history of keys, and nothing else.

Values are bytes: the store knows revisions, not Kubernetes.  Create, update and
delete are one compare-and-set; a watch is a cursor into the history, so a slow
reader costs nothing and falls off the end only by compaction.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

from msgspec import Struct

ABSENT: Final = 0


class Change(Struct, frozen=True, gc=False):
    """The state of *key* as of *revision*; no value means it was deleted.

    Only a watch tells the *previous* value; a list does not keep it.
    """

    key: str
    revision: int
    value: bytes | None
    previous: bytes | None = None


class Page(Struct, frozen=True):
    """Live keys in order, all as of one *revision*."""

    revision: int
    items: Sequence[Change]


class Store(Protocol):
    """Revisions start above zero, so that no list is ever as of revision 0."""

    @property
    def revision(self) -> int:
        """The newest revision that is durable and visible."""

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> Page:
        """List the live keys under *prefix*, in order, as of one revision."""

    async def write(self, key: str, value: bytes | None, *, expect: int) -> int:
        """Set *key*, or delete it, if its revision is still *expect*; else raise Conflict.

        Returns the new revision once the change is durable and visible to watches; raises
        ServiceUnavailable when it could not be made durable. Cancelling the caller does not
        take the write back.
        """

    def watch(self, prefix: str, *, since: int) -> AsyncGenerator[Sequence[Change], None]:
        """Yield every change after *since*, in order, without gaps; raise Expired if compacted.

        What there is comes together, so that a watcher of many changes wakes up once for them.
        """

    async def compact(self, through: int) -> None:
        """Forget history up to *through*; live keys stay."""

    async def close(self) -> None:
        """Finish what was begun and let go of files and threads."""
