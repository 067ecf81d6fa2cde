"""Controllers running over the in-memory API, and Pods that become ready as if agents ran."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sampan.api import kinds
from sampan.api.objects import Object, Pod, Resource
from sampan.api.time import micro_timestamp, timestamp
from sampan.client.cache import Cache
from sampan.client.events import EventRecorder
from sampan.client.interface import PatchType
from sampan.controllers.daemon_nodes import target
from sampan.controllers.events import ControllerEvents
from sampan.controllers.loop import Loop
from sampan.controllers.plan import Controller, Failure, World
from sampan.controllers.roster import controllers, interests
from tests.controllers.memory_api import EPOCH, MemoryApi


@asynccontextmanager
async def running(
    api: MemoryApi,
    which: Sequence[Controller],
    *others: Coroutine[Any, Any, None],
    agents: bool = True,
) -> AsyncIterator[Cache]:
    """Run the controllers, *others* and (if wanted) Pods' agents while the block lasts."""
    cache = Cache(api, interests(which))
    recorder = EventRecorder(api, api.now)
    loop = Loop(api, cache, which, ControllerEvents(recorder), now=api.now)
    async with asyncio.TaskGroup() as group:
        works = [cache.run(), loop.run(), recorder.run(), *others]
        tasks = [group.create_task(work) for work in works]
        if agents:
            tasks.append(group.create_task(play_agents(api)))
        await cache.synced()
        yield cache
        for task in tasks:
            task.cancel()


async def play_agents(api: MemoryApi, *, every: float = 0.05) -> None:
    """Bind, start and stop Pods, forever."""
    while True:
        for pod in api.of(kinds.PODS):
            if pod["metadata"].get("deletionTimestamp"):
                api.gone(kinds.PODS, pod)
            elif not is_ready(pod):
                await start(api, pod)
        await asyncio.sleep(every)


async def start(api: MemoryApi, pod: Object, *, node: str = "", ready: bool = True) -> None:
    """Let a Pod run: where it says that it must, or on n1."""
    meta = pod["metadata"]
    node = node or target(Pod.of(pod)) or "n1"
    number = int(meta["uid"].removeprefix("uid-"))
    status = {
        "phase": "Running",
        "podIP": f"10.42.{number // 250}.{number % 250 + 1}",
        "conditions": [
            {
                "type": "Ready",
                "status": "True" if ready else "False",
                "lastTransitionTime": timestamp(api.now()),
            }
        ],
    }
    patch = {"spec": {"nodeName": node}, "status": status}
    await api.patch(kinds.PODS, meta["name"], patch, meta["namespace"])


async def add_node(api: MemoryApi, name: str, **more: Any) -> Object:
    """A node as its agent makes and reports it."""
    number = len(api.of(kinds.NODES)) + 1
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": timestamp(api.now())}
    node = {
        "metadata": {"name": name},
        "status": {
            "conditions": [ready],
            "addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}],
        },
        **more,
    }
    return await api.create(kinds.NODES, node)


async def beat(api: MemoryApi, alive: Collection[str]) -> None:
    """Renew the Leases of *alive* every second, forever, and report such nodes as ready."""
    while True:
        for name in sorted(alive):
            spec = {"holderIdentity": name, "renewTime": micro_timestamp(api.now())}
            if ("kube-node-lease", name) in api.objects[kinds.LEASES]:
                await api.patch(kinds.LEASES, name, {"spec": spec}, "kube-node-lease")
            else:
                meta = {"name": name, "namespace": "kube-node-lease"}
                await api.create(kinds.LEASES, {"metadata": meta, "spec": spec})
            node = api.objects[kinds.NODES].get(("", name))
            if node and not is_ready(node):
                await report_ready(api, name)
        await asyncio.sleep(1)


async def report_ready(api: MemoryApi, node: str, status: str = "True") -> None:
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": timestamp(api.now())}
    patch = {"status": {"conditions": [ready]}}
    await api.patch(kinds.NODES, node, patch, how=PatchType.STRATEGIC)


def pod(name: str, node: str = "", **meta: Any) -> Object:
    spec: Object = {"containers": [{"name": "c", "image": "v1"}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "namespace": "default", **meta}, "spec": spec}


def labelled(kind: str, name: str, **spec: Any) -> Object:
    """A workload whose Pods carry `app=NAME`."""
    labels = {"app": name}
    containers = [{"name": "c", "image": "v1", "ports": [{"name": "http", "containerPort": 8080}]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def replication_controller(name: str, replicas: int) -> Object:
    made = labelled("ReplicationController", name, replicas=replicas)
    return {**made, "apiVersion": "v1", "spec": {**made["spec"], "selector": {"app": name}}}


def service(name: str, **spec: Any) -> Object:
    ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": ports, "clusterIP": "10.43.0.9", **spec},
    }


def namespace(name: str) -> Object:
    spec = {"finalizers": ["kubernetes"]}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Active"}}


def world(
    *objects: Resource,
    now: datetime = EPOCH,
    clock: float = 0.0,
    heard: Mapping[str, float] | None = None,
    failure: Failure | None = None,
) -> World:
    """What a plan would see if there were nothing but *objects*."""
    cache = Cache(MemoryApi(), interests(controllers("CA")))
    for obj in objects:
        cache._tables[type(obj)].put(obj.metadata.key, obj)
    return World(cache, now, clock, heard or {}, failure)


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def until(holds: Callable[[], bool], *, within: float = 60.0) -> None:
    """Wait in virtual time until *holds*."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - polling costs nothing in virtual time
            await asyncio.sleep(0.01)
