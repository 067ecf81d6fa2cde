"""One work's end is nobody else's."""

import asyncio
import logging

import pytest

from sampan.aio.backoff import Backoff
from sampan.aio.supervise import supervise


async def test_a_work_that_raises_is_logged_and_started_again_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    async def work() -> None:
        starts.append(loop.time())
        if len(starts) < 4:
            raise OSError("socket gone")

    with caplog.at_level(logging.ERROR):
        await supervise({"watcher": work}, backoff=Backoff(first=1, cap=2))
    assert starts == [0, 1, 3, 5]
    assert "watcher failed" in caplog.text
    assert "socket gone" in caplog.text


async def test_a_work_that_ran_well_for_a_minute_starts_afresh() -> None:
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    async def work() -> None:
        starts.append(loop.time())
        if len(starts) == 5:
            return
        await asyncio.sleep(100 if len(starts) == 3 else 0)
        raise OSError("gone")

    await supervise({"w": work}, backoff=Backoff(first=1, cap=64))
    assert starts == [0, 1, 3, 104, 106]


async def test_one_work_that_raises_leaves_the_others_running() -> None:
    ended: list[str] = []

    async def good() -> None:
        await asyncio.sleep(10)
        ended.append("good")

    async def bad() -> None:
        if not ended:
            raise ValueError("bug")

    await supervise({"good": good, "bad": bad}, backoff=Backoff(first=1, cap=1))
    assert ended == ["good"]


async def test_cancelling_cancels_every_work() -> None:
    cancelled: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await supervise({"a": lambda: work("a"), "b": lambda: work("b")})
    assert sorted(cancelled) == ["a", "b"]
