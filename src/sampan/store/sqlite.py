"""The default store: one SQLite file, many writers to an fsync.

Writes gather while a commit runs, and the next commit takes all of them (group commit, without an
artificial delay). Everything but the commit itself happens on the event loop: deciding against
the live keys before it, publishing after it. So nothing is locked, and nobody sees what is not
durable. Keys under a volatile prefix take part in the same one order but never reach the disk;
they are answered at once, or after the commit that runs, but never wait for one of their own.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Final

from sampan.api.errors import Conflict
from sampan.store.errors import Closed, StoreError, WriteFailed
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

    def watch(self, prefix: str, *, since: int) -> AsyncGenerator[Sequence[Change], None]:
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
        light: list[_Request] = []
        heavy: list[_Request] = []
        for request in batch:
            mine = light if request.write.key.startswith(self._volatile) else heavy
            mine.append(request)
        if self._journal.must_commit(self.revision + len(light)):
            self._commit(batch)
            return
        if light:
            self._accept(light, self._stage(light))
        if heavy:
            self._commit(heavy)

    def _commit(self, batch: Sequence[_Request]) -> None:
        outcomes = self._stage(batch)
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        if not changes:
            self._accept(batch, outcomes)
            return
        durable = [change for change in changes if not change.key.startswith(self._volatile)]

        def committed(error: BaseException | None) -> None:
            if error:
                self._refuse(batch, error)
            else:
                self._commits += 1
                self._accept(batch, outcomes)

        self._run(committed, self._journal.commit, durable, changes[-1].revision)

    def _stage(self, batch: Sequence[_Request]) -> Sequence[Change | Conflict]:
        return self._history.stage([request.write for request in batch])

    def _accept(self, batch: Sequence[_Request], outcomes: Sequence[Change | Conflict]) -> None:
        changes = [outcome for outcome in outcomes if isinstance(outcome, Change)]
        self._history.publish(changes)
        self._writes += len(changes)
        for request, outcome in zip(batch, outcomes, strict=True):
            if request.answer.done():  # its caller was cancelled
                continue
            if isinstance(outcome, Conflict):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome.revision)

    def _refuse(self, batch: Sequence[_Request], error: BaseException) -> None:
        """Fail all of *batch*, with an error each: tracebacks grow on errors that are shared."""
        self._failures += 1
        log.error("a commit of %d writes failed: %s", len(batch), error)
        kind = type(error) if isinstance(error, StoreError) else WriteFailed
        for request in batch:
            if not request.answer.done():
                request.answer.set_exception(kind(str(error)))

    def _run(
        self,
        then: Callable[[BaseException | None], None],
        work: Callable[..., None],
        *args: object,
    ) -> None:
        """Do *work* in the thread, *then* tell how it went; nothing is staged in between."""

        def ended(job: asyncio.Future[None]) -> None:
            self._job = None
            then(job.exception())
            self._go_on()

        if self._idle:
            self._idle.cancel()
        self._job = asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args))
        self._job.add_done_callback(ended)

    def _go_on(self) -> None:
        if self._journal.needs_checkpoint:
            self._checkpoint()
        elif self._waiting:
            self._schedule()
        elif self._journal.wants_checkpoint:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(_IDLE, self._checkpoint_if_idle)

    def _checkpoint_if_idle(self) -> None:
        if not self._job and not self._scheduled:
            self._checkpoint()

    def _checkpoint(self) -> None:
        def moved(error: BaseException | None) -> None:
            if error:
                log.warning("the log stays as it is until the next checkpoint: %s", error)

        self._run(moved, self._journal.checkpoint)
