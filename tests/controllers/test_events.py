import asyncio

from sampan.api import kinds
from sampan.api.errors import Forbidden
from sampan.api.objects import Object
from sampan.client.events import EventRecorder, event_object
from sampan.controllers.events import ControllerEvents
from sampan.controllers.plan import RecordEvent
from sampan.controllers.views import Deployment
from tests.controllers.cluster import labelled, until
from tests.controllers.memory_api import EPOCH, MemoryApi

WEB = Deployment.of(labelled("Deployment", "web"))


def told(message: str, reason: str = "Scaled") -> RecordEvent:
    return RecordEvent(WEB, reason, message)


async def recorded(api: MemoryApi, *rounds: list[RecordEvent]) -> list[Object]:
    """Record each round at once, waiting in between, and return the Events then."""
    recorder = EventRecorder(api, api.now)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(recorder.run())
        for round_ in rounds:
            for event in round_:
                ControllerEvents(recorder).record(event, "test", name="web-1")
            await asyncio.sleep(1)
        running.cancel()
    return api.of(kinds.EVENTS)


async def test_an_event_says_who_what_and_when() -> None:
    (event,) = await recorded(MemoryApi(), [told("Created {name}")])
    assert event["message"] == "Created web-1"
    assert event["involvedObject"]["kind"] == "Deployment"
    assert event["metadata"]["name"].startswith("web.")
    assert event["source"] == {"component": "test"}
    assert (event["count"], event["firstTimestamp"]) == (1, "2026-01-01T00:00:00Z")


async def test_the_same_event_is_counted_up_on_one_object() -> None:
    (event,) = await recorded(MemoryApi(), [told("a")], [told("a"), told("a")], [told("a")])
    assert (event["count"], event["lastTimestamp"]) == (4, "2026-01-01T00:00:02Z")


async def test_events_that_say_different_things_are_different_objects() -> None:
    found = await recorded(MemoryApi(), [told("a"), told("b"), told("a", "Other")] * 2)
    assert sorted((e["message"], e["count"]) for e in found) == [("a", 2), ("a", 2), ("b", 2)]


async def test_an_event_that_was_deleted_is_made_anew() -> None:
    api = MemoryApi()
    recorder = EventRecorder(api, api.now)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(recorder.run())
        ControllerEvents(recorder).record(told("a"), "test")
        await until(lambda: len(api.of(kinds.EVENTS)) == 1)
        await api.delete(kinds.EVENTS, api.of(kinds.EVENTS)[0]["metadata"]["name"], "default")
        ControllerEvents(recorder).record(told("a"), "test")
        await until(lambda: len(api.of(kinds.EVENTS)) == 1)
        running.cancel()
    assert api.of(kinds.EVENTS)[0]["count"] == 1


async def test_a_refused_event_does_not_stop_the_next() -> None:
    api = MemoryApi()
    refusals = iter([Forbidden("namespace is being terminated")])
    api.fault = lambda _verb, _kind: next(refusals, None)
    (event,) = await recorded(api, [told("first")], [told("second")])
    assert event["message"] == "second"


def test_what_has_no_namespace_is_told_of_in_default() -> None:
    raw = labelled("Deployment", "web")
    del raw["metadata"]["namespace"]
    about = Deployment.of(raw)
    event = event_object(about, "Normal", "R", "m", EPOCH)
    assert event["metadata"]["namespace"] == "default"
