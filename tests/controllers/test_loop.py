"""The loop's own promises, with controllers made for the purpose."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Conflict, Forbidden, InternalError
from sampan.api.objects import Pod, Resource
from sampan.controllers.loop import followed
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    Failure,
    Patch,
    RecordEvent,
    World,
    for_each,
    itself,
)
from tests.controllers.cluster import pod, running, until
from tests.controllers.memory_api import MemoryApi


def labeller(seen: list[Any], **options: Any) -> Controller:
    """Counts up a label to 3, one write a plan."""

    def reconcile(p: Pod, world: World) -> Iterator[Action]:
        count = int(p.metadata.labels.get("count", "0"))
        seen.append((p.metadata.name, count, world.failure))
        if count < 3:
            yield Patch(p, {"metadata": {"labels": {"count": str(count + 1)}}})
            yield CheckAgain(0.1)

    return Controller("labeller", {Pod: itself}, for_each(Pod, reconcile), **options)


def count(api: MemoryApi, name: str) -> str:
    return str(api.objects[kinds.PODS]["default", name]["metadata"].get("labels", {}).get("count"))


async def test_a_key_is_not_planned_again_before_the_cache_shows_its_last_write() -> None:
    api = MemoryApi(lag=0.5)
    await api.create(kinds.PODS, pod("a"))
    seen: list[Any] = []
    async with running(api, (labeller(seen),), agents=False):
        await until(lambda: count(api, "a") == "3")
        await asyncio.sleep(5)
    assert [n for _, n, _ in seen] == [0, 1, 2, 3]


async def test_a_refused_write_is_tried_again_and_the_plan_is_told_why() -> None:
    api = MemoryApi()
    await api.create(kinds.PODS, pod("a"))
    errors = iter([InternalError("first"), Conflict("second"), Forbidden("third")])
    api.fault = lambda _verb, _kind: next(errors, None)
    seen: list[Any] = []
    async with running(api, (labeller(seen),), agents=False):
        await until(lambda: count(api, "a") == "3")
    told = [failure.error.message if failure else "" for _, _, failure in seen]
    assert told == ["", "first", "first", "third", "", "", ""][: len(told)]


async def test_one_objects_bug_delays_that_object_alone() -> None:
    api = MemoryApi()
    for name in ("bad", "good"):
        await api.create(kinds.PODS, pod(name))
    attempts = []

    def reconcile(p: Pod, _world: World) -> Iterator[Action]:
        if p.metadata.name == "bad":
            attempts.append(p)
            raise ZeroDivisionError
        if not p.metadata.labels:
            yield Patch(p, {"metadata": {"labels": {"count": "1"}}})

    careless = Controller("careless", {Pod: itself}, for_each(Pod, reconcile), workers=1)
    async with running(api, (careless,), agents=False):
        await until(lambda: count(api, "good") == "1")
        await until(lambda: len(attempts) == 3)


async def test_a_key_that_asks_for_it_is_looked_at_again() -> None:
    api = MemoryApi()
    await api.create(kinds.PODS, pod("a"))
    at: list[float] = []

    def reconcile(_key: str, world: World) -> Iterable[Action]:
        at.append(world.clock)
        return (CheckAgain(10),)

    async with running(api, (Controller("clock", {Pod: itself}, reconcile),), agents=False):
        await asyncio.sleep(35)
    assert [round(b - a) for a, b in pairwise(at)] == [10, 10, 10]


async def test_of_many_writes_a_failing_batch_is_the_last() -> None:
    api = MemoryApi()
    await api.create(kinds.PODS, pod("a"))
    api.fault = lambda _verb, kind: Forbidden("quota") if kind == kinds.SECRETS else None
    plans: list[Failure | None] = []

    def reconcile(_key: str, world: World) -> Iterator[Action]:
        plans.append(world.failure)
        meta = {"generateName": "s-", "namespace": "default"}
        yield from (Create(kinds.SECRETS, {"metadata": meta}) for _ in range(100))

    attempted = 0
    refuse = api.fault

    def counted(verb: str, kind: kinds.Kind) -> Any:
        nonlocal attempted
        attempted += 1
        return refuse(verb, kind)

    api.fault = counted
    async with running(api, (Controller("maker", {Pod: itself}, reconcile),), agents=False):
        await until(lambda: len(plans) == 1)
        await asyncio.sleep(0.005)
    assert attempted == 16 * len(plans)


async def test_what_is_done_is_told_only_if_it_was_done() -> None:
    api = MemoryApi()
    for name in ("a", "b"):
        await api.create(kinds.PODS, pod(name))

    def reconcile(p: Pod, _world: World) -> Iterator[Action]:
        yield Delete(p, done=RecordEvent(p, "Deleted", "Deleted {name}"))

    api.fault = lambda verb, _kind: Forbidden("no") if verb == "delete" else None
    async with running(
        api, (Controller("r", {Pod: itself}, for_each(Pod, reconcile)),), agents=False
    ):
        await asyncio.sleep(1)
        assert api.of(kinds.EVENTS) == []
        api.fault = lambda _verb, _kind: None
        await until(lambda: len(api.of(kinds.EVENTS)) == 2)
    assert {e["message"] for e in api.of(kinds.EVENTS)} == {"Deleted a", "Deleted b"}


def test_two_views_of_one_kind_are_a_mistake() -> None:
    class OtherPod(Resource):
        KIND = kinds.PODS

    one = Controller("one", {Pod: itself}, lambda _key, _world: ())
    two = Controller("two", {OtherPod: itself}, lambda _key, _world: ())
    with pytest.raises(TypeError, match="two follows Pod"):
        followed((one, two))
