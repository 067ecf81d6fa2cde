"""A node's Pods over the real API in process and a runtime in memory, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.agent.config import AgentConfig
from sampan.agent.pods import NEIGHBOURS, Pods
from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.cache import Cache
from sampan.store.memory import MemoryStore
from sampan.testing.runtime import Behaviour, FakeRuntime, loop_time

NODE = "n1"
FOREVER = Behaviour()
IMAGES = {
    "app": FOREVER,
    "done": Behaviour(runs_for=1),
    "crash": Behaviour(runs_for=1, exit_code=3),
}


def config(base: Path) -> AgentConfig:
    return AgentConfig(
        node_name=NODE,
        node_ip="192.0.2.7",
        server="https://192.0.2.1:6443",
        data_dir=base / "data",
        run_dir=base / "run",
        ca=base / "ca",
        certificate=base / "crt",
        key=base / "key",
    )


def pod(
    name: str = "web",
    image: str = "app",
    *,
    spec: Mapping[str, Any] | None = None,
    **container: Any,
) -> Object:
    main = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": False,
            "containers": [main],
            **(spec or {}),
        },
    }


@dataclass
class Bed:
    client: LocalClient
    runtime: FakeRuntime
    base: Path

    async def create(self, obj: Object) -> Object:
        return await self.client.create(kinds.PODS, obj)

    async def get(self, name: str = "web") -> Object:
        return await self.client.get(kinds.PODS, name, "default")

    async def container(self, name: str = "web", number: int = 0) -> Object:
        status = (await self.get(name)).get("status") or {}
        found: Object = (status.get("containerStatuses") or [{}])[number]
        return found

    async def events(self) -> list[tuple[str, str]]:
        found = await self.client.list(kinds.EVENTS, "default")
        return [(event["reason"], event["message"]) for event in found.items]

    async def gone(self, name: str = "web") -> bool:
        try:
            await self.get(name)
        except NotFound:
            return True
        return False

    async def is_ready(self, name: str = "web") -> bool:
        conditions = ((await self.get(name)).get("status") or {}).get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    async def state(self, name: str = "web") -> str:
        """Such as `running`, or `waiting CrashLoopBackOff`."""
        state = (await self.container(name)).get("state") or {"nothing": {}}
        [(kind, details)] = state.items()
        return f"{kind} {details.get('reason', '')}".strip()


async def until(holds: Callable[[], Awaitable[Any]], *, within: float = 30.0) -> Any:
    """Wait until *holds*; return what it then says."""
    async with asyncio.timeout(within):
        while not (answer := await holds()):  # noqa: ASYNC110 - the API has no event for it
            await asyncio.sleep(0.01)
        return answer


@asynccontextmanager
async def api() -> AsyncIterator[LocalClient]:
    registry = StoreRegistry(MemoryStore(), Settings(root_ca="CA"))
    await registry.start()
    client = LocalClient(registry)
    await client.create(kinds.NODES, {"metadata": {"name": NODE}})
    yield client


@asynccontextmanager
async def agent(client: LocalClient, runtime: FakeRuntime, base: Path) -> AsyncIterator[Pods]:
    """Run the agent while the block lasts; containers stay when it ends."""
    neighbours = Cache(client, NEIGHBOURS)
    pods = Pods(config(base), client, runtime, neighbours, now=loop_time)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(neighbours.run()), group.create_task(pods.run())]
        try:
            yield pods
        finally:
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def bed(base: Path, runtime: FakeRuntime | None = None) -> AsyncIterator[Bed]:
    async with api() as client:
        runtime = runtime or FakeRuntime(IMAGES)
        async with agent(client, runtime, base):
            yield Bed(client, runtime, base)
