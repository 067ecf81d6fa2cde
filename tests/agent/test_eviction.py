"""Who goes when a node runs short, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sampan.agent.collecting import Collector, Held, Space
from sampan.agent.eviction import (
    Limits,
    PodUsage,
    Resource,
    evictable,
    over_limit,
    shortage,
    victim,
)
from sampan.agent.machine import Headroom
from sampan.agent.pods import NEIGHBOURS, Pods
from sampan.agent.pressure import Gauges
from sampan.agent.record import Record
from sampan.agent.spec import NodePod
from sampan.api.objects import Object
from sampan.client.cache import Cache
from sampan.testing.clock import VirtualTimeLoop
from sampan.testing.runtime import FakeRuntime, loop_time
from tests.agent.pods_bed import IMAGES, Bed, api, config, pod, until
from tests.agent.situations import make_pod

LEAST = Limits(memory=100 << 20, disk=1 << 30, pids=1000)
PLENTY = Headroom(memory=1 << 30, disk=10 << 30, pids=9000)
SHORT: tuple[Resource, int, int] = ("memory", 100 << 20, 50 << 20)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def a_pod(uid: str, *, asks: str = "", priority: int = 0, **meta: Any) -> NodePod:
    resources = {"requests": {"memory": asks, "ephemeral-storage": asks}} if asks else {}
    main = {"name": "main", "image": "app", "resources": resources}
    return make_pod(meta={"uid": uid, "name": uid, **meta}, containers=[main], priority=priority)


def uses(mebibytes: int) -> PodUsage:
    size = mebibytes << 20
    return PodUsage(memory={"main": size}, disk={"main": size}, processes=mebibytes)


def first(short: Any, *pods: tuple[NodePod, PodUsage]) -> str:
    found = victim(short, [p for p, _ in pods], {p.uid: used for p, used in pods})
    return found.uid if found else ""


def test_memory_is_short_before_anything_else() -> None:
    assert shortage(PLENTY, LEAST) is None
    assert shortage(Headroom(memory=1, disk=1, pids=1), LEAST) == ("memory", 100 << 20, 1)
    assert shortage(Headroom(memory=1 << 30, disk=1, pids=1), LEAST) == (
        "ephemeral-storage",
        1 << 30,
        1,
    )


def test_who_uses_more_than_it_asked_for_goes_before_who_keeps_within() -> None:
    greedy, modest = (
        (a_pod("greedy", asks="10Mi", priority=9), uses(20)),
        (
            a_pod("modest", asks="900Mi"),
            uses(800),
        ),
    )
    assert first(SHORT, modest, greedy) == "greedy"
    assert first(SHORT, modest) == "modest"


def test_among_those_the_lower_priority_goes_and_then_the_greater_excess() -> None:
    low, high = (a_pod("low", priority=1), uses(5)), (a_pod("high", priority=2), uses(500))
    assert first(SHORT, high, low) == "low"
    little, much = (a_pod("little"), uses(5)), (a_pod("much"), uses(6))
    assert first(SHORT, little, much) == "much"


def test_a_shortage_of_process_ids_looks_at_priority_first() -> None:
    short = ("pids", 1000, 5)
    low, high = (a_pod("low"), uses(1)), (a_pod("high", priority=5), uses(500))
    assert first(short, high, low) == "low"


def test_the_systems_own_pods_stay() -> None:
    assert not evictable(a_pod("critical", priority=2_000_000_000))
    assert not evictable(a_pod("mirror", annotations={"kubernetes.io/config.mirror": "x"}))
    assert first(SHORT, (a_pod("critical", priority=2_000_001_000), uses(900))) == ""


def test_the_victim_is_told_what_was_short_and_what_it_used() -> None:
    big = a_pod("big", asks="10Mi")
    found = victim(SHORT, [big], {"big": uses(20)})
    assert found is not None
    assert found.why == (
        "The node was low on resource: memory. Threshold quantity: 102400Ki, available: 51200Ki. "
        "Container main was using 20480Ki, request is 10240Ki, has larger consumption of memory."
    )


def limited(volumes: list[Object], **limits: str) -> NodePod:
    main = {"name": "main", "image": "app", "resources": {"limits": limits}}
    return make_pod(containers=[main], volumes=volumes)


def test_limits_of_local_storage_are_kept() -> None:
    small = [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}]
    memory = [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}}]
    used = PodUsage(disk={"main": 3 << 20}, volumes={"tmp": 2 << 20})
    assert 'EmptyDir volume "tmp" exceeds the limit "1Mi"' in over_limit(limited(small), used)
    assert over_limit(limited(memory), used) == ""
    own = {"ephemeral-storage": "2Mi"}
    assert "Container main exceeded its local" in over_limit(limited([], **own), used)
    total = {"ephemeral-storage": "4Mi"}
    assert "total limit of containers" in over_limit(limited([], **total), used)
    assert over_limit(limited([], **{"ephemeral-storage": "5Mi"}), used) == ""


# On a node


class Node:
    def __init__(self) -> None:
        self.left = PLENTY
        self.used: dict[str, PodUsage] = {}

    def measure(self, record: Record, _disk: bool) -> PodUsage:  # noqa: FBT001 - see Gauges
        return self.used.get(record.pod.metadata.name, PodUsage())


@asynccontextmanager
async def node(base: Path) -> AsyncIterator[tuple[Bed, Node]]:
    gauged = Node()
    async with api() as client, asyncio.TaskGroup() as group:
        runtime = FakeRuntime(IMAGES)
        neighbours = Cache(client, NEIGHBOURS)
        gauges = Gauges(lambda: gauged.left, gauged.measure)
        pods = Pods(config(base), client, runtime, neighbours, gauges=gauges, now=loop_time)
        tasks = [group.create_task(neighbours.run()), group.create_task(pods.run())]
        yield Bed(client, runtime, base), gauged
        for task in tasks:
            task.cancel()


async def test_one_pod_at_a_time_is_evicted_until_there_is_enough(tmp_path: Path) -> None:
    async with node(tmp_path) as (b, gauged):
        for name in ("large", "small"):
            await b.create(pod(name))
            await until(partial(b.is_ready, name))
        gauged.used = {"large": uses(500), "small": uses(5)}
        gauged.left = Headroom(memory=1 << 20, disk=10 << 30, pids=9000)

        async def evicted() -> bool:
            return bool((await b.get("large"))["status"].get("reason") == "Evicted")

        await until(evicted)
        gauged.left = PLENTY
        await asyncio.sleep(60)
        status = (await b.get("large"))["status"]
        assert status["phase"] == "Failed"
        assert "low on resource: memory" in status["message"]
        marks = {c["type"]: c.get("reason") for c in status["conditions"]}
        assert marks["DisruptionTarget"] == "TerminationByKubelet"
        [alive] = [run for run in b.runtime.runs() if run.running]
        assert alive.uid == (await b.get("small"))["metadata"]["uid"]
        assert await b.is_ready("small")
        assert any(reason == "Evicted" for reason, _ in await b.events())


async def test_a_scratch_volume_that_grows_too_large_ends_its_pod(tmp_path: Path) -> None:
    async with node(tmp_path) as (b, gauged):
        volume = {"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}
        await b.create(pod(spec={"volumes": [volume]}))
        await until(b.is_ready)
        await asyncio.sleep(30)
        assert await b.is_ready()
        gauged.used["web"] = PodUsage(volumes={"tmp": 2 << 20})

        async def evicted() -> bool:
            return bool((await b.get())["status"].get("reason") == "Evicted")

        await until(evicted)


# Images


class Images:
    def __init__(self) -> None:
        self.images = {name: Held(name, (f"{name}:1",), 10) for name in ("old", "new", "mine")}
        self.using = frozenset({"new:1"})
        self.removed: list[str] = []

    async def held(self) -> list[Held]:
        return list(self.images.values())

    async def in_use(self) -> frozenset[str]:
        return self.using

    async def kept(self) -> frozenset[str]:
        return frozenset({"mine:1"})

    async def remove(self, image: str) -> None:
        del self.images[image]
        self.removed.append(image)


async def test_images_go_when_the_disk_is_full_the_longest_unused_first() -> None:
    images, now, used = Images(), [0.0], [90]
    collector = Collector(images, lambda: Space(100, used[0]), lambda: now[0])
    assert await collector.look() == 0  # all of them are new to us
    now[0] = 500.0
    images.using = frozenset()
    images.images["old"] = Held("old", ("old:1",), 6)
    assert await collector.look() == 16
    assert images.removed == ["old", "new"]
    assert "mine" in images.images


async def test_images_in_use_or_new_or_below_the_threshold_stay() -> None:
    images, now, used = Images(), [0.0], [90]
    collector = Collector(images, lambda: Space(100, used[0]), lambda: now[0])
    await collector.look()
    now[0] = 60.0
    assert await collector.look() == 0
    now[0], used[0] = 500.0, 84
    assert await collector.look() == 0
    used[0] = 85
    assert await collector.look() == 10
    assert images.removed == ["old"]
