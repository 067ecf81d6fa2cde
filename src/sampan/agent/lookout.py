"""What the container runtime says, taken into the records of this node's Pods.

Its events tell at once; every half minute its lists are compared with what is known, in case an
event was lost.
"""

import asyncio
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sampan.agent.containers import Containers
from sampan.agent.memory import Memory, Seen
from sampan.agent.pulling import IMAGE_PROBLEMS
from sampan.agent.record import Record, differs, stand_in
from sampan.agent.runtime import Container, ContainerEnded, ImageEvent, RuntimeFailure, Sandbox
from sampan.agent.tools import Tools

RELIST: Final = 30.0

log = logging.getLogger(__name__)


class Lookout:
    """*records* are the shell's own, by the Pod's uid; Pods that nobody wants are added as gone."""

    def __init__(self, tools: Tools, containers: Containers, records: dict[str, Record]) -> None:
        self._tools = tools
        self._containers = containers
        self._records = records

    async def adopt(self) -> None:
        """Take up what runs already, and find what runs for nobody any more."""
        sandboxes, containers = await self._lists()
        self._find_orphans(sandboxes)
        for record in list(self._records.values()):
            await self._load(record, sandboxes, containers)
            self._tools.poke(record.uid)
        for uid in self._tools.volumes.held() - set(self._records):
            self._tools.spawn(asyncio.to_thread(self._tools.volumes.remove, uid))
        for logs in self._logs_of_nobody():
            self._tools.spawn(asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True))

    def _logs_of_nobody(self) -> list[Path]:
        """The logs that an agent did not come to remove; their names end in the Pod's uid."""
        root = self._tools.log_dir
        places = list(root.iterdir()) if root.is_dir() else []
        return [path for path in places if path.name.rpartition("_")[2] not in self._records]

    async def _lists(self) -> tuple[list[Sandbox], list[Container]]:
        sandboxes = await self._tools.runtime.sandboxes()
        return list(sandboxes), list(await self._tools.runtime.containers())

    def _find_orphans(self, sandboxes: Iterable[Sandbox]) -> list[Record]:
        orphans = []
        for sandbox in sandboxes:
            if sandbox.uid not in self._records:
                record = Record(stand_in(sandbox), Memory(started_at=self._tools.now()), gone=True)
                self._records[sandbox.uid] = record
                orphans.append(record)
        return orphans

    async def look(self, record: Record) -> None:
        """Ask the runtime for all that it has of one Pod."""
        await self._load(record, *await self._lists())

    async def _load(
        self, record: Record, sandboxes: list[Sandbox], containers: list[Container]
    ) -> None:
        record.stale = False
        mine = [s for s in sandboxes if s.uid == record.uid]
        seen = Seen(
            tuple([await self._tools.runtime.sandbox(s.id) if s.ready else s for s in mine]),
            tuple(c for c in containers if c.uid == record.uid),
        )
        record.seen = seen
        for container in seen.containers:
            await self._containers.look(record, container.id)

    async def follow(self) -> None:
        pause = 0.1
        while True:
            try:
                async for event in self._tools.runtime.events():
                    pause = 0.1
                    self._heard(event)
            except RuntimeFailure as error:
                log.warning("the container runtime is gone: %s; again in %g s", error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            for record in self._records.values():
                record.stale = True
                self._tools.poke(record.uid)

    def _heard(self, event: ContainerEnded | ImageEvent) -> None:
        if isinstance(event, ImageEvent):
            self._image_came(event.name)
            return
        for record in self._records.values():
            if any(c.id == event.container for c in record.seen.containers):
                self._tools.spawn(self._containers.ended(record, event.container))
                return

    def _image_came(self, name: str) -> None:
        """Whoever waits for an image need not wait for the end of a back-off."""
        self._tools.images.forget(name)
        for record in self._records.values():
            for container in record.pod.every_container:
                memory = record.of(container.name)
                if memory.waiting and memory.waiting.reason in IMAGE_PROBLEMS:
                    record.remember(container.name, retry_at=None)
                    self._tools.poke(record.uid)

    async def relist_sometimes(self) -> None:
        while True:
            await asyncio.sleep(RELIST)
            try:
                sandboxes, containers = await self._lists()
            except RuntimeFailure as error:
                log.info("the container runtime does not answer: %s", error)
                continue
            for record in [*self._find_orphans(sandboxes), *self._records.values()]:
                if differs(record, sandboxes, containers):
                    record.stale = True
                    self._tools.poke(record.uid)
