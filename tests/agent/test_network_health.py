"""Load balancers learn which nodes have endpoints of their own."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.agent import network_health
from sampan.agent.network_health import HealthPorts
from sampan.api import kinds
from sampan.api.objects import EndpointSlice, Object, Service
from sampan.client.cache import Cache, Interest
from tests.controllers.memory_api import MemoryApi

HERE = "127.0.0.1"


def service(port: int, policy: str = "Local") -> Object:
    spec = {
        "type": "LoadBalancer",
        "externalTrafficPolicy": policy,
        "healthCheckNodePort": port,
        "ports": [{"port": 80}],
    }
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def slice_on(node: str) -> Object:
    labels = {"kubernetes.io/service-name": "web"}
    endpoint = {"addresses": ["10.42.1.5"], "nodeName": node, "conditions": {"ready": True}}
    meta = {"name": f"web-{node}", "namespace": "default", "labels": labels}
    return {"metadata": meta, "endpoints": [endpoint], "ports": []}


def of_service(piece: EndpointSlice) -> list[str]:
    return [f"{piece.metadata.namespace}/{piece.service}"]


@asynccontextmanager
async def running(api: MemoryApi) -> AsyncIterator[HealthPorts]:
    interests = [Interest(Service), Interest(EndpointSlice, indexes={"service": of_service})]
    cache = Cache(api, interests)
    async with asyncio.TaskGroup() as group:
        ports = HealthPorts(cache, "n1", HERE)
        tasks = [group.create_task(cache.run()), group.create_task(ports.run())]
        try:
            yield ports
        finally:
            for task in tasks:
                task.cancel()


async def asked(port: int) -> tuple[int, dict[str, Any]] | None:
    """The status and what was said; None if nobody listens."""
    try:
        reader, writer = await asyncio.open_connection(HERE, port)
    except OSError:
        return None
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: n1\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(body)


async def becomes(port: int, status: int) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            answer = await asked(port)
            if answer and answer[0] == status:
                return answer[1]
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


async def test_a_node_is_healthy_while_an_endpoint_is_on_it() -> None:
    api, port = MemoryApi(), free_port()
    await api.create(kinds.SERVICES, service(port))
    await api.create(kinds.ENDPOINT_SLICES, slice_on("n2"))
    async with running(api):
        said = await becomes(port, 503)
        assert said == {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 0}
        await api.create(kinds.ENDPOINT_SLICES, slice_on("n1"))
        assert (await becomes(port, 200))["localEndpoints"] == 1


async def test_the_port_closes_with_the_policy() -> None:
    api, port = MemoryApi(), free_port()
    await api.create(kinds.SERVICES, service(port))
    async with running(api) as ports:
        await becomes(port, 503)
        patch = {"spec": {"externalTrafficPolicy": "Cluster"}}
        await api.patch(kinds.SERVICES, "web", patch, "default")
        async with asyncio.timeout(5):
            while ports.listening:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        assert await asked(port) is None


async def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_health, "RETRY", 0.02)
    api = MemoryApi()
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        await api.create(kinds.SERVICES, service(port))
        async with running(api):
            await asyncio.sleep(0.1)
            taken.close()
            await becomes(port, 503)
