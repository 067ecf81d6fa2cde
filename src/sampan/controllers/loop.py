"""The one loop that runs every controller: changes become keys, keys become plans and writes.

A key is in one pair of hands at a time, and stays there until the cache has seen what was written
for it. One object's trouble delays that object alone.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue, QueueStatistics
from sampan.api.errors import AlreadyExists, Conflict
from sampan.api.kinds import Kind
from sampan.api.objects import Resource
from sampan.client.cache import Cache, Delta
from sampan.client.events import wall_clock
from sampan.client.interface import Client
from sampan.controllers.events import Recorder
from sampan.controllers.heartbeats import Heartbeats
from sampan.controllers.plan import (
    CheckAgain,
    Controller,
    Failure,
    RecordEvent,
    Trigger,
    World,
    Write,
)
from sampan.controllers.writes import Writer

SHOWN_WITHIN: Final = 10.0
"""Seconds that the cache may take to show a write before its key is looked at again anyway."""

log = logging.getLogger(__name__)


class Loop:
    """Runs *controllers* over one cache; made before the cache runs, it misses no change."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        controllers: Sequence[Controller],
        recorder: Recorder,
        *,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._cache = cache
        self._recorder = recorder
        self._now = now
        self._heartbeats = Heartbeats()
        views = followed(controllers)
        self._writer = Writer(client, cache, views, recorder)
        self._benches = [_Bench(controller) for controller in controllers]
        self._routes: defaultdict[type[Resource], list[tuple[Trigger, KeyedQueue[str]]]]
        self._routes = defaultdict(list)
        for bench in self._benches:
            for view, trigger in bench.controller.triggers.items():
                self._routes[view].append((trigger, bench.queue))
        cache.subscribe(self._changed)

    async def run(self) -> None:
        """Work until cancelled, from the moment the cache has listed everything."""
        await self._cache.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heartbeats.watch_for_stalls())
            for bench in self._benches:
                group.create_task(self._serve(bench), name=bench.controller.name)

    def follow(self, view: type[Resource], triggers: Mapping[str, Trigger]) -> None:
        """Have controllers, by name, look at the changes of one more *view*."""
        if view not in self._routes:
            self._writer.follow(view)
            for bench in self._benches:
                if trigger := triggers.get(bench.controller.name):
                    self._routes[view].append((trigger, bench.queue))

    def statistics(self) -> Mapping[str, QueueStatistics]:
        return {bench.controller.name: bench.queue.statistics() for bench in self._benches}

    def _changed(self, delta: Delta[Any]) -> None:
        self._heartbeats.note(delta)
        for trigger, queue in self._routes[delta.view]:
            for key in trigger(delta, self._cache):
                queue.add(key)

    async def _serve(self, bench: "_Bench") -> None:
        async with asyncio.TaskGroup() as group:
            async for key in bench.queue:
                await bench.hands.acquire()
                group.create_task(self._work(bench, key))

    async def _work(self, bench: "_Bench", key: str) -> None:
        try:
            failure = await self._reconcile(bench, key)
        except Exception as error:  # one key's bug must not end the others
            log.exception("%s %s: cannot be reconciled", bench.controller.name, key)
            bench.queue.retry(key, error)
        else:
            bench.settle(key, failure)
        finally:
            bench.hands.release()

    async def _reconcile(self, bench: "_Bench", key: str) -> Failure | None:
        """Plan for *key*, carry the plan out, and wait until the cache shows it."""
        writes: list[Write] = []
        for action in bench.controller.reconcile(key, self._world(bench.failures.get(key))):
            match action:
                case CheckAgain(after):
                    bench.queue.add(key, after=after)
                case RecordEvent():
                    self._recorder.record(action, bench.controller.name)
                case write:
                    writes.append(write)
        if not writes:
            return None
        outcome = await self._writer.carry_out(writes, bench.controller.name)
        try:
            async with asyncio.timeout(SHOWN_WITHIN):
                await self._writer.seen(outcome)
        except TimeoutError:
            log.warning("%s %s: the cache is behind", bench.controller.name, key)
        return outcome.failure

    def _world(self, failure: Failure | None) -> World:
        clock = asyncio.get_running_loop().time()
        return World(self._cache, self._now(), clock, self._heartbeats.heard, failure)


class _Bench:
    """One controller's queue, hands and memory of what failed."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.queue: KeyedQueue[str] = KeyedQueue(Backoff(first=0.01, cap=60.0))
        self.hands = asyncio.Semaphore(controller.workers)
        self.failures: dict[str, Failure] = {}

    def settle(self, key: str, failure: Failure | None) -> None:
        """Give *key* back; after a failed write it comes again, and is told of the failure.

        That somebody else was faster is no failure: the next plan will see what they did.
        """
        if failure is None:
            self.failures.pop(key, None)
            self.queue.done(key)
            return
        if not isinstance(failure.error, Conflict | AlreadyExists):
            self.failures[key] = failure
            log.info("%s %s: %s", self.controller.name, key, failure.error)
        self.queue.retry(key, failure.error)


def followed(controllers: Sequence[Controller]) -> dict[Kind, type[Resource]]:
    """Return the view that is followed of each kind; two different ones are a mistake."""
    views: dict[Kind, type[Resource]] = {}
    for controller in controllers:
        for view in controller.triggers:
            if views.setdefault(view.KIND, view) is not view:
                raise TypeError(f"{controller.name} follows {view.KIND.kind} by a second view")
    return views
