"""Marked replicas: the replacement serves first, then they stop."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.marks import EVICTING, EVICTING_GRACE
from sampan.api.objects import Object, Pod
from sampan.api.time import timestamp
from sampan.controllers.plan import Delete
from sampan.controllers.relocation import leaving, mark, released
from sampan.controllers.roster import controllers
from tests.controllers.cluster import add_node, beat, is_ready, labelled, running, until, world
from tests.controllers.memory_api import EPOCH, MemoryApi

EVERYONE = controllers("CA")


def replica(name: str, *, ready: bool, evicting: str = "") -> Pod:
    notes = {EVICTING: evicting} if evicting else {}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    meta = {"name": name, "namespace": "default", "uid": name, "annotations": notes}
    return Pod.of({"metadata": meta, "status": {"phase": "Running", "conditions": conditions}})


@given(st.lists(st.booleans(), max_size=6), st.lists(st.booleans(), max_size=6), st.integers(0, 6))
def test_letting_go_never_leaves_fewer_serving_than_wanted(
    going: list[bool], staying: list[bool], wanted: int
) -> None:
    marked = [replica(f"g{i}", ready=r, evicting=timestamp(EPOCH)) for i, r in enumerate(going)]
    others = [replica(f"s{i}", ready=r) for i, r in enumerate(staying)]
    plan = released(marked, others, wanted, 0, world(*marked, *others))
    gone = {action.obj.metadata.name for action in plan if isinstance(action, Delete)}
    before = sum(going) + sum(staying)
    after = before - sum(pod.ready for pod in marked if pod.metadata.name in gone)
    assert after >= min(wanted, before)
    assert {pod.metadata.name for pod in marked if not pod.ready} <= gone
    assert after == before or after >= wanted
    if sum(staying) >= wanted:
        assert len(gone) == len(marked)


@pytest.mark.parametrize("text", ["yesterday", "", "2025-01-01T00:00:00Z"])
def test_a_mark_that_is_old_or_no_time_says_nothing(text: str) -> None:
    assert leaving([replica("a", ready=True, evicting=text)], EPOCH) == []


async def test_a_marked_replica_goes_once_another_serves_in_its_place() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=1))
    fewest = 1
    async with running(api, EVERYONE, beat(api, {"n1"})):
        await until(lambda: [is_ready(p) for p in api.of(kinds.PODS)] == [True])
        [old] = api.of(kinds.PODS)
        name = old["metadata"]["name"]
        await api.patch(kinds.PODS, name, mark(api.now()), "default")
        while any(p["metadata"]["name"] == name for p in api.of(kinds.PODS)):
            fewest = min(fewest, sum(map(serves, api.of(kinds.PODS))))
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
    assert fewest == 1
    [new] = api.of(kinds.PODS)
    assert new["metadata"]["name"] != name
    assert "Moved" in {event["reason"] for event in api.of(kinds.EVENTS)}


def serves(pod: Object) -> bool:
    return is_ready(pod) and not pod["metadata"].get("deletionTimestamp")


async def test_the_grace_period_that_was_asked_for_is_kept() -> None:
    pod = replica("a", ready=False, evicting=timestamp(EPOCH))
    notes = {**pod.metadata.annotations, EVICTING_GRACE: "7"}
    pod = Pod.of({"metadata": {"name": "a", "uid": "a", "annotations": notes}})
    [delete] = released([pod], [], 1, 0, world(pod))
    assert isinstance(delete, Delete)
    assert delete.grace_seconds == 7


async def test_a_replacement_that_never_serves_goes_again_and_the_old_one_stays() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=1))
    async with running(api, EVERYONE, beat(api, {"n1"})):
        await until(lambda: [is_ready(p) for p in api.of(kinds.PODS)] == [True])
    [old] = api.of(kinds.PODS)
    async with running(api, EVERYONE, beat(api, {"n1"}), agents=False):
        await api.patch(kinds.PODS, old["metadata"]["name"], mark(api.now()), "default")
        await until(lambda: len(api.of(kinds.PODS)) == 2)
        await asyncio.sleep(590)
        assert len(api.of(kinds.PODS)) == 2
        await asyncio.sleep(20)
        assert [p["metadata"]["name"] for p in api.of(kinds.PODS)] == [old["metadata"]["name"]]
