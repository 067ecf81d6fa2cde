"""Writes Pods' statuses: at once when something has happened, later when it only begins to."""

import asyncio
from collections.abc import Callable
from typing import Final

from sampan.agent.plan import Situation
from sampan.agent.record import Record
from sampan.agent.status import pod_status, status_patch
from sampan.aio.backoff import Backoff
from sampan.aio.queue import KeyedQueue
from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.objects import Object
from sampan.client.interface import Client, PatchType

LATER: Final = 1.0
"""A Pod usually runs within a fraction of this; then `ContainerCreating` is never written."""
WRITERS: Final = 8
_QUIET: Final = frozenset({"ContainerCreating", "PodInitializing"})

Look = Callable[[str], tuple[Record, Situation] | None]


class Reporter:
    def __init__(self, client: Client, host_ip: str, look: Look) -> None:
        self._client = client
        self._host_ip = host_ip
        self._look = look
        self._queue: KeyedQueue[str] = KeyedQueue(Backoff(first=0.05, cap=10.0))

    def report(self, uid: str, *, after: float = 0.0) -> None:
        """Have the status written if it has changed."""
        self._queue.add(uid, after=after)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        async for uid in self._queue:
            try:
                if found := self._look(uid):
                    await self._write_when_due(*found)
            except (ApiError, OSError, TimeoutError) as error:
                self._queue.retry(uid, error)
            else:
                self._queue.done(uid)

    async def _write_when_due(self, record: Record, it: Situation) -> None:
        status = pod_status(it, self._host_ip)
        age = (it.now - it.memory.started_at).total_seconds()
        if age < LATER and _is_beginning(status) and not record.pod.metadata.deleting:
            self._queue.add(record.uid, after=LATER - age)
        else:
            await self._write(record, status)

    async def flush(self, record: Record, it: Situation) -> None:
        """Write the status now."""
        await self._write(record, pod_status(it, self._host_ip))

    async def _write(self, record: Record, status: Object) -> None:
        """Write what has changed; a Pod that is not there any more is no error."""
        if record.gone:
            return
        patch = status_patch(record.known_status(), status)
        if patch is None:
            return
        meta = record.pod.metadata
        body: Object = {"metadata": {"uid": meta.uid}, "status": patch}
        try:
            answer = await self._client.patch(
                kinds.PODS,
                meta.name,
                body,
                meta.namespace,
                subresource="status",
                how=PatchType.STRATEGIC,
            )
        except NotFound:
            return
        record.written = answer.get("status") or {}
        record.revision = int(answer["metadata"]["resourceVersion"])


def _is_beginning(status: Object) -> bool:
    """Whether there is no more to tell than that work on the Pod has begun."""
    entries = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    return status["phase"] == "Pending" and all(
        entry["state"].get("waiting", {}).get("reason") in _QUIET
        and "message" not in entry["state"]["waiting"]
        for entry in entries
    )
