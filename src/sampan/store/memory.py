"""The reference store: what the durable ones must be indistinguishable from."""

from collections.abc import AsyncGenerator, Sequence

from sampan.api.errors import Conflict
from sampan.store.errors import Closed
from sampan.store.history import History, Write
from sampan.store.interface import Change, Page


class MemoryStore:
    def __init__(self) -> None:
        self._history = History(1)
        self._closed = False

    @property
    def revision(self) -> int:
        return self._history.revision

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> Page:
        return self._history.list(prefix, after, limit)

    async def write(self, key: str, value: bytes | None, *, expect: int) -> int:
        if self._closed:
            raise Closed("the store is closed; connect to another server or try again later")
        (outcome,) = self._history.stage([Write(key, value, expect)])
        if isinstance(outcome, Conflict):
            raise outcome
        self._history.publish([outcome])
        return outcome.revision

    def watch(self, prefix: str, *, since: int) -> AsyncGenerator[Sequence[Change], None]:
        return self._history.watch(prefix, since)

    async def compact(self, through: int) -> None:
        self._history.tail.drop(through)

    async def close(self) -> None:
        self._closed = True
