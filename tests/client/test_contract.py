"""What every `Client` does, in process and over HTTP against the real server: the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sampan.api import kinds
from sampan.api.errors import AlreadyExists, ApiError, Conflict, Expired, Invalid, NotFound
from sampan.api.objects import Object
from sampan.apiserver import pki
from sampan.apiserver.http.server import ApiServer, ApiServerSettings
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client import http
from sampan.client.http import Connection, HttpClient
from sampan.client.interface import Client, PatchType, WatchEvent
from sampan.store.memory import MemoryStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["local", "http"])
async def client(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path
) -> AsyncIterator[Client]:
    registry = StoreRegistry(MemoryStore(), Settings())
    await registry.start()
    local = LocalClient(registry)
    await local.create(kinds.NAMESPACES, {"metadata": {"name": "one"}})
    async with AsyncExitStack() as stack:
        if request.param == "local":
            yield local
            return
        keys = pki.load(tmp_path)
        settings = ApiServerSettings(data_dir=tmp_path, listen=("127.0.0.1",), port=0)
        server = ApiServer(registry, keys, settings)
        await stack.enter_async_context(server.serving())
        pki.write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{server.port}", keys)
        connection = Connection.from_kubeconfig(tmp_path / "config")
        yield await stack.enter_async_context(HttpClient(connection))


def config(name: str, **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": "one"}, "data": data}


async def names(client: Client, labels: str = "", fields: str = "") -> list[str]:
    listing = await client.list(kinds.CONFIGMAPS, "one", labels=labels, fields=fields)
    return [obj["metadata"]["name"] for obj in listing.items]


async def test_what_is_created_can_be_read_listed_changed_and_deleted(client: Client) -> None:
    made = await client.create(kinds.CONFIGMAPS, config("a", k="1"))
    assert made["metadata"]["uid"]
    assert await client.get(kinds.CONFIGMAPS, "a", "one") == made
    changed = await client.update(kinds.CONFIGMAPS, {**made, "data": {"k": "2"}})
    assert changed["data"] == {"k": "2"}
    patched = await client.patch(kinds.CONFIGMAPS, "a", {"data": {"k": None, "l": "3"}}, "one")
    assert patched["data"] == {"l": "3"}
    operations = [{"op": "replace", "path": "/data/l", "value": "4"}]
    await client.patch(kinds.CONFIGMAPS, "a", operations, "one", how=PatchType.JSON)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **config("a", m="5")}
    both = await client.patch(kinds.CONFIGMAPS, "a", applied, "one", how=PatchType.APPLY)
    assert both["data"] == {"l": "4", "m": "5"}
    assert await names(client) == ["a"]
    await client.delete(kinds.CONFIGMAPS, "a", "one")
    assert await names(client) == []


async def test_selectors_select(client: Client) -> None:
    for name, tier in (("a", "front"), ("b", "back")):
        obj = config(name)
        obj["metadata"]["labels"] = {"tier": tier}
        await client.create(kinds.CONFIGMAPS, obj)
    assert await names(client, labels="tier=front") == ["a"]
    assert await names(client, labels="tier!=front") == ["b"]
    assert await names(client, fields="metadata.name=b") == ["b"]


async def test_a_list_is_whole_however_long_it_is(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PAGE", 2)
    for name in "abcde":
        await client.create(kinds.CONFIGMAPS, config(name))
    assert await names(client) == list("abcde")


async def test_each_error_is_the_same_class(client: Client) -> None:
    made = await client.create(kinds.CONFIGMAPS, config("a"))
    with pytest.raises(NotFound, match='configmaps "b" not found'):
        await client.get(kinds.CONFIGMAPS, "b", "one")
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await client.create(kinds.CONFIGMAPS, config("a"))
    await client.patch(kinds.CONFIGMAPS, "a", {"data": {"x": "1"}}, "one")
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.update(kinds.CONFIGMAPS, made)
    with pytest.raises(Conflict):
        await client.delete(kinds.CONFIGMAPS, "a", "one", uid="another")
    with pytest.raises(Invalid) as invalid:
        await client.create(kinds.PODS, {"metadata": {"name": "p", "namespace": "one"}, "spec": {}})
    assert [cause.field for cause in invalid.value.causes] == ["spec.containers"]


async def take(client: Client, count: int, since: str, labels: str = "") -> list[WatchEvent]:
    watch = client.watch(kinds.CONFIGMAPS, "one", since=since, labels=labels)
    events: list[WatchEvent] = []
    async with asyncio.timeout(10):
        while len(events) < count:
            event = await anext(watch)
            if event.type != "BOOKMARK":
                events.append(event)
    await watch.aclose()
    return events


async def test_a_watch_tells_what_came_after_in_order(client: Client) -> None:
    start = (await client.list(kinds.CONFIGMAPS, "one")).revision
    await client.create(kinds.CONFIGMAPS, config("a"))
    await client.patch(kinds.CONFIGMAPS, "a", {"data": {"x": "1"}}, "one")
    await client.delete(kinds.CONFIGMAPS, "a", "one")
    events = await take(client, 3, start)
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    revisions = [int(event.object["metadata"]["resourceVersion"]) for event in events]
    assert revisions == sorted(set(revisions))


async def test_a_watch_that_is_open_hears_what_happens(client: Client) -> None:
    start = (await client.list(kinds.CONFIGMAPS, "one")).revision
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(take(client, 1, start))
        await client.create(kinds.CONFIGMAPS, config("a"))
    [event] = watching.result()
    assert event.object["metadata"]["name"] == "a"


async def test_what_begins_and_ceases_to_match_is_added_and_deleted(client: Client) -> None:
    start = (await client.list(kinds.CONFIGMAPS, "one")).revision
    await client.create(kinds.CONFIGMAPS, config("a"))
    for labels in ({"on": "yes"}, {"on": None}):
        await client.patch(kinds.CONFIGMAPS, "a", {"metadata": {"labels": labels}}, "one")
    events = await take(client, 2, start, labels="on")
    assert [event.type for event in events] == ["ADDED", "DELETED"]


async def test_a_watch_of_a_revision_that_never_was_is_refused(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        async with asyncio.timeout(10):
            await anext(client.watch(kinds.CONFIGMAPS, "one", since="999999"))
    assert refused.value.code in {Expired.code, 504}


async def test_a_binding_is_posted_to_its_pod(client: Client) -> None:
    spec = {"containers": [{"name": "c", "image": "app"}]}
    metadata = {"name": "p", "namespace": "one"}
    await client.create(kinds.PODS, {"metadata": metadata, "spec": spec})
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    await client.create(kinds.PODS, {"metadata": metadata, "target": target}, subresource="binding")
    assert (await client.get(kinds.PODS, "p", "one"))["spec"]["nodeName"] == "n1"


async def test_a_status_is_patched_by_itself(client: Client) -> None:
    metadata = {"name": "n1"}
    await client.create(kinds.NODES, {"metadata": metadata})
    patch = {"spec": {"unschedulable": True}, "status": {"capacity": {"cpu": "4"}}}
    changed = await client.patch(kinds.NODES, "n1", patch, subresource="status")
    assert changed["status"]["capacity"] == {"cpu": "4"}
    assert "unschedulable" not in changed["spec"]
