import asyncio
from typing import Any, Literal

import pytest

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.controllers import deployment, garbage_collector, replicaset
from tests.controllers.cluster import labelled, running, until
from tests.controllers.memory_api import MemoryApi

ALL = (deployment.CONTROLLER, replicaset.CONTROLLER, garbage_collector.CONTROLLER)
ONLY = (garbage_collector.CONTROLLER,)


def counts(api: MemoryApi) -> tuple[int, int, int]:
    return (
        len(api.of(kinds.DEPLOYMENTS)),
        len(api.of(kinds.REPLICA_SETS)),
        len(api.of(kinds.PODS)),
    )


async def thing(api: MemoryApi, what: Kind, name: str, *owners: Object, **ref: Any) -> Object:
    refs = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            **ref,
        }
        for owner in owners
    ]
    meta = {"name": name, "namespace": "default", **({"ownerReferences": refs} if refs else {})}
    return await api.create(what, {"metadata": meta})


async def web(api: MemoryApi) -> None:
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=3))
    await until(lambda: counts(api) == (1, 1, 3))


@pytest.mark.parametrize("how", ["Background", "Foreground"])
async def test_a_deployment_goes_with_its_sets_and_pods(
    how: Literal["Background", "Foreground"],
) -> None:
    api = MemoryApi()
    async with running(api, ALL):
        await web(api)
        await api.delete(kinds.DEPLOYMENTS, "web", "default", propagation=how)
        await until(lambda: counts(api) == (0, 0, 0))


async def test_in_the_foreground_the_owner_goes_last() -> None:
    api = MemoryApi()
    async with running(api, ALL):
        await web(api)
        await api.delete(kinds.DEPLOYMENTS, "web", "default", propagation="Foreground")
        await until(lambda: counts(api) == (0, 0, 0))
    order = [kind.kind for event, kind, _ in api.log if event == "DELETED"]
    assert order == ["Pod", "Pod", "Pod", "ReplicaSet", "Deployment"]


async def test_orphaned_pods_stay_and_lose_their_owner() -> None:
    api = MemoryApi()
    async with running(api, ALL):
        await web(api)
        await api.delete(kinds.DEPLOYMENTS, "web", "default", propagation="Orphan")
        await until(lambda: counts(api) == (0, 1, 3))
        await asyncio.sleep(10)
    assert counts(api) == (0, 1, 3)
    assert not api.of(kinds.REPLICA_SETS)[0]["metadata"]["ownerReferences"]


async def test_an_object_of_any_kind_goes_with_its_last_owner_only() -> None:
    api = MemoryApi()
    one, two = await thing(api, kinds.CONFIGMAPS, "one"), await thing(api, kinds.CONFIGMAPS, "two")
    await thing(api, kinds.SECRETS, "both", one, two)
    async with running(api, ONLY):
        await api.delete(kinds.CONFIGMAPS, "one", "default")
        await asyncio.sleep(10)
        assert len(api.of(kinds.SECRETS)) == 1
        await api.delete(kinds.CONFIGMAPS, "two", "default")
        await until(lambda: api.of(kinds.SECRETS) == [])


async def test_an_owner_of_the_same_name_is_not_the_owner() -> None:
    api = MemoryApi()
    first = await thing(api, kinds.CONFIGMAPS, "one")
    await api.delete(kinds.CONFIGMAPS, "one", "default")
    await thing(api, kinds.CONFIGMAPS, "one")
    await thing(api, kinds.SECRETS, "left", first)
    async with running(api, ONLY):
        await until(lambda: api.of(kinds.SECRETS) == [])


async def test_a_cache_that_is_behind_costs_nobody_their_object() -> None:
    api = MemoryApi(lag=1.0)
    async with running(api, ONLY):
        owner = await thing(api, kinds.CONFIGMAPS, "one")
        await thing(api, kinds.SECRETS, "new", owner)
        await asyncio.sleep(20)
    assert len(api.of(kinds.SECRETS)) == 1


async def test_an_owner_of_a_kind_that_nobody_follows_is_taken_for_present() -> None:
    api = MemoryApi()
    owner = {"metadata": {"name": "o", "uid": "u"}}
    await thing(api, kinds.SECRETS, "kept", owner, apiVersion="example.org/v1", kind="Widget")
    async with running(api, ONLY):
        await asyncio.sleep(10)
    assert len(api.of(kinds.SECRETS)) == 1


async def test_in_the_foreground_a_dependent_with_another_owner_is_only_let_go() -> None:
    api = MemoryApi()
    one, two = await thing(api, kinds.CONFIGMAPS, "one"), await thing(api, kinds.CONFIGMAPS, "two")
    await thing(api, kinds.SECRETS, "both", one, two, blockOwnerDeletion=True)
    async with running(api, ONLY):
        await api.delete(kinds.CONFIGMAPS, "one", "default", propagation="Foreground")
        await until(lambda: len(api.of(kinds.CONFIGMAPS)) == 1)
    (secret,) = api.of(kinds.SECRETS)
    assert [ref["name"] for ref in secret["metadata"]["ownerReferences"]] == ["two"]
