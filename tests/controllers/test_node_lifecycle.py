import asyncio

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.controllers import node_lifecycle, replicaset, taint_eviction
from tests.controllers.cluster import add_node, beat, labelled, pod, report_ready, running, until
from tests.controllers.memory_api import MemoryApi

WHICH = (node_lifecycle.CONTROLLER, taint_eviction.CONTROLLER)
UNREACHABLE = "node.kubernetes.io/unreachable"


def taints(api: MemoryApi, node: str) -> set[tuple[str, str]]:
    spec = api.objects[kinds.NODES]["", node].get("spec") or {}
    return {(t["key"], t["effect"]) for t in spec.get("taints") or []}


def ready(api: MemoryApi, node: str) -> str:
    conditions = api.objects[kinds.NODES]["", node]["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


def deleting(api: MemoryApi) -> set[str]:
    return {
        p["metadata"]["name"] for p in api.of(kinds.PODS) if p["metadata"].get("deletionTimestamp")
    }


async def nodes(api: MemoryApi, *names: str) -> set[str]:
    for name in names:
        await add_node(api, name)
        await api.create(kinds.PODS, pod(f"on-{name}", name))
    return set(names)


async def test_a_silent_node_is_suspect_after_two_seconds_and_dead_after_six() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        assert taints(api, "n3") == set()
        alive.remove("n3")
        await until(lambda: ready(api, "n3") == "Unknown", within=2.2)
        await until(lambda: taints(api, "n3") == {(UNREACHABLE, "NoSchedule")}, within=0.1)
        assert deleting(api) == set()
        await until(lambda: deleting(api) == {"on-n3"}, within=4.2)
        assert (UNREACHABLE, "NoExecute") in taints(api, "n3")
        assert (taints(api, "n1"), taints(api, "n2")) == (set(), set())


async def test_a_node_that_comes_back_loses_its_taints() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        alive.remove("n3")
        await until(lambda: deleting(api) == {"on-n3"}, within=8)
        alive.add("n3")
        await until(lambda: taints(api, "n3") == set() and ready(api, "n3") == "True", within=2)


async def test_when_most_nodes_vanish_at_once_nothing_is_evicted_for_a_minute() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        alive -= {"n2", "n3"}
        await until(lambda: ready(api, "n2") == ready(api, "n3") == "Unknown", within=3)
        await asyncio.sleep(50)
        assert deleting(api) == set()
        await until(lambda: deleting(api) == {"on-n2", "on-n3"}, within=15)


async def test_when_all_nodes_are_silent_nothing_is_evicted_at_all() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        alive.clear()
        await asyncio.sleep(600)
        assert ready(api, "n1") == "Unknown"
        assert deleting(api) == set()


async def test_a_dead_node_stays_dead_when_others_fall_silent_too() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        alive.remove("n3")
        await until(lambda: deleting(api) == {"on-n3"}, within=8)
        alive.remove("n2")
        await asyncio.sleep(10)
        assert (UNREACHABLE, "NoExecute") in taints(api, "n3")
        assert (UNREACHABLE, "NoExecute") not in taints(api, "n2")


async def test_a_restarted_control_plane_gives_every_node_time_to_be_heard() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, agents=False):
        await asyncio.sleep(14)
        assert {ready(api, name) for name in alive} == {"True"}


async def test_an_agent_that_reports_is_heard_even_before_its_lease() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    async with running(api, WHICH, beat(api, alive), agents=False):
        await asyncio.sleep(20)
        alive.remove("n3")
        await until(lambda: ready(api, "n3") == "Unknown", within=3)
        await report_ready(api, "n3")
        await asyncio.sleep(1.5)
        assert ready(api, "n3") == "True"
        assert taints(api, "n3") == set()


async def test_cordoned_and_unready_nodes_are_tainted_as_kubernetes_does() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2")
    theirs = [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]
    await api.patch(kinds.NODES, "n1", {"spec": {"unschedulable": True, "taints": theirs}})
    await report_ready(api, "n2", "False")
    async with running(api, (node_lifecycle.CONTROLLER,), agents=False):
        await until(lambda: len(taints(api, "n1")) == 2)
        assert taints(api, "n1") == {
            ("dedicated", "NoSchedule"),
            ("node.kubernetes.io/unschedulable", "NoSchedule"),
        }
        await until(lambda: len(taints(api, "n2")) == 2)
        assert {key for key, _ in taints(api, "n2")} == {"node.kubernetes.io/not-ready"}
        await api.patch(kinds.NODES, "n1", {"spec": {"unschedulable": None}})
        await until(lambda: taints(api, "n1") == {("dedicated", "NoSchedule")})
    assert alive


async def test_replicas_of_a_dead_node_are_replaced_within_ten_seconds() -> None:
    api = MemoryApi()
    alive = await nodes(api, "n1", "n2", "n3")
    which = (*WHICH, replicaset.CONTROLLER)

    def web() -> list[Object]:
        return [p for p in api.of(kinds.PODS) if p["metadata"]["name"].startswith("web-")]

    await api.create(kinds.REPLICA_SETS, labelled("ReplicaSet", "web", replicas=3))
    async with running(api, which, beat(api, alive), agents=False):
        await until(lambda: len(web()) == 3)
        for p, node in zip(web(), ("n1", "n2", "n3"), strict=True):
            await api.patch(
                kinds.PODS, p["metadata"]["name"], {"spec": {"nodeName": node}}, "default"
            )
        await asyncio.sleep(20)
        alive.remove("n3")
        await until(lambda: len(web()) == 4, within=10)
    assert len([p for p in web() if not p["metadata"].get("deletionTimestamp")]) == 3
