"""News about objects as core/v1 Events, written beside the work and never in its way.

What is told again is counted up on one Event, as Kubernetes does; what is told again and again (a
probe that fails, a container that crashes) is written less and less often.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.objects import Object, Resource
from sampan.api.time import timestamp
from sampan.client.interface import Client

WAITING: Final = 10_000
"""How many events may wait to be written; more are dropped, because they are only news."""
REMEMBERED: Final = 4096
"""How many kinds of events are kept in mind for counting up."""
BATCH: Final = 32
PACE: Final = 0.01
"""Seconds between two events while there is better to do: one costs as much as creating a Pod."""
ALWAYS: Final = 4
"""So many of one kind are written at once; then the pauses double."""
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
LONGEST_MESSAGE: Final = 1024

Severity = Literal["Normal", "Warning"]
Same: TypeAlias = tuple[str, ...]

log = logging.getLogger(__name__)


class _Told(Struct):
    """What an Event says by now, and before when it need not be written again."""

    name: str
    count: int
    message: str
    next: float = 0.0


def wall_clock() -> datetime:
    return datetime.now(UTC)


def never() -> bool:
    return False


def same_words(event: Object) -> Same:
    """What two Events have in common that tell the same."""
    return (*same_reason(event), event["type"], event["message"])


def same_reason(event: Object) -> Same:
    """What Events have in common of which only the latest matters."""
    about = event["involvedObject"]
    place = about["kind"], about["namespace"], about["name"], about["uid"]
    return (*place, about.get("fieldPath", ""), event["reason"])


class EventRecorder:
    """A queue of events and the one task that writes them."""

    def __init__(
        self,
        client: Client,
        now: Callable[[], datetime] = wall_clock,
        *,
        same: Callable[[Object], Same] = same_words,
        busy: Callable[[], bool] = never,
    ) -> None:
        """Events that are the *same* become one; while *busy* they come out slowly."""
        self._client = client
        self._now = now
        self._same = same
        self._busy = busy
        self._waiting: asyncio.Queue[Object] = asyncio.Queue(WAITING)
        self._told: OrderedDict[Same, _Told] = OrderedDict()

    def record(
        self,
        about: Resource,
        type_: Severity,
        reason: str,
        message: str,
        component: str,
        *,
        host: str = "",
        field: str = "",
    ) -> None:
        """Take an event for writing, without waiting; *field* is a path within *about*."""
        said = event_object(about, type_, reason, message, self._now())
        if field:
            said["involvedObject"]["fieldPath"] = field
        said["source"] = {"component": component, **({"host": host} if host else {})}
        said |= {"reportingComponent": component, "reportingInstance": host}
        try:
            self._waiting.put_nowait(said)
        except asyncio.QueueFull:
            log.warning("too many events waiting; dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Write what is recorded, until cancelled; what waits together goes out together."""
        while True:
            batch = [await self._waiting.get()]
            if self._busy():
                await asyncio.sleep(PACE)
            while len(batch) < BATCH and not self._busy() and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            told: dict[Same, list[Object]] = {}
            for event in batch:
                told.setdefault(self._same(event), []).append(event)
            async with asyncio.TaskGroup() as group:
                for same, events in told.items():
                    group.create_task(self._try(same, events[-1], len(events)))

    async def _try(self, same: Same, event: Object, times: int) -> None:
        try:
            await self._write(same, event, times)
        except (ApiError, OSError, TimeoutError) as error:
            log.info("event %s: %s", event["reason"], error)

    async def _write(self, same: Same, event: Object, times: int) -> None:
        """Count *times* on to the Event that says the same already, or make one."""
        now = asyncio.get_running_loop().time()
        told = self._told.get(same)
        if told is None:
            await self._create(same, event, times)
            return
        told.count += times
        if told.count > ALWAYS and now < told.next and told.message == event["message"]:
            return
        doublings = min(max(told.count - ALWAYS, 0), 10)
        told.next = now + min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)
        told.message = event["message"]
        patch = {"count": told.count, **{k: event[k] for k in ("message", "lastTimestamp")}}
        namespace = event["metadata"]["namespace"]
        try:
            await self._client.patch(kinds.EVENTS, told.name, patch, namespace)
        except NotFound:
            await self._create(same, event, times)

    async def _create(self, same: Same, event: Object, times: int) -> None:
        made = await self._client.create(kinds.EVENTS, {**event, "count": times})
        self._told[same] = _Told(made["metadata"]["name"], times, event["message"])
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)


def event_object(
    about: Resource, type_: Severity, reason: str, message: str, now: datetime
) -> Object:
    """Return the core/v1 Event; what has no namespace is told of in `default`."""
    meta, at = about.metadata, timestamp(now)
    unique = format(int(now.timestamp() * 1e9), "x")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "generateName": f"{meta.name}.{unique}",
            "namespace": meta.namespace or "default",
        },
        "involvedObject": {
            "apiVersion": about.KIND.api_version,
            "kind": about.KIND.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": type_,
        "reason": reason,
        "message": message[:LONGEST_MESSAGE],
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "eventTime": None,
    }
