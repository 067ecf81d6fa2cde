"""attach against a real containerd."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.streams.attach import serve_attach
from tests.agent.client_stream import ClientStream
from tests.agent.real_node import RunningPod, needs_node, node, running_pod

__all__ = ["node"]
pytestmark = needs_node
CLOSE_STDIN = bytes((255, 0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def attached(pod: RunningPod, **params: Any) -> AsyncIterator[ClientStream]:
    stream = ClientStream()
    params = pod.params(stdout=True, stderr=True, **params)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(serve_attach(pod.containerd, params, stream))
        await stream.accepted.wait()
        yield stream


async def test_stdin_reaches_the_container_and_its_end_too(node: AgentConfig) -> None:
    async with (
        running_pod(node, "sh", "-c", "cat; echo done >&2", stdin=True, stdin_once=True) as pod,
        attached(pod, stdin=True) as stream,
    ):
        stream.send_frame(b"\0hello\n")
        await stream.read_until(b"hello\n", channel=1)
        stream.send_frame(CLOSE_STDIN)
        seen, status = await stream.finish()
    assert seen[2] == b"done\n"
    assert status["status"] == "Success"


async def test_a_terminal_is_resized(node: AgentConfig) -> None:
    async with (
        running_pod(node, "sh", stdin=True, tty=True) as pod,
        attached(pod, stdin=True, tty=True) as stream,
    ):
        stream.send_frame(b"\4" + json.dumps({"Width": 99, "Height": 22}).encode())
        stream.send_frame(b"\0stty size\n")
        await stream.read_until(b"22 99", channel=1)
        stream.send_frame(b"\0exit\n")
        await stream.finish()


async def test_a_client_that_leaves_does_not_disturb_the_container(node: AgentConfig) -> None:
    async with running_pod(node, "sh", "-c", "while :; do echo tick; sleep 0.05; done") as pod:
        for _ in range(2):
            async with attached(pod) as stream:
                await stream.read_until(b"tick\n", channel=1)
                stream.leave()
