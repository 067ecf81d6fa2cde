"""One node's agent: single Pods, bursts, removal, and the agent by itself.

L1 single Pods, L2 bursts, L3 removal until the last network namespace is gone, L5 the agent alone
over a runtime that only waits. L1 to L3 go through the API of a dev cluster.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import Figure, Stopwatch, cpu_seconds, pss_mb, report, stopwatch
from sampan.agent.config import AgentConfig
from sampan.agent.pods import NEIGHBOURS, Pods
from sampan.api import kinds
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.client.cache import Cache
from sampan.client.connection import Connection
from sampan.client.http import HttpClient
from sampan.client.interface import Client
from sampan.store.memory import MemoryStore
from sampan.testing.runtime import Behaviour, FakeRuntime
from tests.e2e.support import IMAGE, SLEEP, DevCluster, pod
from tests.e2e.test_failures import pid_of

NODE = "node-1"
CALL = 0.005
"""Seconds that each call to the pretended runtime of L5 takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="single Pods of L1")
    parser.add_argument("--quick", action="store_true", help="ten single Pods, no burst of 100")
    options = parser.parse_args()
    bench = AgentBench(
        runs=10 if options.quick else options.runs, sizes=(10,) if options.quick else (10, 50, 100)
    )
    bench.on_a_node()
    asyncio.run(bench.alone())
    report("agent", list(bench.figures.values()))


class AgentBench:
    def __init__(self, runs: int, sizes: Sequence[int]) -> None:
        self.runs = runs
        self.sizes = sizes
        self.figures = {
            key: Figure(name, unit, goal, reference)
            for key, name, unit, goal, reference in (
                ("single", "L1 create -> Running seen by a watch", "s", "p50 <= 0.4 (G15)", ""),
                ("p99", "L1 the slowest of a hundred (p99)", "s", "<= 1.5 (G15)", ""),
                ("burst10", "L2 burst of 10, all Running", "s", "", ""),
                ("burst50", "L2 burst of 50, all Running", "s", "", ""),
                ("burst100", "L2 burst of 100, all Running", "s", "<= 6.7 (G16)", "k3s 22"),
                ("rate", "L2 Pods a second in the largest burst", "/s", ">= 15 (G16)", "k3s 4.5"),
                ("gone", "L3 removal of the largest burst, until no namespace", "s", "", ""),
                ("pss", "agent idle, PSS", "MB", "<= 60 (G13)", "k3s 275"),
                ("pss_after", "agent with the largest burst, PSS", "MB", "", ""),
                ("idle", "agent with 10 Pods, share of a core", "%", "<= 0.5 (G13)", "k3s 3"),
                ("alone", "L5 100 Pods, runtime of 5 ms a call", "s", "", ""),
                ("alone_cpu", "L5 CPU a Pod, API included", "ms", "", ""),
            )
        }

    def on_a_node(self) -> None:
        name = f"a{os.getpid() % 10000}"
        with DevCluster(name, nodes=1) as cluster:
            asyncio.run(self._measure(cluster))

    async def _measure(self, cluster: DevCluster) -> None:
        agent = pid_of(cluster, NODE)
        connection = Connection.from_kubeconfig(cluster.kubeconfig)
        async with HttpClient(connection) as client:
            await asyncio.sleep(5)
            self.figures["pss"].values.append(pss_mb(agent))
            singles = [await self._single(client, number) for number in range(self.runs)]
            singles.sort()
            self.figures["single"].values.extend(singles)
            self.figures["p99"].values.append(singles[-max(len(singles) // 100, 1)])
            await until_gone(client, cluster)
            for size in self.sizes:
                await self._burst(client, cluster, agent, size)

    async def _single(self, client: Client, number: int) -> float:
        name = f"one-{number}"
        begun = time.monotonic()
        await create(client, name)
        await running(client, {name}, f"metadata.name={name}")
        took = time.monotonic() - begun
        await client.delete(kinds.PODS, name, "default", grace_seconds=0)
        return took

    async def _burst(self, client: Client, cluster: DevCluster, agent: int, size: int) -> None:
        names = {f"b{size}-{number}" for number in range(size)}
        with stopwatch() as watch:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(create(client, name))
            await running(client, names)
        self.figures[f"burst{size}"].add(watch)
        if size == 10:
            await asyncio.sleep(3)
            before = cpu_seconds(agent)
            await asyncio.sleep(20)
            self.figures["idle"].values.append((cpu_seconds(agent) - before) * 5)
        if size == self.sizes[-1]:
            self.figures["rate"].values.append(size / watch.wall)
            self.figures["pss_after"].values.append(pss_mb(agent))
        with stopwatch() as removal:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(client.delete(kinds.PODS, name, "default", grace_seconds=1))
            await until_gone(client, cluster)
        if size == self.sizes[-1]:
            self.figures["gone"].add(removal)

    async def alone(self) -> None:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            async with agent_alone(Path(scratch)) as client:
                with stopwatch() as watch:
                    names = {f"p{number}" for number in range(100)}
                    for name in names:
                        await create(client, name, nodeName=NODE)
                    await running(client, names)
        self.figures["alone"].add(Stopwatch(watch.wall, watch.cpu))
        self.figures["alone_cpu"].values.append((time.process_time() - begun) * 10)


async def create(client: Client, name: str, **spec: Any) -> None:
    made = pod(name, *SLEEP)
    made["metadata"]["namespace"] = "default"
    made["spec"] |= {"automountServiceAccountToken": False, **spec}
    await client.create(kinds.PODS, made)


async def running(client: Client, names: set[str], fields: str = "") -> None:
    """Wait until a watch shows all of *names* as Running."""
    seen: set[str] = set()
    listing = await client.list(kinds.PODS, "default", fields=fields)
    for raw in listing.items:
        seen |= _running(raw)
    watch = client.watch(kinds.PODS, "default", since=listing.revision, fields=fields)
    if not names <= seen:
        async for event in watch:
            if event.type != "BOOKMARK":
                seen |= _running(event.object)
            if names <= seen:
                break
    await watch.aclose()


def _running(raw: Any) -> set[str]:
    phase = (raw.get("status") or {}).get("phase")
    return {raw["metadata"]["name"]} if phase == "Running" else set()


async def until_gone(client: Client, cluster: DevCluster) -> None:
    """Wait until no Pod is left, and no network namespace of one."""
    spaces = cluster.run_dir / NODE / "netns"
    deadline = time.monotonic() + 120
    while (await client.list(kinds.PODS, "default")).items or any(spaces.iterdir()):
        if time.monotonic() > deadline:
            sys.exit("gave up waiting: the figures would mean nothing")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def agent_alone(base: Path) -> AsyncIterator[Client]:
    """An agent over a runtime that only waits, with the API in the same process."""
    registry = StoreRegistry(MemoryStore(), Settings(root_ca="none"))
    await registry.start()
    client = LocalClient(registry)
    await client.create(kinds.NODES, {"metadata": {"name": NODE}})
    config = AgentConfig(
        node_name=NODE,
        node_ip="192.0.2.7",
        server="",
        data_dir=base / "data",
        run_dir=base / "run",
        ca=base,
        certificate=base,
        key=base,
    )
    config.data_dir.mkdir()
    neighbours = Cache(client, NEIGHBOURS)
    pods = Pods(config, client, FakeRuntime({IMAGE: Behaviour()}, takes=CALL), neighbours)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(neighbours.run()), group.create_task(pods.run())]
        yield client
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    main()
