"""Preemption over an API, in virtual time: who is told, who is deleted, who gets the room."""

import asyncio

import pytest

from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from tests.controllers.memory_api import no_fault
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import raw_node, raw_pod

BUDGETS = kinds.BY_GVK["policy/v1", "PodDisruptionBudget"]


async def full(*nodes: Object, low: int = 1) -> BindingApi:
    """Make a cluster of one-CPU nodes on each of which a Pod of priority 0 runs."""
    api = BindingApi()
    await api.add(kinds.NODES, *(nodes or (raw_node("n1", cpu="1"),)))
    for i in range(low):
        bound = raw_pod(f"low-{i}", {"low": str(i)}, cpu="1")
        bound["spec"]["nodeName"] = f"n{i + 1}"
        await api.add(kinds.PODS, bound)
    return api


def node_name(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def leaving(api: BindingApi) -> list[Object]:
    return [p for p in api.of(kinds.PODS) if p["metadata"].get("deletionTimestamp")]


async def test_a_victim_is_told_and_leaves_in_its_own_time_and_then_the_room_is_taken() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        [victim] = leaving(api)
        assert victim["metadata"]["name"] == "low-0"
        [told] = victim["status"]["conditions"]
        assert (told["type"], told["status"]) == ("DisruptionTarget", "True")
        assert told["reason"] == "PreemptionByScheduler"
        await until(lambda: api.events("Preempted"))
        uid = api.pod("high")["metadata"]["uid"]
        text = f"Preempted by pod {uid} on node n1"
        assert api.events("Preempted")[0]["message"] == text
        await until(lambda: (api.pod("high").get("status") or {}).get("nominatedNodeName") == "n1")
        assert "1 Pod(s) of lower priority have to go" in api.why("high")
        await asyncio.sleep(29)
        assert not api.node_of("high"), "the victim still has its grace"
        api.gone(kinds.PODS, victim)
        await until(lambda: api.node_of("high") == "n1", within=1)
    assert len(api.events("Preempted")) == 1


async def test_room_that_is_made_is_not_given_to_somebody_else() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        await api.add(kinds.PODS, raw_pod("quick", cpu="1"))
        await until(lambda: api.why("quick"))
        api.gone(kinds.PODS, api.pod("low-0"))
        await until(lambda: api.node_of("high") == "n1", within=1)
        await asyncio.sleep(5)
        assert not api.node_of("quick")


async def test_each_of_many_equal_preemptors_gets_its_own_node() -> None:
    nodes = [raw_node(f"n{i + 1}", cpu="1") for i in range(10)]
    api = await full(*nodes, low=10)
    async with scheduling(api) as scheduler:
        await api.add(kinds.PODS, *(raw_pod(f"high-{i}", cpu="1", priority=10) for i in range(12)))
        await until(lambda: len(leaving(api)) == 10)
        await until(lambda: scheduler.statistics().parked == 2)
        assert scheduler.statistics().aside == 10
        for victim in reversed(leaving(api)):
            api.gone(kinds.PODS, victim)
            name = victim["spec"]["nodeName"]
            await until(
                lambda name=name: any(api.node_of(f"high-{i}") == name for i in range(12)),  # type: ignore[misc]
                within=1,
            )
    assert sum(bool(api.node_of(f"high-{i}")) for i in range(12)) == 10


async def test_a_preemptor_that_is_deleted_gives_its_promise_back() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        await api.delete(kinds.PODS, "high", "default", grace_seconds=0)
        api.gone(kinds.PODS, api.pod("low-0"))
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.node_of("next") == "n1", within=1)


async def test_who_waits_for_promised_room_gets_it_when_the_promise_is_given_back() -> None:
    api = await full(raw_node("n1", cpu="2"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="2", priority=10))
        await until(lambda: leaving(api))
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.why("next"))
        await api.delete(kinds.PODS, "high", "default", grace_seconds=0)
        await until(lambda: api.node_of("next") == "n1", within=1)


async def test_who_finds_another_place_leaves_the_promised_one_to_others() -> None:
    api = await full(raw_node("n1", cpu="1"), raw_node("n2", cpu="1"), low=2)
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        [victim] = leaving(api)
        promised = victim["spec"]["nodeName"]
        other = "n2" if promised == "n1" else "n1"
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.why("next"))
        api.gone(kinds.PODS, next(p for p in api.of(kinds.PODS) if node_name(p) == other))
        await until(lambda: api.node_of("next") == other)
        await api.add(kinds.NODES, raw_node("n3", cpu="1"))
        await until(lambda: api.node_of("high") == "n3", within=1)
        await api.add(kinds.PODS, raw_pod("third", cpu="1"))
        await until(lambda: api.why("third"))
        api.gone(kinds.PODS, victim)
        await until(lambda: api.node_of("third") == promised, within=1)


async def test_a_new_node_ends_the_waiting_for_victims() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        await api.add(kinds.NODES, raw_node("n2", cpu="1"))
        await until(lambda: api.node_of("high") == "n2", within=1)
        api.gone(kinds.PODS, api.pod("low-0"))
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.node_of("next") == "n1", within=1)


async def test_a_still_more_important_pod_takes_the_promised_room() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        await api.add(kinds.PODS, raw_pod("higher", cpu="1", priority=20))
        await asyncio.sleep(1)
        api.gone(kinds.PODS, api.pod("low-0"))
        await until(lambda: api.node_of("higher") == "n1", within=1)
        await until(lambda: "have to go" not in api.why("high"))
    assert len(api.events("Preempted")) == 1


async def test_the_nominated_nodes_death_sends_the_preemptor_elsewhere() -> None:
    api = await full(raw_node("n1", cpu="1"), raw_node("n2", cpu="1"), low=2)
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
        [first] = leaving(api)
        await api.delete(kinds.NODES, first["spec"]["nodeName"])
        await until(lambda: len(leaving(api)) == 2)
        [second] = [p for p in leaving(api) if p["metadata"]["name"] != first["metadata"]["name"]]
        api.gone(kinds.PODS, second)
        await until(lambda: api.node_of("high") == second["spec"]["nodeName"], within=1)


async def test_a_restarted_scheduler_keeps_the_promises_of_the_last() -> None:
    api = await full()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: (api.pod("high").get("status") or {}).get("nominatedNodeName"))
        await until(lambda: leaving(api))
    async with scheduling(api):
        await asyncio.sleep(1)
        await api.add(kinds.PODS, raw_pod("quick", cpu="1"))
        await until(lambda: api.why("quick"))
        api.gone(kinds.PODS, api.pod("low-0"))
        await until(lambda: api.node_of("high") == "n1", within=1)
    assert not api.node_of("quick")


async def test_a_victim_that_the_api_will_not_delete_at_first_is_deleted_later() -> None:
    api = await full()
    refusals = 3

    def fault(verb: str, _kind: Kind) -> ServiceUnavailable | None:
        nonlocal refusals
        if verb == "delete" and refusals:
            refusals -= 1
            return ServiceUnavailable("busy")
        return None

    api.fault = fault
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
    assert refusals == 0


@pytest.mark.parametrize(("counted", "goes"), [({}, "low-1"), ({"low-0": None}, "low-0")])
async def test_a_pod_whose_budget_is_spent_is_spared_unless_it_is_counted_already(
    counted: Object, goes: str
) -> None:
    api = await full(raw_node("n1", cpu="1"), raw_node("n2", cpu="1"), low=2)
    budget = {
        "metadata": {"name": "guard", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"low": "0"}}},
        "status": {"disruptionsAllowed": 0, "disruptedPods": counted},
    }
    await api.patch(kinds.PODS, "low-1", {"spec": {"priority": 5}}, "default")
    async with scheduling(api):
        await asyncio.sleep(1)
        await api.add(BUDGETS, budget)
        await asyncio.sleep(1)
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: leaving(api))
    assert [p["metadata"]["name"] for p in leaving(api)] == [goes]


async def test_when_room_can_be_made_for_one_of_many_alike_the_next_is_looked_at() -> None:
    api = await full(raw_node("n1", cpu="1"))
    await api.patch(kinds.PODS, "low-0", {"spec": {"priority": 10}}, "default")
    for name in ("low-1", "low-2"):
        early = raw_pod(name, cpu="1")
        early["spec"]["nodeName"] = "n2"
        await api.add(kinds.PODS, early)
    async with scheduling(api) as scheduler:
        await api.add(kinds.PODS, *(raw_pod(f"high-{i}", cpu="1", priority=10) for i in range(3)))
        await until(lambda: scheduler.statistics().parked == 3)
        await api.add(kinds.NODES, raw_node("n2", cpu="2"))
        await until(lambda: len(leaving(api)) == 2, within=1)
        assert scheduler.statistics().aside == 2


async def test_while_victims_are_still_to_be_told_no_others_are_chosen() -> None:
    api = await full(*(raw_node(f"n{i + 1}", cpu="1") for i in range(5)), low=5)
    api.fault = lambda verb, _kind: ServiceUnavailable("busy") if verb == "delete" else None
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="1", priority=10))
        await until(lambda: (api.pod("high").get("status") or {}).get("nominatedNodeName"))
        for i in range(6, 10):
            await api.add(kinds.NODES, raw_node(f"n{i}", cpu="100m"))
            await asyncio.sleep(1)
        api.fault = no_fault
        await until(lambda: leaving(api))
        await asyncio.sleep(20)
    assert len(leaving(api)) == 1


async def test_a_budget_is_spent_before_its_controller_has_counted() -> None:
    api = await full(*(raw_node(f"n{i + 1}", cpu="1") for i in range(3)), low=3)
    for name in ("low-0", "low-1"):
        await api.patch(kinds.PODS, name, {"metadata": {"labels": {"app": "db"}}}, "default")
    await api.patch(kinds.PODS, "low-2", {"spec": {"priority": 5}}, "default")
    budget = {
        "metadata": {"name": "guard", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 1},
    }
    await api.add(BUDGETS, budget)
    async with scheduling(api):
        await asyncio.sleep(1)
        await api.add(kinds.PODS, *(raw_pod(f"high-{i}", cpu="1", priority=10) for i in range(2)))
        await until(lambda: len(leaving(api)) == 2)
    names = {victim["metadata"]["name"] for victim in leaving(api)}
    assert "low-2" in names, "the second of the budget's Pods is spared"


async def test_a_preemptor_that_somebody_else_binds_gives_its_promise_back() -> None:
    api = await full(raw_node("n1", cpu="2"), raw_node("n2", cpu="1", unschedulable=True))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("high", cpu="2", priority=10))
        await until(lambda: leaving(api))
        await api.patch(kinds.PODS, "high", {"spec": {"nodeName": "n2"}}, "default")
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.node_of("next") == "n1", within=1)
