"""portforward against a real containerd: the port is in the Pod's network, not in ours."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.streams.portforward import serve_portforward
from sampan.api.errors import BadRequest, InternalError
from tests.agent.client_stream import ClientStream
from tests.agent.real_node import RunningPod, needs_node, node, running_pod

__all__ = ["node"]
pytestmark = needs_node


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def params(pod: RunningPod, port: int) -> dict[str, object]:
    return {"namespace": "default", "pod": pod.name, "port": port}


@asynccontextmanager
async def forwarded(pod: RunningPod, port: int) -> AsyncIterator[ClientStream]:
    """Connect to *port*, trying again while nobody listens there yet."""
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        while True:
            stream = ClientStream()
            serving = serve_portforward(pod.containerd, params(pod, port), stream)
            task = group.create_task(until_refused(serving))
            accepted = group.create_task(stream.accepted.wait())
            await asyncio.wait([task, accepted], return_when=asyncio.FIRST_COMPLETED)
            if stream.accepted.is_set():
                break
            accepted.cancel()
            await asyncio.sleep(0.02)
        yield stream
        stream.leave()


async def until_refused(serving: Coroutine[Any, Any, None]) -> None:
    with suppress(InternalError):
        await serving


async def test_bytes_go_both_ways_and_each_side_can_close_alone(node: AgentConfig) -> None:
    echo = "nc -l -p 7777 -e sh -c 'cat; echo the end'"
    data = bytes(range(256)) * 1000
    async with running_pod(node, "sh", "-c", echo) as pod, forwarded(pod, 7777) as stream:
        stream.send_frame(data)
        stream.send_frame(b"")
        seen = b""
        while frame := await stream.receive():
            assert isinstance(frame, bytes)
            seen += frame
    assert seen == data + b"the end\n"


async def test_a_port_where_nobody_listens_is_refused(node: AgentConfig) -> None:
    async with running_pod(node, "sleep", "1000") as pod:
        stream = ClientStream()
        with pytest.raises(
            InternalError, match=r"failed to connect to port 7778 in pod .*Errno 111"
        ):
            await serve_portforward(pod.containerd, params(pod, 7778), stream)
        assert not stream.accepted.is_set()
        unknown = {"namespace": "default", "pod": "unknown", "port": 1}
        with pytest.raises(BadRequest, match="not running"):
            await serve_portforward(pod.containerd, unknown, stream)
