"""Pods a second from creation to binding, over HTTPS and SQLite, with everything durable.

A server process holds the API, its store and the scheduler, and no controllers, as kube-scheduler's
own benchmark has it; this process creates the objects and watches Pods get their nodes.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from measure import cpu_seconds

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import pki as keys
from sampan.apiserver.http.server import ApiServer, ApiServerSettings
from sampan.apiserver.local import LocalClient
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.assembly import VOLATILE
from sampan.client.http import Connection, HttpClient
from sampan.scheduler.loop import Scheduler
from sampan.store.sqlite import SqliteStore

WRITERS = 32
PATIENCE = 600.0


# ---- the server


async def serve(directory: Path, port: int) -> None:
    pki = keys.load(directory, addresses=["127.0.0.1"])
    store = SqliteStore(directory / "state.db", volatile=VOLATILE)
    registry = StoreRegistry(store, Settings(root_ca=pki.ca_pem.decode()))
    await registry.start()
    settings = ApiServerSettings(data_dir=directory, listen=("127.0.0.1",), port=port)
    keys.write_kubeconfig(directory / "kubeconfig", f"https://127.0.0.1:{port}", pki)
    scheduler = Scheduler(LocalClient(registry))
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: task.cancel() if task else None
    )
    with contextlib.suppress(asyncio.CancelledError):
        async with ApiServer(registry, pki, settings).serving():
            (directory / "up").touch()
            await scheduler.run()
    if os.environ.get("RULE_TIMES"):
        for name, spent in sorted(scheduler.rule_times().items()):
            print(f"{name}: {spent.calls} calls, {spent.seconds:.3f} s", file=sys.stderr)
    await store.close()


@dataclass
class Server:
    client: HttpClient
    pid: int
    bound: set[str] = field(default_factory=set)
    """Names of Pods that have a node."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    async def create(self, kind: Kind, objects: Iterable[Object], writers: int = WRITERS) -> None:
        left = iter(objects)

        async def write() -> None:
            for obj in left:
                meta = {k: v for k, v in obj["metadata"].items() if k != "uid"}
                await self.client.create(kind, {**obj, "metadata": meta})

        async with asyncio.TaskGroup() as group:
            for _ in range(writers):
                group.create_task(write())

    async def until_bound(self, pods: Iterable[Object]) -> None:
        names = {pod["metadata"]["name"] for pod in pods}
        async with asyncio.timeout(PATIENCE):
            while not names <= self.bound:
                self.changed.clear()
                await self.changed.wait()

    async def follow(self, revision: str) -> None:
        async with aclosing(self.client.watch(kinds.PODS, since=revision)) as events:
            async for event in events:
                pod = event.object
                if event.type == "DELETED":
                    continue
                if pod.get("spec", {}).get("nodeName"):
                    self.bound.add(pod["metadata"]["name"])
                    self.changed.set()


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    """Run a server of our own on a free port of loopback while the block lasts."""
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-scheduler-") as where:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        profile = os.environ.get("PROFILE")
        wrapped = ["-m", "cProfile", "-o", profile] if profile else []
        command = [
            sys.executable,
            *wrapped,
            __file__,
            "--serve",
            where,
            str(port),
        ]
        process = subprocess.Popen(command)  # noqa: ASYNC220 - once, before anything is measured
        try:
            async with asyncio.timeout(60):
                while not (Path(where) / "up").exists():  # noqa: ASYNC110 - no other sign
                    await asyncio.sleep(0.05)
            connection = Connection.from_kubeconfig(Path(where) / "kubeconfig")
            async with HttpClient(connection) as client:
                server = Server(client, process.pid)
                revision = (await client.list(kinds.PODS)).revision
                follower = asyncio.ensure_future(server.follow(revision))
                try:
                    yield server
                finally:
                    follower.cancel()
                    await asyncio.gather(follower, return_exceptions=True)
        finally:
            process.terminate()
            process.wait(30)


@dataclass(frozen=True)
class Run:
    rate: float
    cpu: float
    """The server's CPU-seconds."""


def measure(
    *,
    nodes: Sequence[Object],
    before: Sequence[Object],
    pods: Sequence[Object],
    namespaces: Sequence[str] = (),
    churn: Iterable[Object] = (),
) -> Run:
    """Measure from the first creation to the last binding; *churn* goes on beside it."""
    return uvloop.run(_measure(nodes, before, pods, namespaces, churn))


async def _measure(
    nodes: Sequence[Object],
    before: Sequence[Object],
    pods: Sequence[Object],
    namespaces: Sequence[str],
    churn: Iterable[Object],
) -> Run:
    async with running() as server:
        for name in namespaces:
            await server.client.create(kinds.NAMESPACES, {"metadata": {"name": name}})
        await server.create(kinds.NODES, nodes)
        await server.create(kinds.PODS, before)
        await server.until_bound(before)
        beside = asyncio.ensure_future(_churn(server, churn))
        cpu, begun = server.cpu(), time.perf_counter()
        await server.create(kinds.PODS, pods)
        await server.until_bound(pods)
        wall = time.perf_counter() - begun
        cpu = server.cpu() - cpu
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
        return Run(len(pods) / wall, cpu)


async def _churn(server: Server, pods: Iterable[Object]) -> None:
    for pod in pods:
        await server.client.create(kinds.PODS, pod)
        await asyncio.sleep(0.2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--serve", nargs=2, required=True, metavar=("DIR", "PORT"))
    directory, port = options.parse_args().serve
    uvloop.run(serve(Path(directory), int(port)))


if __name__ == "__main__":
    main()
