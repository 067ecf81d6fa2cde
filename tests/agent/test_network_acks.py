"""A Pod is stopped only when every node has said that it sends nothing to it any more."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from sampan.agent.network_acks import (
    APPLIED,
    Acknowledger,
    Everybody,
    Farewells,
    left,
    revision_of,
)
from sampan.agent.node import LEASE_NAMESPACE
from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import EndpointSlice, Node, Object
from sampan.client.cache import Cache, Delta, Interest
from sampan.testing.clock import VirtualTimeLoop
from tests.controllers.memory_api import MemoryApi


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def add_node(api: MemoryApi, name: str, applied: int | None, *, ready: bool = True) -> None:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    await api.create(
        kinds.NODES, {"metadata": {"name": name}, "status": {"conditions": conditions}}
    )
    meta: Object = {"name": name, "namespace": LEASE_NAMESPACE}
    if applied is not None:
        meta["annotations"] = {APPLIED: str(applied)}
    await api.create(kinds.LEASES, {"metadata": meta})


async def say(api: MemoryApi, node: str, applied: int) -> None:
    patch = {"metadata": {"annotations": {APPLIED: str(applied)}}}
    await api.patch(kinds.LEASES, node, patch, LEASE_NAMESPACE)


@asynccontextmanager
async def listening(api: MemoryApi) -> AsyncIterator[Everybody]:
    cache = Cache(api, [Interest(Node)])
    everybody = Everybody(api, cache)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache.run()), group.create_task(everybody.run())]
        await cache.synced()
        try:
            yield everybody
        finally:
            for task in tasks:
                task.cancel()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_last_node_to_say_so_ends_the_wait() -> None:
    api = MemoryApi()
    await add_node(api, "a", 10)
    await add_node(api, "b", 4)
    async with listening(api) as everybody, asyncio.TaskGroup() as group:
        waiting = group.create_task(everybody.have_applied(9))
        await asyncio.sleep(0.5)
        await say(api, "b", 8)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await say(api, "b", 9)
        assert await waiting
        assert now() < 1.1


async def test_a_silent_node_is_waited_for_only_so_long() -> None:
    api = MemoryApi()
    await add_node(api, "a", 10)
    await add_node(api, "slow", 4)
    async with listening(api) as everybody:
        assert not await everybody.have_applied(9, within=2)
        assert 2 <= now() < 2.1


async def test_who_is_not_ready_or_never_said_anything_is_not_waited_for() -> None:
    api = MemoryApi()
    await add_node(api, "a", 10)
    await add_node(api, "lost", 4, ready=False)
    await add_node(api, "other", None)
    async with listening(api) as everybody:
        assert await everybody.have_applied(9)
        assert now() < 0.1


async def test_nobody_is_listened_to_while_nobody_waits() -> None:
    api = MemoryApi()
    await add_node(api, "a", 10)
    listed: list[str] = []
    original = api.list

    async def spy(kind: Kind, namespace: str = "", **more: str) -> object:
        listed.append(kind.plural)
        return await original(kind, namespace, **more)

    api.list = spy  # type: ignore[method-assign, assignment]
    async with listening(api) as everybody:
        await asyncio.sleep(60)
        assert "leases" not in listed
        assert await everybody.have_applied(5)
        assert await everybody.have_applied(6)


async def test_a_node_says_how_far_it_is_and_says_it_again() -> None:
    api = MemoryApi()
    await add_node(api, "a", None)
    acks = Acknowledger(api, "a")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(acks.run())
        await asyncio.sleep(1)
        assert "annotations" not in (await lease(api))["metadata"]
        acks.applied(7)
        await asyncio.sleep(0.01)
        assert (await lease(api))["metadata"]["annotations"] == {APPLIED: "7"}
        await say(api, "a", 0)  # as if the server had lost it
        await asyncio.sleep(11)
        assert (await lease(api))["metadata"]["annotations"] == {APPLIED: "7"}
        work.cancel()


async def test_what_could_not_be_said_is_said_when_the_server_is_back() -> None:
    api = MemoryApi()
    await add_node(api, "a", None)
    acks = Acknowledger(api, "a")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(acks.run())
        with away(api):
            acks.applied(7)
            await asyncio.sleep(3)
        await asyncio.sleep(0.5)
        assert (await lease(api))["metadata"]["annotations"] == {APPLIED: "7"}
        work.cancel()


@contextmanager
def away(api: MemoryApi) -> Iterator[None]:
    def refuse(_verb: str, _kind: Kind) -> ServiceUnavailable:
        return ServiceUnavailable("away")

    before, api.fault = api.fault, refuse
    yield
    api.fault = before


async def lease(api: MemoryApi) -> Object:
    return await api.get(kinds.LEASES, "a", LEASE_NAMESPACE)


async def test_a_pods_clients_are_waited_for_as_well_but_not_for_ever() -> None:
    api, busy = MemoryApi(), [2, 1, 1, 0]
    endless = [1] * 1000

    async def unfinished(address: str) -> int:
        return (busy if address == "10.42.0.5" else endless).pop(0)

    cache = Cache(api, [Interest(Node), Interest(EndpointSlice)])
    farewells = Farewells(api, cache, unfinished)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache.run()), group.create_task(farewells.run())]
        await cache.synced()
        delta = Delta(EndpointSlice, piece(3), None)
        waiting = group.create_task(farewells.wait("uid", "10.42.0.5", delta))
        await asyncio.sleep(0.05)
        assert farewells.sent_to("uid", "default", "10.42.0.5")
        await waiting
        assert 0.3 <= now() < 0.4
        assert not farewells.sent_to("uid", "default", "10.42.0.5")
        await farewells.wait("uid", "10.42.0.6", delta)
        assert 2.3 <= now() < 2.5
        for task in tasks:
            task.cancel()


def piece(revision: int, **ready: bool) -> EndpointSlice:
    endpoints = [{"addresses": [a], "conditions": {"ready": r}} for a, r in ready.items()]
    meta = {"name": "s", "namespace": "d", "resourceVersion": str(revision)}
    return EndpointSlice.of({"metadata": meta, "endpoints": endpoints})


def test_an_endpoint_has_left_when_it_is_ready_no_more_or_its_slice_is_gone() -> None:
    old, new = piece(3, a=True, b=True), piece(5, a=True, b=False)
    changed, gone = Delta(EndpointSlice, old, new), Delta(EndpointSlice, old, None)
    assert left(changed) == {"b"}
    assert left(gone) == {"a", "b"}
    assert left(Delta(EndpointSlice, None, new)) == set()
    assert (revision_of(changed), revision_of(gone)) == (5, 4)
