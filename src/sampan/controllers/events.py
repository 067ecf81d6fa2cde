"""Events about what controllers did, written beside their work and never in its way.

The same event about the same object is counted up on one Event object, as Kubernetes does.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias

from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.client.interface import Client
from sampan.controllers.plan import RecordEvent

REMEMBERED: Final = 4096
"""How many kinds of events are kept in mind for counting up."""
WAITING: Final = 10_000
"""How many events may wait to be written; more are dropped, because they are only news."""
BATCH: Final = 32

Same: TypeAlias = tuple[str, ...]

log = logging.getLogger(__name__)


class Recorder(Protocol):
    def record(self, event: RecordEvent, source: str, *, name: str = "") -> None:
        """Take *event* for writing, without waiting; *name* replaces `{name}` in its message."""


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class EventRecorder:
    """A queue of events and the one task that writes them."""

    def __init__(self, client: Client, now: Callable[[], datetime] = _wall_clock) -> None:
        self._client = client
        self._now = now
        self._waiting: asyncio.Queue[Object] = asyncio.Queue(WAITING)
        self._written: OrderedDict[Same, tuple[str, int]] = OrderedDict()

    def record(self, event: RecordEvent, source: str, *, name: str = "") -> None:
        try:
            self._waiting.put_nowait(event_object(event, source, name, self._now()))
        except asyncio.QueueFull:
            log.warning("too many events waiting; dropped: %s %s", event.reason, event.message)

    async def run(self) -> None:
        """Write what is recorded, until cancelled; what waits together goes out together."""
        while True:
            event = await self._waiting.get()
            batch = {_same(event): event}
            times = Counter(batch.keys())
            while len(batch) < BATCH and not self._waiting.empty():
                event = self._waiting.get_nowait()
                batch[_same(event)] = event
                times[_same(event)] += 1
            async with asyncio.TaskGroup() as group:
                for same, event in batch.items():
                    group.create_task(self._try(event, same, times[same]))

    async def _try(self, event: Object, same: Same, times: int) -> None:
        try:
            await self._write(event, same, times)
        except (ApiError, OSError, TimeoutError) as error:
            log.info("event %s: %s", event["reason"], error)

    async def _write(self, event: Object, same: Same, times: int) -> None:
        """Count *times* on to the Event that says the same already, or make one."""
        namespace = event["metadata"]["namespace"]
        name, count = self._written.pop(same, ("", 0))
        if name:
            patch = {"count": count + times, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch(kinds.EVENTS, name, patch, namespace)
            except NotFound:
                name, count = "", 0
        if not name:
            made = await self._client.create(kinds.EVENTS, {**event, "count": times})
            name = made["metadata"]["name"]
        self._written[same] = (name, count + times)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)


def _same(event: Object) -> Same:
    """What two Events have in common that tell the same."""
    about = event["involvedObject"]
    return (
        about["kind"], about["namespace"], about["name"], about["uid"],
        event["type"], event["reason"], event["message"],
    )  # fmt: skip


def event_object(event: RecordEvent, source: str, name: str, now: datetime) -> Object:
    """Return the core/v1 Event; what has no namespace is told of in `default`."""
    meta = event.about.metadata
    kind = event.about.KIND
    namespace = meta.namespace or "default"
    unique = format(int(now.timestamp() * 1e9), "x")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta.name}.{unique}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message.replace("{name}", name)[:1024],
        "count": 1,
        "firstTimestamp": timestamp(now),
        "lastTimestamp": timestamp(now),
        "eventTime": None,
        "source": {"component": source},
        "reportingComponent": source,
        "reportingInstance": "",
    }
