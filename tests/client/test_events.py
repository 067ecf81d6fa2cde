"""Events: one for what only changes its words, slow while there is better to do."""

import asyncio

import pytest

from sampan.api import kinds
from sampan.api.objects import Object, Pod
from sampan.client import events
from sampan.client.events import EventRecorder, same_reason, same_words
from sampan.testing.clock import VirtualTimeLoop
from tests.controllers.memory_api import MemoryApi

POD = Pod.of({"metadata": {"name": "web", "namespace": "default", "uid": "u"}})


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def after(
    api: MemoryApi, recorder: EventRecorder, seconds: float, *messages: str, pause: float = 0
) -> list[Object]:
    """Record *messages* about one Pod, *pause* seconds apart; return the Events *seconds* later."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(recorder.run())
        for message in messages:
            recorder.record(POD, "Warning", "FailedScheduling", message, "test")
            await asyncio.sleep(pause)
        await asyncio.sleep(seconds)
        running.cancel()
    return api.of(kinds.EVENTS)


async def test_of_one_reason_only_the_latest_words_are_kept_where_that_is_wanted() -> None:
    api = MemoryApi()
    recorder = EventRecorder(api, api.now, same=same_reason)
    [event] = await after(api, recorder, 1, "0/1 nodes", "0/2 nodes", pause=1)
    assert (event["message"], event["count"]) == ("0/2 nodes", 2)
    api = MemoryApi()
    other = EventRecorder(api, api.now, same=same_words)
    assert len(await after(api, other, 1, "0/1 nodes", "0/2 nodes", pause=1)) == 2


async def test_new_words_are_written_at_once_however_often_the_reason_was_told() -> None:
    api = MemoryApi()
    recorder = EventRecorder(api, api.now, same=same_reason)
    [event] = await after(api, recorder, 0.1, *["old"] * 50, "new", pause=0.5)
    assert (event["message"], event["count"]) == ("new", 51)
    assert len(api.log) < 10


@pytest.mark.parametrize("busy", [True, False])
async def test_while_there_is_better_to_do_events_come_slowly(*, busy: bool) -> None:
    api = MemoryApi()
    recorder = EventRecorder(api, api.now, busy=lambda: busy)
    messages = [str(number) for number in range(100)]
    written = len(await after(api, recorder, 0.5, *messages))
    assert written in (range(45, 52) if busy else [100])


async def test_of_too_many_that_wait_the_last_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WAITING", 3)
    api = MemoryApi()
    recorder = EventRecorder(api, api.now)
    for number in range(5):
        recorder.record(POD, "Normal", "R", str(number), "test")
    assert {e["message"] for e in await after(api, recorder, 1)} == {"0", "1", "2"}
