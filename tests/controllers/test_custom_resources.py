"""Custom resources as owners, as owned, and as contents of namespaces, over the real API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.controllers.roster import run_all
from sampan.store.memory import MemoryStore

BOATS = Kind("sea.example.com", "v1", "Boat", "boats")
FLEETS = Kind("sea.example.com", "v1", "Fleet", "fleets", namespaced=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def definition(kind: Kind) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {"plural": kind.plural, "kind": kind.kind},
            "versions": [
                {"name": "v1", "served": True, "storage": True,
                 "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }  # fmt: skip


@pytest.fixture
async def api() -> AsyncIterator[LocalClient]:
    registry = StoreRegistry(MemoryStore(), Settings(root_ca="CA"))
    await registry.start()
    client = LocalClient(registry)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(run_all(client, ca_pem="CA")),
            group.create_task(registry.follow()),
        ]
        for kind in (BOATS, FLEETS):
            await client.create(DEFINITIONS, definition(kind))
        yield client
        for task in tasks:
            task.cancel()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def gone(api: LocalClient, kind: Kind, name: str, namespace: str = "default") -> bool:
    try:
        await api.get(kind, name, namespace if kind.namespaced else "")
    except NotFound:
        return True
    return False


async def made(
    api: LocalClient, kind: Kind, name: str, owner: Object | None = None, **meta: Any
) -> Object:
    meta = {"name": name, **({"namespace": "default"} if kind.namespaced else {}), **meta}
    if owner:
        reference = {key: owner[key] for key in ("apiVersion", "kind")}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        meta["ownerReferences"] = [{**reference, "blockOwnerDeletion": True}]
    return await api.create(kind, {"metadata": meta})


async def test_what_a_custom_resource_owns_goes_with_it(api: LocalClient) -> None:
    fleet = await made(api, FLEETS, "f")
    boat = await made(api, BOATS, "b", fleet)
    await made(api, kinds.CONFIGMAPS, "c", boat)
    await api.delete(FLEETS, "f")
    await until(lambda: gone(api, BOATS, "b"))
    await until(lambda: gone(api, kinds.CONFIGMAPS, "c"))


async def test_a_custom_resource_goes_with_its_built_in_owner(api: LocalClient) -> None:
    owner = await made(api, kinds.CONFIGMAPS, "c")
    await made(api, BOATS, "b", owner)
    await api.delete(kinds.CONFIGMAPS, "c", "default")
    await until(lambda: gone(api, BOATS, "b"))


async def test_in_the_foreground_a_custom_resource_waits_for_what_it_owns(
    api: LocalClient,
) -> None:
    boat = await made(api, BOATS, "b")
    await made(api, kinds.CONFIGMAPS, "c", boat, finalizers=["example.com/hold"])
    await api.delete(BOATS, "b", "default", propagation="Foreground")

    async def is_going() -> bool:
        found = await api.get(kinds.CONFIGMAPS, "c", "default")
        return "deletionTimestamp" in found["metadata"]

    await until(is_going)
    assert not await gone(api, BOATS, "b")
    await api.patch(kinds.CONFIGMAPS, "c", {"metadata": {"finalizers": None}}, "default")
    await until(lambda: gone(api, BOATS, "b"))


async def test_what_objects_of_a_deleted_definition_owned_goes_too(api: LocalClient) -> None:
    boat = await made(api, BOATS, "b")
    await made(api, kinds.CONFIGMAPS, "c", boat)
    await api.delete(DEFINITIONS, f"{BOATS.plural}.{BOATS.group}")
    await until(lambda: gone(api, kinds.CONFIGMAPS, "c"))
    await until(lambda: gone(api, DEFINITIONS, f"{BOATS.plural}.{BOATS.group}"))


async def test_a_namespace_goes_with_its_custom_resources_and_waits_for_their_finalizers(
    api: LocalClient,
) -> None:
    await api.create(kinds.NAMESPACES, {"metadata": {"name": "bay"}})
    await made(api, BOATS, "free", namespace="bay")
    await made(api, BOATS, "held", namespace="bay", finalizers=["example.com/hold"])
    await api.delete(kinds.NAMESPACES, "bay")
    await until(lambda: gone(api, BOATS, "free", "bay"))

    async def told() -> bool:
        status = (await api.get(kinds.NAMESPACES, "bay"))["status"]
        return "boats.sea.example.com" in str(status.get("conditions"))

    await until(told)
    await api.patch(BOATS, "held", {"metadata": {"finalizers": None}}, "bay")
    await until(lambda: gone(api, kinds.NAMESPACES, "bay"))
