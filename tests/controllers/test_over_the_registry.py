"""Every controller over the real API, in process: what the in-memory one cannot know."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import pytest

from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.interface import PatchType
from sampan.controllers.contents import CONTENTS, SWEPT
from sampan.controllers.roster import run_all
from sampan.store.memory import MemoryStore
from tests.controllers.cluster import labelled, service


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(caplog: pytest.LogCaptureFixture) -> AsyncIterator[LocalClient]:
    """The API with all controllers and Pods that start at once; nothing may go wrong unseen."""
    caplog.set_level(logging.WARNING)
    store = MemoryStore()
    registry = StoreRegistry(store, Settings(root_ca="CA"))
    await registry.start()
    client = LocalClient(registry)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(run_all(client, ca_pem="CA")),
            group.create_task(play_node(client)),
        ]
        yield client
        for task in tasks:
            task.cancel()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


async def play_node(client: LocalClient) -> None:
    """Be scheduler and agent of node n1: bind, start and stop its Pods."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    node = {"metadata": {"name": "n1"}, "status": {"conditions": [ready]}}
    await client.create(kinds.NODES, node)
    address = 0
    while True:
        for pod in (await client.list(kinds.PODS)).items:
            meta = pod["metadata"]
            if meta.get("deletionTimestamp"):
                await client.delete(kinds.PODS, meta["name"], meta["namespace"], grace_seconds=0)
            elif not pod["spec"].get("nodeName"):
                place = {"name": meta["name"], "namespace": meta["namespace"]}
                target = {"kind": "Node", "name": "n1"}
                binding = {"metadata": place, "target": target}
                await client.create(kinds.PODS, binding, subresource="binding")
            elif pod["status"]["phase"] == "Pending":
                address += 1
                conditions = [{"type": "Ready", "status": "True"}]
                status = {
                    "phase": "Running",
                    "podIP": f"10.42.0.{address}",
                    "conditions": conditions,
                }
                await client.patch(
                    kinds.PODS, meta["name"], {"status": status}, meta["namespace"],
                    subresource="status",
                )  # fmt: skip
        await asyncio.sleep(0.05)


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - asks as any client would
            await asyncio.sleep(0.02)


async def count(api: LocalClient, kind: Kind, namespace: str = "default") -> int:
    return len((await api.list(kind, namespace)).items)


async def gone(api: LocalClient, kind: Kind, name: str, namespace: str = "") -> bool:
    try:
        await api.get(kind, name, namespace)
    except NotFound:
        return True
    return False


async def rolled_out(api: LocalClient, namespace: str = "default") -> bool:
    held = await api.get(kinds.DEPLOYMENTS, "web", namespace)
    status, replicas = held.get("status") or {}, held["spec"]["replicas"]
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return (
        all(status.get(c) == replicas for c in counts)
        and status.get("observedGeneration") == held["metadata"]["generation"]
    )


async def web(api: LocalClient, namespace: str = "default") -> Object:
    body = labelled("Deployment", "web", replicas=3)
    body["metadata"]["namespace"] = namespace
    made = await api.create(kinds.DEPLOYMENTS, body)
    await until(lambda: rolled_out(api, namespace))
    return made


async def test_a_deployment_rolls_out_rolls_on_and_rolls_back(api: LocalClient) -> None:
    await web(api)
    for image, revision in (("v2", "2"), ("v1", "3")):
        change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
        await api.patch(kinds.DEPLOYMENTS, "web", change, "default", how=PatchType.STRATEGIC)
        await until(lambda: rolled_out(api))
        held = await api.get(kinds.DEPLOYMENTS, "web", "default")
        assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == revision
    await until(lambda: is_count(api, kinds.PODS, 3))
    assert await count(api, kinds.REPLICA_SETS) == 2


async def is_count(api: LocalClient, kind: Kind, wanted: int) -> bool:
    return await count(api, kind) == wanted


async def test_a_service_has_its_pods_behind_it(api: LocalClient) -> None:
    body = service("web")
    del body["spec"]["clusterIP"]
    await api.create(kinds.SERVICES, body)
    await web(api)

    async def all_behind() -> bool:
        parts = await api.list(kinds.ENDPOINT_SLICES, "default", labels=f"{OF}=web")
        endpoints = [e for part in parts.items for e in part.get("endpoints") or []]
        return len([e for e in endpoints if e["conditions"]["ready"]]) == 3

    await until(all_behind)
    legacy = await api.get(kinds.ENDPOINTS, "web", "default")
    assert len(legacy["subsets"][0]["addresses"]) == 3
    await api.delete(kinds.SERVICES, "web", "default")
    await until(lambda: gone(api, kinds.ENDPOINTS, "web", "default"))

    async def no_slices() -> bool:
        return not (await api.list(kinds.ENDPOINT_SLICES, "default", labels=f"{OF}=web")).items

    await until(no_slices)


@pytest.mark.parametrize("how", ["Background", "Foreground", "Orphan"])
async def test_what_a_deployment_owned_goes_or_stays_as_asked(
    api: LocalClient, how: Literal["Background", "Foreground", "Orphan"]
) -> None:
    await web(api)
    await api.delete(kinds.DEPLOYMENTS, "web", "default", propagation=how)
    await until(lambda: gone(api, kinds.DEPLOYMENTS, "web", "default"))
    if how == "Orphan":
        (kept,) = (await api.list(kinds.REPLICA_SETS, "default")).items
        assert not kept["metadata"].get("ownerReferences")
        assert await count(api, kinds.PODS) == 3
    else:
        await until(lambda: is_count(api, kinds.REPLICA_SETS, 0))
        await until(lambda: is_count(api, kinds.PODS, 0))


async def test_a_namespace_goes_with_all_that_is_in_it(api: LocalClient) -> None:
    await api.create(kinds.NAMESPACES, {"metadata": {"name": "brief"}})
    await web(api, "brief")
    await api.create(kinds.SECRETS, {"metadata": {"name": "s", "namespace": "brief"}})
    await api.delete(kinds.NAMESPACES, "brief")
    await until(lambda: gone(api, kinds.NAMESPACES, "brief"))
    for kind in (*CONTENTS, *SWEPT):
        assert await count(api, kind, "brief") == 0
    assert not await gone(api, kinds.SERVICES, "kubernetes", "default")


async def test_nothing_is_written_once_all_is_well(api: LocalClient) -> None:
    await web(api)
    await asyncio.sleep(0.5)
    before = (await api.list(kinds.NAMESPACES)).revision
    await asyncio.sleep(1.5)
    assert (await api.list(kinds.NAMESPACES)).revision == before


OF = "kubernetes.io/service-name"
