"""The cache over the real registry in process, and over a client that fails on demand."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Expired, ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import ConfigMap, Object, Resource
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.cache import Cache, Delta, Interest
from sampan.client.interface import Listing, WatchEvent
from sampan.store.memory import MemoryStore
from sampan.testing.clock import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Unreliable(LocalClient):
    """A client whose watches end, and whose lists fail, when the test says so."""

    def __init__(self, registry: StoreRegistry) -> None:
        super().__init__(registry)
        self.lists = 0
        self.failing_lists = 0
        self.watches = 0
        self.broken: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        self.lists += 1
        if self.failing_lists:
            self.failing_lists -= 1
            raise ServiceUnavailable("not now")
        return await super().list(kind, namespace, labels=labels, fields=fields)

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        self.watches += 1
        inner = super().watch(kind, namespace, since=since, labels=labels, fields=fields)
        broken = self.broken
        while True:
            following = asyncio.ensure_future(anext(inner))
            either: set[asyncio.Future[Any]] = {following, broken}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await inner.aclose()
                if error := broken.result():
                    raise error
                return
            yield following.result()

    def break_watches(self, error: Exception | None = None) -> None:
        """End all watches that are open, by *error* or as a server does after a while."""
        broken, self.broken = self.broken, asyncio.get_running_loop().create_future()
        broken.set_result(error)


@pytest.fixture
async def client(anyio_backend: object) -> Unreliable:
    registry = StoreRegistry(MemoryStore(), Settings())
    await registry.start()
    made = Unreliable(registry)
    for name in ("one", "two"):
        await made.create(kinds.NAMESPACES, {"metadata": {"name": name}})
    return made


def by_colour(obj: ConfigMap) -> tuple[str, ...]:
    colour = obj.metadata.labels.get("colour")
    return (colour,) if colour else ()


INTEREST = Interest(ConfigMap, labels="mine", indexes={"colour": by_colour})


@asynccontextmanager
async def following(client: Unreliable, *interests: Interest) -> AsyncIterator[Cache]:
    cache = Cache(client, interests or (INTEREST,))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(cache.run())
        await cache.synced()
        yield cache
        task.cancel()


async def put(client: Unreliable, name: str, namespace: str = "one", **labels: str) -> int:
    metadata = {"name": name, "namespace": namespace, "labels": {"mine": "", **labels}}
    obj: Object = {"metadata": metadata}
    try:
        made = await client.create(kinds.CONFIGMAPS, obj)
    except Exception:  # noqa: BLE001 - it is there: change it
        made = await client.patch(kinds.CONFIGMAPS, name, obj, namespace)
    return int(made["metadata"]["resourceVersion"])


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - anything may be asked
            await asyncio.sleep(0.01)


def names(found: Any) -> list[str]:
    return sorted(each.metadata.key for each in found)


async def test_what_was_there_is_there_once_it_is_synced(client: Unreliable) -> None:
    await put(client, "a")
    await put(client, "b", "two")
    await client.create(kinds.CONFIGMAPS, {"metadata": {"name": "other", "namespace": "one"}})
    async with following(client) as cache:
        assert names(cache.all(ConfigMap)) == ["one/a", "two/b"]
        assert names(cache.all(ConfigMap, "two")) == ["two/b"]
        assert cache.get(ConfigMap, "one", "a") is not None
        assert cache.get(ConfigMap, "one", "other") is None


async def test_changes_come_with_what_was_before(client: Unreliable) -> None:
    seen: list[tuple[str | None, str | None]] = []

    def note(delta: Delta[Resource]) -> None:
        old, new = (o.metadata.labels.get("v") if o else None for o in (delta.old, delta.new))
        seen.append((old, new))
        assert delta.latest.metadata.name == "a"

    async with following(client) as cache:
        cache.subscribe(note)
        await put(client, "a", v="1")
        await cache.seen(ConfigMap, await put(client, "a", v="2"))
        await client.delete(kinds.CONFIGMAPS, "a", "one")
        await until(lambda: not cache.all(ConfigMap))
    assert seen == [(None, "1"), ("1", "2"), ("2", None)]


async def test_an_object_that_leaves_the_selection_is_gone(client: Unreliable) -> None:
    async with following(client) as cache:
        await cache.seen(ConfigMap, await put(client, "a"))
        await client.patch(kinds.CONFIGMAPS, "a", {"metadata": {"labels": None}}, "one")
        await until(lambda: not cache.all(ConfigMap))


async def test_an_index_follows_its_value(client: Unreliable) -> None:
    async with following(client) as cache:
        await put(client, "a", colour="red")
        await cache.seen(ConfigMap, await put(client, "b", colour="red"))
        assert names(cache.by(ConfigMap, "colour", "red")) == ["one/a", "one/b"]
        await cache.seen(ConfigMap, await put(client, "a", colour="blue"))
        assert names(cache.by(ConfigMap, "colour", "red")) == ["one/b"]
        assert names(cache.by(ConfigMap, "colour", "blue")) == ["one/a"]
        assert cache.by(ConfigMap, "colour", "none") == []


async def test_seen_waits_for_the_revision_and_not_longer(client: Unreliable) -> None:
    async with following(client) as cache:
        revision = await put(client, "a")
        await cache.seen(ConfigMap, revision)
        assert cache.revision(ConfigMap) >= revision
        assert cache.get(ConfigMap, "one", "a") is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await cache.seen(ConfigMap, revision + 1000)


async def test_a_watch_that_ends_goes_on_where_it_was_without_a_list(client: Unreliable) -> None:
    async with following(client) as cache:
        await cache.seen(ConfigMap, await put(client, "a"))
        client.break_watches()
        await until(lambda: client.watches == 2)
        await cache.seen(ConfigMap, await put(client, "b"))
        assert names(cache.all(ConfigMap)) == ["one/a", "one/b"]
        assert client.lists == 1


@pytest.mark.parametrize("error", [Expired("too old"), ServiceUnavailable("gone"), OSError("cut")])
async def test_a_watch_that_fails_is_taken_up_by_a_list_that_tells_what_was_missed(
    client: Unreliable, error: Exception
) -> None:
    seen: list[str] = []
    await put(client, "kept")
    await put(client, "lost")
    async with following(client) as cache:
        cache.subscribe(lambda d: seen.append(f"{d.latest.metadata.name} {bool(d.new)}"))
        client.failing_lists = 2
        client.break_watches(error)
        await until(lambda: client.failing_lists < 2)
        await client.delete(kinds.CONFIGMAPS, "lost", "one")
        await put(client, "found")
        await until(lambda: len(seen) == 2)
        await cache.seen(ConfigMap, await put(client, "after"))
        assert names(cache.all(ConfigMap)) == ["one/after", "one/found", "one/kept"]
    assert seen == ["lost False", "found True", "after True"]


async def test_failures_are_repeated_ever_more_slowly_but_within_two_seconds(
    client: Unreliable,
) -> None:
    client.failing_lists = 10
    began = asyncio.get_running_loop().time()
    async with following(client):
        waited = asyncio.get_running_loop().time() - began
    assert waited == pytest.approx(0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 4 * 2.0)


async def test_kinds_are_followed_side_by_side(client: Unreliable) -> None:
    from sampan.api.objects import Namespace

    async with following(client, INTEREST, Interest(Namespace)) as cache:
        await cache.seen(ConfigMap, await put(client, "a"))
        assert {"one", "two"} <= set(names(cache.all(Namespace)))
        assert cache.get(Namespace, "", "one") is not None
