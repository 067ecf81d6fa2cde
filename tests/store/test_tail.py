import asyncio
from contextlib import aclosing

import pytest

from sampan.api.errors import Expired
from sampan.store.interface import Change
from sampan.store.tail import Tail


def fill(tail: Tail, count: int, value: bytes = b"1") -> None:
    tail.extend([Change(f"/pods/{tail.end + n}", tail.end + n, value) for n in range(1, count + 1)])


async def first(tail: Tail, since: int) -> int:
    async with asyncio.timeout(10), aclosing(tail.watch("/", since)) as changes:
        return (await anext(changes))[0].revision


async def test_the_tail_keeps_to_its_number_of_changes() -> None:
    tail = Tail(0, max_changes=100)
    fill(tail, 150)
    assert tail.end == 150
    assert await first(tail, 150 - 80) == 71
    with pytest.raises(Expired):
        await first(tail, 49)


async def test_the_tail_keeps_to_its_size() -> None:
    tail = Tail(0, max_bytes=1000)
    for _ in range(50):
        fill(tail, 1, bytes(100))
    with pytest.raises(Expired):
        await first(tail, 39)
    assert await first(tail, 45) == 46


async def test_a_watch_that_falls_off_the_tail_while_it_reads_expires() -> None:
    tail = Tail(0, max_changes=10)
    fill(tail, 5)
    changes = tail.watch("/", 0)
    assert [change.revision for change in await anext(changes)] == [1, 2, 3, 4, 5]
    fill(tail, 30)
    with pytest.raises(Expired):
        await anext(changes)


async def test_a_quiet_watch_does_not_grow_old() -> None:
    tail = Tail(0, max_changes=10)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(anext(tail.watch("/nodes/", 0)))
        await asyncio.sleep(0)
        asleep = tail._waits["/nodes/"]
        fill(tail, 100)
        await asyncio.sleep(0)
        assert tail._waits == {"/nodes/": asleep}, "it was woken for nothing"
        tail.extend([Change("/nodes/n", 101, b"1")])
    assert [change.revision for change in waiting.result()] == [101]
