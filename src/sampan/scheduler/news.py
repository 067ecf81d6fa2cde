"""What users are told: events, and the PodScheduled condition of Pods that have to wait.

Written beside the decisions and never in their way. Of several conditions of one Pod only the
last is written; when too many events wait, new ones are dropped, because they are only news.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, NotFound
from sampan.api.objects import Object, condition
from sampan.api.time import timestamp
from sampan.client.interface import Client, PatchType
from sampan.scheduler.views import Pod

WAITING: Final = 10_000
"""How many events may wait to be written."""
REMEMBERED: Final = 4096
"""How many events are kept in mind to be counted up instead of written again."""
WRITERS: Final = 4
PACE: Final = 0.01
"""Seconds between two events while Pods wait for nodes: one costs as much as creating a Pod."""

EventType = Literal["Normal", "Warning"]

log = logging.getLogger(__name__)


class News:
    def __init__(
        self, client: Client, now: Callable[[], datetime], busy: Callable[[], bool]
    ) -> None:
        """While *busy* says that Pods wait for nodes, Events come out slowly."""
        self._client = client
        self._now = now
        self._busy = busy
        self._events: asyncio.Queue[Object] = asyncio.Queue(WAITING)
        self._written: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()
        self._statuses: dict[str, tuple[Pod, Object]] = {}
        """What is still to be written of a Pod's status."""
        self._due: KeyedQueue[str] = KeyedQueue(Backoff(first=0.1, cap=60.0))

    def event(self, pod: Pod, type_: EventType, reason: str, message: str) -> None:
        try:
            self._events.put_nowait(self._event(pod, type_, reason, message))
        except asyncio.QueueFull:
            log.debug("too many events waiting; dropped: %s %s", reason, message)

    def not_scheduled(self, pod: Pod, reason: str, message: str) -> None:
        """Set *pod*'s PodScheduled condition to False, if it does not say so already."""
        known = condition(pod.status.conditions, "PodScheduled")
        if known and (known.status, known.reason, known.message) == ("False", reason, message):
            return
        new: Object = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "observedGeneration": pod.metadata.generation,
        }
        if known is None or known.status != "False":
            new["lastTransitionTime"] = timestamp(self._now())
        self._write(pod, {"conditions": [new]})

    def nominated(self, pod: Pod, node: str) -> None:
        """Write down the node that *pod* is promised; none with ""."""
        self._write(pod, {"nominatedNodeName": node or None})

    def _write(self, pod: Pod, status: Object) -> None:
        uid = pod.metadata.uid
        _, before = self._statuses.get(uid, (pod, {}))
        self._statuses[uid] = (pod, {**before, **status})
        self._due.add(uid)

    def forget(self, uid: str) -> None:
        """Say nothing more about a Pod that has found a place or is gone."""
        self._statuses.pop(uid, None)

    async def run(self) -> None:
        """Write what there is to tell, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_events())
            for _ in range(WRITERS):
                group.create_task(self._write_statuses())

    async def _write_statuses(self) -> None:
        async for uid in self._due:
            try:
                await self._write_status(uid)
            except (ApiError, OSError, TimeoutError) as error:
                self._due.retry(uid, error)
            else:
                self._due.done(uid)

    async def _write_status(self, uid: str) -> None:
        if uid not in self._statuses:
            return
        pod, status = self._statuses.pop(uid)
        meta = pod.metadata
        patch = {"metadata": {"uid": uid}, "status": status}
        try:
            await self._client.patch(
                kinds.PODS,
                meta.name,
                patch,
                meta.namespace,
                subresource="status",
                how=PatchType.STRATEGIC,
            )
        except (NotFound, Conflict):
            return  # the Pod is gone, or another has its name
        except (ApiError, OSError, TimeoutError):
            _, newer = self._statuses.get(uid, (pod, {}))
            self._statuses[uid] = (pod, {**status, **newer})
            raise

    async def _write_events(self) -> None:
        while True:
            event = await self._events.get()
            if self._busy():
                await asyncio.sleep(PACE)
            try:
                await self._write_event(event)
            except (ApiError, OSError, TimeoutError) as error:
                log.info("event %s: %s", event["reason"], error)

    async def _write_event(self, event: Object) -> None:
        """Write *event*, or count up the last one of the same reason about the same Pod."""
        same = (event["involvedObject"]["uid"], event["reason"])
        namespace = event["metadata"]["namespace"]
        name, count = self._written.pop(same, ("", 0))
        if name:
            patch = {
                "count": count + 1,
                "message": event["message"],
                "lastTimestamp": event["lastTimestamp"],
            }
            try:
                await self._client.patch(kinds.EVENTS, name, patch, namespace)
            except NotFound:
                name, count = "", 0
        if not name:
            made = await self._client.create(kinds.EVENTS, event)
            name = made["metadata"]["name"]
        self._written[same] = (name, count + 1)
        if len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _event(self, pod: Pod, type_: EventType, reason: str, message: str) -> Object:
        meta, now = pod.metadata, self._now()
        unique = format(int(now.timestamp() * 1e9), "x")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta.name}.{unique}", "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "type": type_,
            "reason": reason,
            "message": message[:1024],
            "count": 1,
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "eventTime": None,
            "source": {"component": pod.spec.scheduler_name},
            "reportingComponent": pod.spec.scheduler_name,
            "reportingInstance": "",
        }
