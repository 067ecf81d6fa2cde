"""The default store: one SQLite file, many writers to an fsync.

Writes gather while a commit runs, and the next commit takes all of them (group commit, without an
artificial delay). Everything but the commit itself happens on the event loop: deciding against
the live keys before it, publishing after it. So nothing is locked, and nobody sees what is not
durable. Keys under a volatile prefix take part in the same one order but never reach the disk.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from sampan.api.errors import Conflict
from sampan.store.errors import Closed, StoreError
from sampan.store.history import History, Write
from sampan.store.interface import Change, Page
from sampan.store.journal import Journal

_IDLE: Final = 0.5
"""Seconds without a commit after which the log is moved into the database."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    writes: int
    """Changes that were accepted."""
    commits: int
    """Transactions; each is one fsync."""
    failures: int
    """Transactions that failed."""
    waiting: int
    """Writes that wait for the next transaction."""


@dataclass(frozen=True, slots=True)
class _Request:
    write: Write
    answer: asyncio.Future[int]


class SqliteStore:
    """Opens *path* at once; raises CannotOpen, with what to do about it, if it cannot be used."""

    def __init__(self, path: str | PathLike[str], *, volatile: tuple[str, ...] = ()) -> None:
        self._journal = Journal(Path(path))
        self._history = History(*self._journal.load())
        self._volatile = volatile
        self._waiting: list[_Request] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._job: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._closed = False
        self._writes = self._commits = self._failures = 0

    @property
    def revision(self) -> int:
        return self._history.revision

    async def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> Page:
        return self._history.list(prefix, after, limit)

    async def write(self, key: str, value: bytes | None, *, expect: int) -> int:
        if self._closed:
            raise Closed("the store is closed; connect to another server or try again later")
        request = _Request(Write(key, value, expect), asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._schedule()
        return await request.answer

    def watch(self, prefix: str, *, since: int) -> AsyncGenerator[Change, None]:
        return self._history.watch(prefix, since)

    async def compact(self, through: int) -> None:
        self._history.tail.drop(through)

    async def close(self) -> None:
        """Commit what is waiting, then let go of the file. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        while self._scheduled or self._job:
            if self._job:
                await asyncio.wait([self._job])
            await asyncio.sleep(0)
        if self._idle:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._journal.close, self.revision)
        self._thread.shutdown()

    def statistics(self) -> StoreStatistics:
        return StoreStatistics(self._writes, self._commits, self._failures, len(self._waiting))

    def _schedule(self) -> None:
        """Begin a batch once the tasks that are ready now have added their writes to it."""
        if not self._scheduled and not self._job:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        batch, self._waiting = self._waiting, []
        outcomes = self._history.stage([request.write for request in batch])
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        durable = [change for change in changes if not change.key.startswith(self._volatile)]
        newest = changes[-1].revision if changes else 0
        if not durable and not self._journal.must_commit(newest):
            self._accept(batch, outcomes)
            return

        def committed(job: asyncio.Future[None]) -> None:
            self._job = None
            if error := job.exception():
                self._refuse(batch, error)
            else:
                self._commits += 1
                self._accept(batch, outcomes)
            self._go_on()

        self._run(self._journal.commit, durable, newest)
        ...
