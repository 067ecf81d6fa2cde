"""Ticks tell of silence, and lose nothing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from sampan.aio.ticks import Tick, with_ticks


async def slow(*pauses: float) -> AsyncGenerator[int, None]:
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        yield number


async def test_silence_ticks_and_items_pass() -> None:
    ticked = with_ticks(slow(1, 25, 1), 10, lambda: "now")
    assert [item async for item in ticked] == [0, Tick("now"), Tick("now"), 1, 2]


async def test_an_item_that_is_under_way_comes_before_any_tick() -> None:
    woken = asyncio.Event()

    async def source() -> AsyncGenerator[str, None]:
        await woken.wait()
        yield "item"

    def sample() -> int:
        woken.set()
        return 1

    async with aclosing(with_ticks(source(), 10, sample)) as ticked:
        assert await anext(ticked) == "item"


async def test_closing_it_closes_the_source() -> None:
    closed = False

    async def source() -> AsyncGenerator[int, None]:
        nonlocal closed
        try:
            await asyncio.sleep(1000)
            yield 1
        finally:
            closed = True

    ticked = with_ticks(source(), 10, int)
    assert isinstance(await anext(ticked), Tick)
    await ticked.aclose()
    assert closed


async def test_an_error_of_the_source_is_passed_on() -> None:
    async def source() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more")

    ticked = with_ticks(source(), 10, int)
    assert await anext(ticked) == 1
    with pytest.raises(ValueError, match="no more"):
        await anext(ticked)
