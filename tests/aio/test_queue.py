"""The queue's promises: one pair of hands, nothing lost, nothing early."""

import asyncio
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.testing.clock import VirtualTimeLoop


async def _nothing_within(queue: KeyedQueue[str], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await anext(queue)
    except TimeoutError:
        return True
    return False


async def test_adding_twice_before_it_is_handed_out_is_adding_once() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    queue.add("a")
    assert await anext(queue) == "a"
    queue.done("a")
    assert await _nothing_within(queue, 3600)


async def test_a_key_added_while_it_is_worked_on_comes_back_after_done() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    await anext(queue)
    queue.add("a")
    queue.add("a")
    assert await _nothing_within(queue, 3600)
    queue.done("a")
    assert await anext(queue) == "a"
    queue.done("a")
    assert await _nothing_within(queue, 3600)


async def test_of_delayed_additions_the_earliest_counts() -> None:
    queue = KeyedQueue[str]()
    for after in (30, 10, 20):
        queue.add("a", after=after)
    assert await anext(queue) == "a"
    assert asyncio.get_running_loop().time() == 10
    queue.done("a")
    assert await _nothing_within(queue, 3600)


async def test_an_addition_without_delay_overtakes_a_delayed_one() -> None:
    queue = KeyedQueue[str]()
    queue.add("a", after=10)
    queue.add("a")
    assert await anext(queue) == "a"
    assert asyncio.get_running_loop().time() == 0
    queue.done("a")
    assert await _nothing_within(queue, 3600)


async def test_a_delay_that_ends_while_the_key_is_worked_on_waits_for_done() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    await anext(queue)
    queue.add("a", after=1)
    assert await _nothing_within(queue, 5)
    queue.done("a")
    assert await anext(queue) == "a"


async def test_pauses_between_retries_double_up_to_the_cap_and_done_resets_them() -> None:
    queue = KeyedQueue[str](Backoff(first=1, cap=4))
    loop = asyncio.get_running_loop()
    queue.add("a")
    moments = []
    for _ in range(5):
        await anext(queue)
        moments.append(loop.time())
        queue.retry("a", OSError("no"))
    assert [b - a for a, b in pairwise(moments)] == [1, 2, 4, 4]
    await anext(queue)
    queue.done("a")
    queue.add("a")
    await anext(queue)
    before = loop.time()
    queue.retry("a", OSError("no"))
    await anext(queue)
    assert loop.time() - before == 1


async def test_one_key_that_fails_does_not_delay_another() -> None:
    queue = KeyedQueue[str]()
    queue.add("bad")
    queue.add("good")
    await anext(queue)
    queue.retry("bad", OSError("no"))
    assert await anext(queue) == "good"
    assert asyncio.get_running_loop().time() == 0


async def test_a_held_key_comes_back_only_after_its_condition() -> None:
    queue = KeyedQueue[str]()
    seen = asyncio.Event()
    queue.add("a")
    await anext(queue)
    async with asyncio.TaskGroup() as group:
        group.create_task(queue.done_after("a", seen.wait()))
        queue.add("a")
        assert await _nothing_within(queue, 5)
        seen.set()
        assert await anext(queue) == "a"


async def test_a_hold_ends_by_itself_when_its_condition_never_comes_true() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    await anext(queue)
    queue.add("a")
    await queue.done_after("a", asyncio.Event().wait(), at_most=7)
    assert await anext(queue) == "a"
    assert asyncio.get_running_loop().time() == 7


async def test_statistics_tell_where_every_key_is() -> None:
    queue = KeyedQueue[str]()
    queue.add("active")
    await anext(queue)
    queue.add("failing")
    await anext(queue)
    queue.retry("failing", OSError("no"))
    queue.add("later", after=9)
    queue.add("ready")
    now = queue.statistics()
    assert (now.ready, now.delayed, now.active, now.failing) == (1, 2, 1, 1)
    assert (now.handed_out, now.retries) == (2, 1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0, 0, 1, 2.5])), max_size=30),
    st.integers(1, 4),
    st.sets(st.integers(0, 29)),
)
def test_every_addition_is_followed_by_a_look_and_no_two_looks_overlap(
    additions: list[tuple[str, float]], workers: int, failing: set[int]
) -> None:
    looked: Counter[str] = Counter()
    busy: set[str] = set()
    pending: set[str] = set()

    async def work(queue: KeyedQueue[str]) -> None:
        async for key in queue:
            assert key not in busy
            busy.add(key)
            pending.discard(key)
            await asyncio.sleep(0.7)
            busy.remove(key)
            looked[key] += 1
            if looked.total() in failing:
                pending.add(key)
                queue.retry(key, OSError("no"))
            else:
                queue.done(key)

    async def scenario() -> None:
        queue = KeyedQueue[str]()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(queue)) for _ in range(workers)]
            for key, after in additions:
                pending.add(key)
                queue.add(key, after=after)
                await asyncio.sleep(0.3)
            await asyncio.sleep(10_000)
            for task in tasks:
                task.cancel()
        assert not pending
        assert queue.statistics().active == 0

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
