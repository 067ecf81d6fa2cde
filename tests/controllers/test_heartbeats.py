import asyncio
from datetime import timedelta

from sampan.api.objects import Condition, Lease, LeaseSpec, Metadata, Node, NodeStatus
from sampan.client.cache import Delta
from sampan.controllers.heartbeats import GRACE, Heartbeats
from sampan.testing.clock import VirtualTimeLoop
from tests.controllers.memory_api import EPOCH


def lease(second: int, namespace: str = "kube-node-lease") -> Lease:
    spec = LeaseSpec(renew_time=EPOCH + timedelta(seconds=second))
    return Lease(metadata=Metadata(name="n1", namespace=namespace), spec=spec)


def node(status: str) -> Node:
    conditions = [Condition("Ready", status)]
    return Node(metadata=Metadata(name="n1"), status=NodeStatus(conditions=conditions))


async def test_a_renewal_counts_when_it_arrives_whatever_time_it_says() -> None:
    beats = Heartbeats()
    await asyncio.sleep(100)
    beats.note(Delta(Lease, lease(5), lease(3)))
    assert beats.heard == {"n1": 100}


async def test_a_lease_that_changes_without_a_renewal_does_not_count() -> None:
    beats = Heartbeats()
    beats.note(Delta(Lease, lease(5), lease(5)))
    beats.note(Delta(Lease, None, lease(6, "default")))
    assert beats.heard == {}


async def test_a_new_node_has_time_to_begin() -> None:
    beats = Heartbeats()
    beats.note(Delta(Node, None, node("True")))
    assert beats.heard == {"n1": GRACE}


async def test_a_deleted_node_is_remembered_but_has_time_again_when_it_comes_back_late() -> None:
    beats = Heartbeats()
    await asyncio.sleep(1000)
    beats.note(Delta(Lease, lease(1), lease(2)))
    beats.note(Delta(Node, node("True"), None))
    beats.note(Delta(Node, None, node("True")))
    assert beats.heard == {"n1": 1000}
    await asyncio.sleep(1000)
    beats.note(Delta(Node, None, node("True")))
    assert beats.heard == {"n1": 2000 + GRACE}


async def test_the_agents_own_report_counts_and_our_unknown_does_not() -> None:
    beats = Heartbeats()
    await asyncio.sleep(50)
    beats.note(Delta(Node, node("True"), node("Unknown")))
    assert beats.heard == {}
    beats.note(Delta(Node, node("Unknown"), node("False")))
    assert beats.heard == {"n1": 50}


async def test_time_that_this_process_stood_still_is_not_held_against_the_nodes() -> None:
    beats = Heartbeats()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(beats.watch_for_stalls())
        await asyncio.sleep(10)
        beats.note(Delta(Lease, lease(1), lease(2)))
        await asyncio.sleep(0.1)
        loop._now += 30
        await asyncio.sleep(1)
        silence = loop.time() - beats.heard["n1"]
        watching.cancel()
    assert silence < 2
