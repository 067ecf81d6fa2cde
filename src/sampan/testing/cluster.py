"""A whole cluster in one event loop: API, controllers, scheduler, and agents on fake machines.

Everything is the real thing except the edges: the store is in memory, nobody speaks HTTP, and
containers are records of a `FakeRuntime`. In virtual time an hour takes as long as what happens
in it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from sampan.agent.config import AgentConfig
from sampan.agent.node import NodeAgent, keep_lease
from sampan.agent.pods import NEIGHBOURS, Pods
from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.cache import Cache
from sampan.client.interface import Client
from sampan.controllers.roster import run_all
from sampan.scheduler.loop import run as schedule
from sampan.store.memory import MemoryStore
from sampan.testing.runtime import Behaviour, FakeRuntime, loop_time

CA: Final = "no certificate: nobody speaks TLS here\n"
FOREVER: Final = {"app": Behaviour()}
"""The images that nodes have unless told otherwise: one, whose containers run until stopped."""
GLANCE: Final = 0.01
"""Seconds between two looks at a condition."""

T = TypeVar("T")


class Machine:
    """A node: its runtime, which outlives its agent, and the agent while that is on."""

    def __init__(self, config: AgentConfig, client: Client, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self._config = config
        self._client = client
        self._agent: asyncio.Task[None] | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start the agent as a task of *group*; it adopts what runs already."""
        if self._agent is None:
            self._agent = group.create_task(self._run(), name=self._config.node_name)

    def stop(self) -> None:
        """Stop the agent as if by SIGKILL: nobody is told, and containers stay as they are."""
        if self._agent:
            self._agent.cancel()
            self._agent = None

    async def _run(self) -> None:
        config, client = self._config, self._client
        neighbours = Cache(client, NEIGHBOURS)
        agent = NodeAgent(config, client, _no_network, now=loop_time)
        pods = Pods(config, client, self.runtime, neighbours, now=loop_time)
        agent.runtime_answers("fake://1")
        async with asyncio.TaskGroup() as group:
            group.create_task(neighbours.run())
            group.create_task(agent.run())
            group.create_task(pods.run())
            group.create_task(
                keep_lease(client, config.node_name, config.heartbeat_seconds, now=loop_time)
            )


async def _no_network(_pod_cidr: str) -> None:
    """Let Pods talk to nobody."""


class Cluster:
    """What a test does with a cluster; made by `cluster()`."""

    def __init__(
        self, registry: StoreRegistry, machines: Mapping[str, Machine], group: asyncio.TaskGroup
    ) -> None:
        self.registry = registry
        """What an API server in front of this cluster would serve."""
        self.client: Client = LocalClient(registry)
        self.machines = machines
        self._group = group

    def runtime(self, node: str) -> FakeRuntime:
        return self.machines[node].runtime

    def lose(self, node: str) -> None:
        """Let a node fall silent, as when its power fails."""
        self.machines[node].stop()

    def bring_back(self, node: str) -> None:
        self.machines[node].start(self._group)

    async def create(self, *objects: Object) -> None:
        """Create objects of any kind, in `default` where they name no namespace."""
        for obj in objects:
            kind = BY_GVK[obj["apiVersion"], obj["kind"]]
            meta = {"namespace": "default"} if kind.namespaced else {}
            await self.client.create(kind, {**obj, "metadata": {**meta, **obj["metadata"]}})

    async def find(self, kind: Kind, name: str, namespace: str = "default") -> Object | None:
        try:
            return await self.client.get(kind, name, namespace if kind.namespaced else "")
        except NotFound:
            return None

    async def pods(self, labels: str = "", namespace: str = "default") -> Sequence[Object]:
        return (await self.client.list(kinds.PODS, namespace, labels=labels)).items

    async def ready_pods(self, labels: str = "", namespace: str = "default") -> Sequence[Object]:
        """List Pods that are ready and not on their way out."""
        return [pod for pod in await self.pods(labels, namespace) if is_ready(pod)]

    async def ready_nodes(self) -> Sequence[Object]:
        return [node for node in (await self.client.list(kinds.NODES)).items if is_ready(node)]

    async def until(self, holds: Callable[[], Awaitable[T]], *, within: float = 30.0) -> T:
        """Look until *holds* says something true and return that; *within* is the loop's time."""
        async with asyncio.timeout(within):
            while not (answer := await holds()):  # noqa: ASYNC110 - a test may ask anything
                await asyncio.sleep(GLANCE)
            return answer


def is_ready(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in obj["metadata"]


@asynccontextmanager
async def cluster(
    base: Path,
    *,
    nodes: int = 3,
    images: Mapping[str, Behaviour] = FOREVER,
    takes: float = 0.0,
) -> AsyncIterator[Cluster]:
    """Run a cluster while the block lasts; its nodes are `node-1`, `node-2` and so on, and ready.

    Agents keep files below *base*. Every node has all *images*, and each call to its runtime
    *takes* so many seconds. What fails inside fails the block.
    """
    registry = StoreRegistry(MemoryStore(), Settings(root_ca=CA), clock=loop_time)
    await registry.start()
    client = LocalClient(registry)
    machines = {
        (name := f"node-{number}"): Machine(
            _config(base, name, number),
            LocalClient(registry, manager="sampan-agent"),
            FakeRuntime(images, takes=takes, addresses=f"10.42.{number - 1}."),
        )
        for number in range(1, nodes + 1)
    }
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        control = [
            group.create_task(run_all(client, ca_pem=CA, now=loop_time), name="controllers"),
            group.create_task(schedule(client, now=loop_time), name="scheduler"),
            group.create_task(registry.follow(), name="definitions"),
        ]
        for machine in machines.values():
            machine.start(group)
        running = Cluster(registry, machines, group)
        try:
            await running.until(lambda: _all_ready(running, nodes))
            yield running
        except Exception as error:  # noqa: BLE001 - the test's own, so that no group wraps it
            failure = error
        finally:
            for machine in machines.values():
                machine.stop()
            for task in control:
                task.cancel()
    if failure:
        raise failure


async def _all_ready(running: Cluster, number: int) -> bool:
    return len(await running.ready_nodes()) == number


def _config(base: Path, name: str, number: int) -> AgentConfig:
    kept = base / name / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    return AgentConfig(
        node_name=name,
        node_ip=f"192.0.2.{number}",
        server="https://192.0.2.254:6443",
        data_dir=kept,
        run_dir=base / name / "run",
        ca=base / "ca.crt",
        certificate=base / name / "node.crt",
        key=base / name / "node.key",
    )
