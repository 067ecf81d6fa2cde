"""News about Pods, as core/v1 Events: written beside the work and never in its way.

What is told again and again (a probe that fails, a container that crashes) is counted on one Event,
and written less and less often.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import Struct

from sampan.agent.spec import NodePod
from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.client.interface import Client

COMPONENT: Final = "sampan-agent"
WAITING: Final = 2000
"""How many events may wait to be written; more are dropped, because they are only news."""
REMEMBERED: Final = 2000
ALWAYS: Final = 3
"""So many of one kind are written at once; then the pauses double."""
FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
LONGEST_MESSAGE: Final = 1024

log = logging.getLogger(__name__)
Severity = Literal["Normal", "Warning"]


class News(Struct, frozen=True):
    pod: NodePod
    type: Severity
    reason: str
    message: str
    field: str
    at: datetime

    @property
    def key(self) -> tuple[str, ...]:
        return (self.pod.uid, self.field, self.type, self.reason, self.message)


class _Written(Struct):
    name: str
    count: int
    next: float


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class Events:
    """A queue of news and the one task that writes it."""

    def __init__(
        self, client: Client, node: str, now: Callable[[], datetime] = _wall_clock
    ) -> None:
        self._client = client
        self._node = node
        self._now = now
        self._waiting: asyncio.Queue[News] = asyncio.Queue(WAITING)
        self._written: OrderedDict[tuple[str, ...], _Written] = OrderedDict()

    def record(
        self, pod: NodePod, type_: Severity, reason: str, message: str, container: str = ""
    ) -> None:
        """Take news for writing, without waiting."""
        news = News(
            pod, type_, reason, message[:LONGEST_MESSAGE], _field(pod, container), self._now()
        )
        try:
            self._waiting.put_nowait(news)
        except asyncio.QueueFull:
            log.warning("too many events waiting; dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            news = await self._waiting.get()
            try:
                await self._write(news)
            except (ApiError, OSError, TimeoutError) as error:
                log.info("event %s: %s", news.reason, error)

    async def _write(self, news: News) -> None:
        now = asyncio.get_running_loop().time()
        known = self._written.get(news.key)
        if known is None:
            await self._create(news, now)
            return
        known.count += 1
        if known.count > ALWAYS and now < known.next:
            return
        doublings = max(known.count - ALWAYS, 0)
        known.next = now + min(FIRST_PAUSE * 2.0 ** min(doublings, 10), LONGEST_PAUSE)
        patch = {"count": known.count, "lastTimestamp": timestamp(news.at)}
        namespace = news.pod.metadata.namespace
        try:
            await self._client.patch(kinds.EVENTS, known.name, patch, namespace)
        except NotFound:
            await self._create(news, now)

    async def _create(self, news: News, now: float) -> None:
        made = await self._client.create(kinds.EVENTS, self._object(news))
        self._written[news.key] = _Written(made["metadata"]["name"], 1, now + FIRST_PAUSE)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _object(self, news: News) -> Object:
        meta = news.pod.metadata
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        }
        if news.field:
            about["fieldPath"] = news.field
        at = timestamp(news.at)
        unique = format(int(news.at.timestamp() * 1e9), "x")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta.name}.{unique}", "namespace": meta.namespace},
            "involvedObject": about,
            "type": news.type,
            "reason": news.reason,
            "message": news.message,
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "eventTime": None,
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }


def _field(pod: NodePod, container: str) -> str:
    if not container:
        return ""
    init = any(c.name == container for c in pod.spec.init_containers)
    return f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
