"""Carry out a plan's instructions; what comes of each is written into the Pod's record."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from sampan.agent import plan
from sampan.agent.containers import Containers
from sampan.agent.pulling import Pulling
from sampan.agent.record import Record
from sampan.agent.sandboxes import Sandboxes
from sampan.agent.tools import Tools
from sampan.api import kinds
from sampan.api.errors import Conflict, NotFound

_STARTS: Final = (plan.RunSandbox, plan.CreateAndStart)

log = logging.getLogger(__name__)


class Turn:
    """A Pod's right to use the CPU for starting; once taken it is kept until the Pod is done.

    So Pods get ready one after the other, and the first does not wait for the last.
    """

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._stack = AsyncExitStack()
        self._taken = False

    async def take(self) -> None:
        if not self._taken:
            await self._stack.enter_async_context(self._slots)
            self._taken = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Work:
    def __init__(
        self,
        tools: Tools,
        *,
        flush: Callable[[Record], Awaitable[None]],
        forget: Callable[[Record], None],
    ) -> None:
        self._tools = tools
        self._flush = flush
        self._drop = forget
        self.sandboxes = Sandboxes(tools)
        self.containers = Containers(tools, self.sandboxes)
        pulling = Pulling(tools)
        self._does: Mapping[type[Any], Callable[[Record, Any], Awaitable[None]]] = {
            plan.PrepareVolumes: self.sandboxes.prepare,
            plan.RunSandbox: self.sandboxes.run,
            plan.StopSandbox: self.sandboxes.stop,
            plan.RemoveSandbox: self.sandboxes.remove,
            plan.PullImage: pulling.ensure,
            plan.CreateAndStart: self.containers.create_and_start,
            plan.Stop: self.containers.stop,
            plan.Resize: self.containers.resize,
            plan.Remove: self.containers.remove,
            plan.LetGo: self._let_go,
            plan.Forget: self._forget,
        }

    async def do(self, record: Record, step: plan.Instruction, turn: Turn) -> None:
        """Do one step; raises RuntimeFailure or ApiError when it is to be tried again."""
        if isinstance(step, _STARTS):
            await turn.take()
        await self._does[type(step)](record, step)

    async def _let_go(self, record: Record, _step: plan.LetGo) -> None:
        """Say how it ended, then let the object go; finalizers of others may still keep it."""
        meta = record.pod.metadata
        if meta.finalizers:
            await self._flush(record)
        try:
            await self._tools.client.delete(
                kinds.PODS, meta.name, meta.namespace, uid=meta.uid, grace_seconds=0
            )
        except (NotFound, Conflict):
            log.debug("%s has gone already", meta.key)
        record.note(let_go=True)

    async def _forget(self, record: Record, _step: plan.Forget) -> None:
        record.note(forgotten=True)
        self._tools.volumes.release(record.uid)
        self._drop(record)
        self._tools.spawn(self._clean(record.uid, self.sandboxes.logs(record)))

    async def _clean(self, uid: str, logs: Path) -> None:
        await asyncio.to_thread(self._remove_all, uid, logs)

    def _remove_all(self, uid: str, logs: Path) -> None:
        self._tools.volumes.remove(uid)
        shutil.rmtree(logs, ignore_errors=True)
