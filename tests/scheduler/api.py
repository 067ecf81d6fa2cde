"""The in-memory API with what schedulers need of it: bindings, and refusals of them on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.scheduler.loop import Scheduler
from sampan.scheduler.own import OwnRules
from tests.controllers.memory_api import MemoryApi


class BindingApi(MemoryApi):
    """*refuses* may fail a binding of a Pod to a node; *bindings* tells all that were tried.

    A refusal takes effect at once, but the answer takes *refusal_takes* seconds.
    """

    def __init__(self, *, lag: float = 0.0) -> None:
        super().__init__(lag=lag)
        self.refuses: Callable[[str, str], ApiError | None] = lambda _pod, _node: None
        self.bindings: list[tuple[str, str]] = []
        self.refusal_takes = 0.0

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        if subresource != "binding":
            return await super().create(kind, obj)
        await asyncio.sleep(0.001)
        meta, node = obj["metadata"], obj["target"]["name"]
        self.bindings.append((meta["name"], node))
        if error := self.refuses(meta["name"], node):
            await asyncio.sleep(self.refusal_takes)
            raise error
        pod = await self.get(kinds.PODS, meta["name"], meta["namespace"])
        if pod["metadata"]["uid"] != meta["uid"] or pod["spec"].get("nodeName"):
            raise Conflict(f"pod {meta['name']} is another, or has a node already")
        patch = {"spec": {"nodeName": node}, "metadata": {"annotations": meta.get("annotations")}}
        return await self.patch(kinds.PODS, meta["name"], patch, meta["namespace"])

    async def add(self, kind: Kind, *objects: Object) -> None:
        for obj in objects:
            await self.create(kind, obj)

    def pod(self, name: str, namespace: str = "default") -> Object:
        return self.objects[kinds.PODS][namespace, name]

    def node_of(self, name: str) -> str:
        return str(self.pod(name)["spec"].get("nodeName", ""))

    def why(self, name: str) -> str:
        """Return the message of a Pod's PodScheduled condition, "" without one."""
        conditions = (self.pod(name).get("status") or {}).get("conditions") or []
        return str(next((c["message"] for c in conditions if c["type"] == "PodScheduled"), ""))

    def events(self, reason: str) -> list[Object]:
        return [event for event in self.of(kinds.EVENTS) if event["reason"] == reason]


@asynccontextmanager
async def scheduling(api: BindingApi, own: OwnRules | None = None) -> AsyncIterator[Scheduler]:
    """Run a scheduler while the block lasts."""
    scheduler = Scheduler(api, own=own, now=api.now)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scheduler.run())
        yield scheduler
        task.cancel()


async def until(holds: Callable[[], object], *, within: float = 120.0) -> None:
    """Wait in virtual time until *holds*."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - virtual time costs nothing
            await asyncio.sleep(0.001)
