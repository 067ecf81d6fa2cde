"""News about Pods: counted, not repeated."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sampan.agent.events import Events
from sampan.api import kinds
from sampan.testing.clock import VirtualTimeLoop
from tests.agent.situations import make_pod
from tests.controllers.memory_api import MemoryApi


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
async def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
async def events(api: MemoryApi) -> AsyncIterator[Events]:
    recorder = Events(api, "n1", api.now)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())
        yield recorder
        task.cancel()


async def test_an_event_says_what_happened_to_which_container(
    api: MemoryApi, events: Events
) -> None:
    events.record(make_pod(), "Warning", "Unhealthy", "it hurts", "main")
    await asyncio.sleep(0.1)
    [event] = api.of(kinds.EVENTS)
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "Unhealthy",
        "it hurts",
    )
    assert event["involvedObject"]["uid"] == "u1"
    assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert event["source"] == {"component": "sampan-agent", "host": "n1"}


async def test_the_same_news_is_counted_and_written_less_and_less_often(
    api: MemoryApi, events: Events
) -> None:
    for _ in range(600):
        events.record(make_pod(), "Warning", "Unhealthy", "it hurts", "main")
        await asyncio.sleep(1)
    [event] = api.of(kinds.EVENTS)
    assert event["count"] > 300
    assert len(api.log) < 15


async def test_other_news_is_another_event(api: MemoryApi, events: Events) -> None:
    events.record(make_pod(), "Normal", "Pulled", "one")
    events.record(make_pod(), "Normal", "Pulled", "two")
    events.record(make_pod(meta={"uid": "u2"}), "Normal", "Pulled", "one")
    await asyncio.sleep(0.1)
    assert len(api.of(kinds.EVENTS)) == 3


async def test_an_event_that_has_expired_is_written_anew(api: MemoryApi, events: Events) -> None:
    events.record(make_pod(), "Normal", "Pulled", "one")
    await asyncio.sleep(0.1)
    api.gone(kinds.EVENTS, api.of(kinds.EVENTS)[0])
    events.record(make_pod(), "Normal", "Pulled", "one")
    await asyncio.sleep(0.1)
    [event] = api.of(kinds.EVENTS)
    assert event["count"] == 1
