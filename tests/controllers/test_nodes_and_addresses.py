"""Ranges of Pod addresses, load balancers' addresses, and Pods of Nodes that are no more."""

import asyncio

from sampan.api import kinds
from sampan.api.objects import Node
from sampan.controllers import load_balancer, node_ipam, node_lifecycle, pod_gc
from sampan.controllers.plan import RecordEvent
from tests.controllers.cluster import (
    add_node,
    beat,
    pod,
    report_ready,
    running,
    service,
    until,
    world,
)
from tests.controllers.memory_api import MemoryApi


def ranges(api: MemoryApi) -> list[str]:
    return [(node.get("spec") or {}).get("podCIDR", "") for node in api.of(kinds.NODES)]


async def test_nodes_that_join_together_get_ranges_of_their_own() -> None:
    api = MemoryApi(lag=0.2)
    async with running(api, (node_ipam.CONTROLLER,)):
        for n in range(20):
            await add_node(api, f"n{n}")
        await until(lambda: all(ranges(api)))
    assert len(set(ranges(api))) == 20
    assert set(ranges(api)) == {f"10.42.{n}.0/24" for n in range(20)}


async def test_the_range_of_a_deleted_node_is_given_again() -> None:
    api = MemoryApi()
    async with running(api, (node_ipam.CONTROLLER,)):
        for name in ("a", "b"):
            await add_node(api, name)
        await until(lambda: all(ranges(api)))
        await api.delete(kinds.NODES, "a")
        await add_node(api, "c")
        await until(lambda: sorted(ranges(api)) == ["10.42.0.0/24", "10.42.1.0/24"])


def test_when_the_ranges_are_used_up_an_event_says_so() -> None:
    full = [
        Node.of(
            {
                "metadata": {"name": f"n{n}", "resourceVersion": "1"},
                "spec": {"podCIDR": f"10.42.{n}.0/24"},
            }
        )
        for n in range(256)
    ]
    new = Node.of({"metadata": {"name": "new", "resourceVersion": "1"}})
    (event,) = node_ipam.reconcile(new, world(*full, new))
    assert isinstance(event, RecordEvent)
    assert "no free /24" in event.message


async def test_a_load_balancer_has_the_addresses_of_the_ready_nodes() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await add_node(api, "n2")
    await api.create(kinds.SERVICES, service("web", type="LoadBalancer"))
    await api.create(kinds.SERVICES, service("theirs", type="LoadBalancer", loadBalancerClass="x"))

    def addresses(name: str) -> list[str]:
        status = api.objects[kinds.SERVICES]["default", name].get("status") or {}
        return [i["ip"] for i in (status.get("loadBalancer") or {}).get("ingress") or []]

    async with running(api, (load_balancer.CONTROLLER,)):
        await until(lambda: addresses("web") == ["192.0.2.1", "192.0.2.2"])
        await report_ready(api, "n1", "Unknown")
        await until(lambda: addresses("web") == ["192.0.2.2"])
        await api.patch(kinds.SERVICES, "web", {"spec": {"type": "ClusterIP"}}, "default")
        await until(lambda: addresses("web") == [])
    assert addresses("theirs") == []


async def test_pods_of_a_deleted_node_are_removed_without_grace() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await add_node(api, "n2")
    for name, node in (("a", "n1"), ("b", "n2"), ("c", "n2"), ("unplaced", "")):
        await api.create(kinds.PODS, pod(name, node))
    async with running(api, (pod_gc.CONTROLLER,), agents=False):
        await api.delete(kinds.PODS, "c", "default")
        await asyncio.sleep(5)
        assert len(api.of(kinds.PODS)) == 4
        await api.delete(kinds.NODES, "n2")
        await until(lambda: len(api.of(kinds.PODS)) == 2)
    assert {p["metadata"]["name"] for p in api.of(kinds.PODS)} == {"a", "unplaced"}


async def test_a_node_that_is_deleted_by_mistake_keeps_its_pods_if_its_agent_makes_it_again() -> (
    None
):
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.PODS, pod("kept", "n1"))
    which = (pod_gc.CONTROLLER, node_lifecycle.CONTROLLER)
    alive = {"n1"}
    async with running(api, which, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        await api.delete(kinds.NODES, "n1")
        await asyncio.sleep(30)
        await add_node(api, "n1")
        await asyncio.sleep(30)
        assert len(api.of(kinds.PODS)) == 1
        await api.delete(kinds.NODES, "n1")
        alive.clear()
        await until(lambda: api.of(kinds.PODS) == [], within=7.5)


async def test_pods_on_a_node_that_the_cache_does_not_know_yet_are_left_alone() -> None:
    api = MemoryApi(lag=1.0)
    async with running(api, (pod_gc.CONTROLLER,), agents=False):
        await api.create(kinds.PODS, pod("early", "n1"))
        await asyncio.sleep(0.5)
        await add_node(api, "n1")
        await asyncio.sleep(10)
        assert len(api.of(kinds.PODS)) == 1
