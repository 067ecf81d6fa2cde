"""The contract every store keeps; a new backend joins by adding one line to STORES."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from sampan.api.errors import Conflict, Expired, ServiceUnavailable
from sampan.store.interface import ABSENT, Change, Store
from sampan.store.memory import MemoryStore
from sampan.store.sqlite import SqliteStore

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda where: SqliteStore(where / "state.db"),
    "sqlite-volatile": lambda where: SqliteStore(where / "state.db", volatile=("/",)),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made = STORES[request.param](tmp_path)
    yield made
    await made.close()


async def take(store: Store, prefix: str, since: int, count: int) -> list[Change]:
    async with asyncio.timeout(10), aclosing(store.watch(prefix, since=since)) as batches:
        seen: list[Change] = []
        while len(seen) < count:
            seen += await anext(batches)
    return seen[:count]


async def test_an_empty_store_lists_nothing_as_of_a_revision_above_zero(store: Store) -> None:
    page = await store.list("/")
    assert not page.items
    assert page.revision == store.revision > 0


async def test_what_was_written_is_listed_with_its_revision(store: Store) -> None:
    revision = await store.write("/pods/a", b"1", expect=ABSENT)
    page = await store.list("/pods/")
    assert page.revision == revision == store.revision
    assert page.items == [Change("/pods/a", revision, b"1")]


async def test_a_list_does_not_keep_what_was_there_before(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    second = await store.write("/pods/a", b"2", expect=first)
    assert (await store.list("/pods/")).items == [Change("/pods/a", second, b"2")]


async def test_create_refuses_a_key_that_is_there(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    with pytest.raises(Conflict, match=f"revision {first}"):
        await store.write("/pods/a", b"2", expect=ABSENT)
    assert (await store.list("/pods/")).items[0].value == b"1"


async def test_update_refuses_an_old_revision(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    await store.write("/pods/a", b"2", expect=first)
    with pytest.raises(Conflict):
        await store.write("/pods/a", b"3", expect=first)


async def test_update_refuses_a_key_that_is_not_there(store: Store) -> None:
    with pytest.raises(Conflict, match="not there"):
        await store.write("/pods/a", b"1", expect=7)


async def test_delete_refuses_an_old_revision(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    await store.write("/pods/a", b"2", expect=first)
    with pytest.raises(Conflict):
        await store.write("/pods/a", None, expect=first)


async def test_delete_refuses_a_key_that_is_not_there(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.write("/pods/a", None, expect=ABSENT)


async def test_a_key_can_be_created_again_after_it_was_deleted(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    deleted = await store.write("/pods/a", None, expect=first)
    assert (await store.list("/")).items == []
    assert await store.write("/pods/a", b"2", expect=ABSENT) == deleted + 1


async def test_a_refused_write_uses_no_revision(store: Store) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    with pytest.raises(Conflict):
        await store.write("/pods/a", b"2", expect=ABSENT)
    assert await store.write("/pods/b", b"1", expect=ABSENT) == first + 1


async def test_of_concurrent_writers_of_a_key_exactly_one_wins(store: Store) -> None:
    first = await store.write("/pods/a", b"0", expect=ABSENT)
    answers = await asyncio.gather(
        *(store.write("/pods/a", b"%d" % n, expect=first) for n in range(20)),
        return_exceptions=True,
    )
    assert [type(a) for a in answers].count(int) == 1
    assert [type(a) for a in answers].count(Conflict) == 19


async def test_concurrent_writers_get_revisions_of_one_order(store: Store) -> None:
    before = store.revision
    got = await asyncio.gather(*(store.write(f"/pods/{n}", b"1", expect=ABSENT) for n in range(50)))
    assert sorted(got) == list(range(before + 1, before + 51))


async def test_a_list_keeps_the_order_of_keys_and_to_its_prefix(store: Store) -> None:
    for key in ("/pods/b", "/pods/a", "/podsets/x", "/nodes/n", "/pods/c"):
        await store.write(key, b"1", expect=ABSENT)
    assert [c.key for c in (await store.list("/pods/")).items] == ["/pods/a", "/pods/b", "/pods/c"]


async def test_a_list_goes_on_after_a_key_even_if_that_key_is_gone(store: Store) -> None:
    for key in ("/pods/a", "/pods/c", "/pods/d"):
        await store.write(key, b"1", expect=ABSENT)
    page = await store.list("/pods/", after="/pods/b", limit=1)
    assert [c.key for c in page.items] == ["/pods/c"]
    page = await store.list("/pods/", after="/pods/c")
    assert [c.key for c in page.items] == ["/pods/d"]


async def test_a_watch_begun_at_a_list_misses_nothing(store: Store) -> None:
    await store.write("/pods/a", b"1", expect=ABSENT)
    page = await store.list("/pods/")
    await store.write("/nodes/n", b"x", expect=ABSENT)
    gone = await store.write("/pods/a", None, expect=page.items[0].revision)
    assert await take(store, "/pods/", page.revision, 1) == [Change("/pods/a", gone, None, b"1")]


async def test_a_watch_that_has_caught_up_wakes_for_its_own_prefix_only(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(take(store, "/pods/", store.revision, 2))
        await asyncio.sleep(0)
        await store.write("/nodes/n", b"1", expect=ABSENT)
        one = await store.write("/pods/a", b"1", expect=ABSENT)
        await store.write("/nodes/m", b"1", expect=ABSENT)
        two = await store.write("/pods/a", b"2", expect=one)
    assert watching.result() == [Change("/pods/a", one, b"1"), Change("/pods/a", two, b"2", b"1")]


async def test_two_watches_of_one_prefix_both_see_everything(store: Store) -> None:
    since = store.revision
    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(take(store, "/", since, 30)) for _ in range(2)]
        for n in range(30):
            group.create_task(store.write(f"/pods/{n}", b"1", expect=ABSENT))
    for watch in watches:
        assert [c.revision for c in watch.result()] == list(range(since + 1, since + 31))


async def test_a_written_change_is_visible_before_its_writer_goes_on(store: Store) -> None:
    since = store.revision
    revision = await store.write("/pods/a", b"1", expect=ABSENT)
    assert (await store.list("/")).items[0].revision == revision
    assert [c.revision for c in await take(store, "/", since, 1)] == [revision]


async def test_a_watch_from_before_compaction_expires(store: Store) -> None:
    before = store.revision
    revision = await store.write("/pods/a", b"1", expect=ABSENT)
    await store.compact(revision)
    with pytest.raises(Expired, match="list again"):
        await take(store, "/pods/", before, 1)
    assert len((await store.list("/pods/")).items) == 1


@pytest.mark.parametrize("through", [-1, 0, 10**9])
async def test_compacting_nonsense_is_harmless(store: Store, through: int) -> None:
    first = await store.write("/pods/a", b"1", expect=ABSENT)
    await store.compact(first)
    await store.compact(through)
    assert await store.write("/pods/a", b"2", expect=first) == first + 1
    assert [c.value for c in await take(store, "/", first, 1)] == [b"2"]


async def test_a_watch_of_the_future_waits_for_it(store: Store) -> None:
    ahead = store.revision + 2
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(take(store, "/", ahead, 1))
        for n in range(3):
            await store.write(f"/pods/{n}", b"1", expect=ABSENT)
    assert [c.key for c in watching.result()] == ["/pods/2"]


async def test_cancelling_a_writer_does_not_take_its_write_back(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(store.write("/pods/a", b"1", expect=ABSENT))
        watching = group.create_task(take(store, "/pods/", store.revision, 1))
        await asyncio.sleep(0)
        writing.cancel()
    assert watching.result()[0].value == b"1"


async def test_a_closed_store_refuses_to_write_and_can_be_closed_again(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(ServiceUnavailable, match="closed"):
        await store.write("/pods/a", b"1", expect=ABSENT)
