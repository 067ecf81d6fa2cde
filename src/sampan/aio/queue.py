"""Keys that need a look, each in one pair of hands at a time.

A key stands for "something about this may have changed", never for an event: adding it twice
before it is handed out is adding it once. While somebody works on a key, new additions wait, and
the key comes back exactly once when that work is done. Nothing here runs in the background: the
only things that tick are the event loop's own timers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sampan.aio.backoff import Backoff

K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    ready: int
    """Keys that the next workers will get."""
    delayed: int
    """Keys whose time has not come."""
    active: int
    """Keys in somebody's hands, or held after that."""
    failing: int
    """Keys whose last attempt failed."""
    handed_out: int
    """How many times a key was handed out since the beginning."""
    retries: int
    """How many of these failed."""


class KeyedQueue(Generic[K]):
    """Iterate over it from as many workers as you like; answer every key by `done` or `retry`."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._active: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = {}
        self._handed_out = 0
        self._retries = 0

    def add(self, key: K, *, after: float = 0.0) -> None:
        """Hand *key* out in *after* seconds; of several additions the earliest counts."""
        if after <= 0:
            self._offer(key)
            return
        if key in self._queued or key in self._dirty:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + after
        if timer := self._timers.get(key):
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._offer, key)

    def done(self, key: K) -> None:
        """Give *key* back; the work on it succeeded."""
        self._failures.pop(key, None)
        self._release(key)

    async def done_after(
        self, key: K, condition: Awaitable[object], *, at_most: float = 10.0
    ) -> None:
        """Give *key* back once *condition* has come true, or after *at_most* seconds.

        Run it in the worker's own TaskGroup, and the worker goes on with other keys meanwhile.
        """
        try:
            async with asyncio.timeout(at_most):
                await condition
        except TimeoutError:
            log.warning("%s: still waiting after %g s; going on without", key, at_most)
        finally:
            self.done(key)

    def retry(self, key: K, error: BaseException) -> None:
        """Give *key* back; it failed, and comes again after a pause that doubles each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._retries += 1
        pause = self._backoff.delay(failures)
        log.debug("%s: %s; attempt %d in %g s", key, error, failures + 1, pause)
        self._release(key)
        self.add(key, after=pause)

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(
            ready=len(self._queued),
            delayed=len(self._timers),
            active=len(self._active),
            failing=len(self._failures),
            handed_out=self._handed_out,
            retries=self._retries,
        )

    def __aiter__(self) -> "KeyedQueue[K]":
        return self

    async def __anext__(self) -> K:
        key = await self._ready.get()
        self._queued.remove(key)
        self._active.add(key)
        self._handed_out += 1
        return key

    def _offer(self, key: K) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def _release(self, key: K) -> None:
        self._active.discard(key)
        if key in self._dirty:
            self._dirty.remove(key)
            self._offer(key)
