"""The controllers alone: no kernel, no network, no agents; the API in process over memory.

How many keys a second each one judges on a satisfied cluster, how long a Deployment takes from 0
to 1000 Pods created, and a burst of many Deployments until each reports its Pods; CPU-seconds a Pod
are this process's own.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import uvloop
from measure import Figure, Stopwatch, report

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.cache import Cache, Delta
from sampan.client.events import EventRecorder
from sampan.controllers.events import ControllerEvents
from sampan.controllers.loop import Loop, wall_clock
from sampan.controllers.plan import Controller, World
from sampan.controllers.roster import controllers, interests
from sampan.store.memory import MemoryStore

JUDGED_FOR = 0.5
"""Seconds that each controller's keys are judged again and again."""


@dataclass
class Bench:
    client: LocalClient
    cache: Cache
    everyone: Sequence[Controller]

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 600) -> None:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 - what is measured has no event to wait for
                await asyncio.sleep(0.01)

    async def pods(self) -> int:
        return len((await self.client.list(kinds.PODS, "default")).items)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    registry = StoreRegistry(MemoryStore(), Settings(root_ca="CA"))
    await registry.start()
    client, everyone = LocalClient(registry), controllers("CA")
    cache = Cache(client, interests(everyone))
    recorder = EventRecorder(client, wall_clock)
    loop = Loop(client, cache, everyone, ControllerEvents(recorder))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(w) for w in (cache.run(), loop.run(), recorder.run())]
        await cache.synced()
        yield Bench(client, cache, everyone)
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def measured(*figures: Figure, pods: int = 0) -> Iterator[None]:
    """Add the time of what is inside to the first figure, and CPU-seconds a Pod to the second."""
    wall, cpu = time.monotonic(), time.process_time()
    yield
    watch = Stopwatch(time.monotonic() - wall, time.process_time() - cpu)
    figures[0].add(watch)
    if pods:
        figures[1].values.append(watch.cpu / pods * 1000)


def deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    container = {"name": "c", "image": "app", "ports": [{"containerPort": 8080}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


async def scale(bench: Bench, size: int, figures: Mapping[str, Figure]) -> None:
    await bench.client.create(kinds.DEPLOYMENTS, deployment("web", 0))

    async def empty() -> bool:
        found = await bench.client.get(kinds.DEPLOYMENTS, "web", "default")
        status = found.get("status") or {}
        return bool(status.get("observedGeneration") == 1 and not await bench.pods())

    async def full() -> bool:
        return await bench.pods() == size

    await bench.until(empty)
    with measured(figures["scale"], figures["cpu"], pods=size):
        patch = {"spec": {"replicas": size}}
        await bench.client.patch(kinds.DEPLOYMENTS, "web", patch, "default")
        await bench.until(full)


async def burst(bench: Bench, size: int, figures: Mapping[str, Figure]) -> None:
    async def reported() -> bool:
        found = (await bench.client.list(kinds.DEPLOYMENTS, "default")).items
        return all((d.get("status") or {}).get("replicas") == 3 for d in found)

    with measured(figures["burst"], figures["burst cpu"], pods=size * 3):
        await asyncio.gather(
            *(bench.client.create(kinds.DEPLOYMENTS, deployment(f"d{n}", 3)) for n in range(size))
        )
        await bench.until(reported)


def judge(bench: Bench, figures: dict[str, Figure]) -> None:
    """Let each controller plan for every key that the objects there are would wake."""
    world = World(bench.cache, wall_clock(), time.monotonic(), {})
    for controller in bench.everyone:
        keys = sorted(
            {
                key
                for view, trigger in controller.triggers.items()
                for obj in bench.cache.all(view)
                for key in trigger(Delta(view, None, obj), bench.cache)
            }
        )
        if not keys:
            continue
        rounds, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < JUDGED_FOR:
            for key in keys:
                list(controller.reconcile(key, world))
            rounds += len(keys)
        name = f"{controller.name}, {len(keys)} keys"
        figures.setdefault(name, Figure(name, "keys/s")).values.append(rounds / passed)


async def once(arguments: argparse.Namespace, figures: dict[str, Figure]) -> None:
    async with running() as bench:
        await scale(bench, arguments.pods, figures)
    async with running() as bench:
        await burst(bench, arguments.deployments, figures)
        judge(bench, figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=200)
    arguments = parser.parse_args()
    size = f"{arguments.deployments} Deployments x 3"
    figures = {
        "scale": Figure(f"0 to {arguments.pods} Pods created", "s"),
        "cpu": Figure("CPU a Pod from 0 to all", "ms"),
        "burst": Figure(f"{size}, until reported", "s"),
        "burst cpu": Figure("CPU a Pod in the burst", "ms"),
    }
    for _ in range(arguments.runs):
        uvloop.run(once(arguments, figures))
    report("controllers", list(figures.values()))


if __name__ == "__main__":
    main()
