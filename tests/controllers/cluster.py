"""Controllers running over the in-memory API, and Pods that become ready as if agents ran."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.client.cache import Cache
from sampan.controllers.events import EventRecorder
from sampan.controllers.loop import Loop
from sampan.controllers.plan import Controller
from sampan.controllers.roster import interests
from tests.controllers.memory_api import MemoryApi


class _Done(Exception):
    """Ends the TaskGroup of a finished test."""


@asynccontextmanager
async def running(
    api: MemoryApi, controllers: Sequence[Controller], *, agents: bool = True
) -> AsyncIterator[Loop]:
    """Run *controllers* (and play the agents' part) while the block lasts."""
    cache = Cache(api, interests(controllers))
    recorder = EventRecorder(api, api.now)
    loop = Loop(api, cache, controllers, recorder, now=api.now)
    with suppress(*_only_done()):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (cache.run(), loop.run(), recorder.run())
            ]
            if agents:
                tasks.append(group.create_task(play_agents(api)))
            await cache.synced()
            yield loop
            for task in tasks:
                task.cancel()


def _only_done() -> tuple[type[BaseException], ...]:
    return (_Done,)


async def play_agents(api: MemoryApi, *, every: float = 0.05) -> None:
    """Bind, start and stop Pods, forever."""
    while True:
        for pod in api.of(kinds.PODS):
            if pod["metadata"].get("deletionTimestamp"):
                api.gone(kinds.PODS, pod)
            elif not is_ready(pod):
                await start(api, pod)
        await asyncio.sleep(every)


async def start(api: MemoryApi, pod: Object, *, node: str = "n1", ready: bool = True) -> None:
    meta = pod["metadata"]
    number = int(meta["uid"].removeprefix("uid-"))
    status = {
        "phase": "Running",
        "podIP": f"10.42.{number // 250}.{number % 250 + 1}",
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if ready else "False",
                "lastTransitionTime": timestamp(api.now()),
            }
        ],
    }
    patch = {"spec": {"nodeName": node}, "status": status}
    await api.patch(kinds.PODS, meta["name"], patch, meta["namespace"])


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until(holds: Callable[[], bool], *, within: float = 60.0) -> None:
    """Wait in virtual time until *holds*."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)
