"""What users are told: events, and the PodScheduled condition of Pods that have to wait.

Written beside the decisions and never in their way. Of several conditions of one Pod only the
last is written.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, NotFound
from sampan.api.objects import Object, condition
from sampan.api.time import timestamp
from sampan.client.events import EventRecorder, Severity, same_reason
from sampan.client.interface import Client, PatchType
from sampan.scheduler.views import Pod

WRITERS: Final = 4


class News:
    def __init__(
        self, client: Client, now: Callable[[], datetime], busy: Callable[[], bool]
    ) -> None:
        """While *busy* says that Pods wait for nodes, Events come out slowly."""
        self._client = client
        self._now = now
        self._events = EventRecorder(client, now, same=same_reason, busy=busy)
        self._statuses: dict[str, tuple[Pod, Object]] = {}
        """What is still to be written of a Pod's status."""
        self._due: KeyedQueue[str] = KeyedQueue(Backoff(first=0.1, cap=60.0))

    def event(self, pod: Pod, type_: Severity, reason: str, message: str) -> None:
        self._events.record(pod, type_, reason, message, pod.spec.scheduler_name)

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
            group.create_task(self._events.run())
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
