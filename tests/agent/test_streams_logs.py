"""logs of real containers, to their very end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cri_api.v1 import api_pb2 as cri

from sampan.agent.config import AgentConfig
from sampan.agent.streams.logs import serve_logs
from sampan.api.errors import BadRequest
from sampan.api.objects import Object
from tests.agent.client_stream import ClientStream
from tests.agent.real_node import RunningPod, needs_node, node, running_pod

__all__ = ["node"]
pytestmark = needs_node


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pod_object(pod: RunningPod, **last: Any) -> Object:
    status = {
        "name": "main",
        "containerID": f"containerd://{pod.container}",
        "state": {"running": {}},
        "lastState": last,
    }
    return {
        "metadata": {"name": pod.name},
        "spec": {"nodeName": "node-t"},
        "status": {"containerStatuses": [status]},
    }


@asynccontextmanager
async def log_of(
    pod: RunningPod, last: Object | None = None, **params: Any
) -> AsyncIterator[ClientStream]:
    async def find(namespace: str, name: str) -> Object:
        return pod_object(pod, **(last or {}))

    stream = ClientStream()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(serve_logs(pod.containerd, find, pod.params(**params), stream))
        await stream.accepted.wait()
        yield stream


def text(stream: ClientStream) -> str:
    return b"".join(f for f in stream.sent() if isinstance(f, bytes)).decode()


async def ended(pod: RunningPod) -> None:
    """Wait until CRI says so, for by then the log is written."""
    request = cri.ContainerStatusRequest(container_id=pod.container)
    async with asyncio.timeout(15):
        while True:
            answer = await pod.containerd.cri.ContainerStatus(request)
            if answer.status.state == cri.CONTAINER_EXITED:
                return
            await asyncio.sleep(0.02)


async def test_following_ends_with_the_container_and_misses_nothing(node: AgentConfig) -> None:
    work = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    async with running_pod(node, "sh", "-c", f"{work}; sleep 0.3; {work}") as pod:
        async with log_of(pod, follow=True) as stream:
            pass
        assert text(stream) == "".join(f"line {i}\n" for i in range(2000)) * 2


async def test_a_line_is_seen_at_once_when_following(node: AgentConfig) -> None:
    command = "while :; do cat /proc/uptime; sleep 0.2; done"
    async with running_pod(node, "sh", "-c", command) as pod:
        async with log_of(pod, follow=True, tailLines=0) as stream:
            line = await stream.read_until(b"\n")
            late = time.clock_gettime(time.CLOCK_BOOTTIME) - float(line.split()[0])
            stream.leave()
        assert late < 0.15, "it came with the next line or a timer, not by itself"


async def test_tail_timestamps_and_limit_work_together(node: AgentConfig) -> None:
    async with running_pod(node, "sh", "-c", "echo one; echo two; echo three") as pod:
        await ended(pod)
        async with log_of(pod, follow=True, tailLines=2, timestamps=True) as stream:
            pass
        lines = text(stream).splitlines()
        assert [line.partition(" ")[2] for line in lines] == ["two", "three"]
        async with log_of(pod, follow=True, limitBytes=5) as stream:
            pass
        assert text(stream) == "one\nt"


async def test_the_log_of_the_run_before_is_kept(node: AgentConfig) -> None:
    async with running_pod(node, "echo", "first") as pod:
        await ended(pod)
        first = pod.container
        await pod.start_container("echo", "second", attempt=1)
        await ended(pod)
        last = {"terminated": {"containerID": f"containerd://{first}"}}
        async with log_of(pod, last, previous=True) as stream:
            pass
        assert text(stream) == "first\n"


async def test_a_client_that_leaves_ends_the_following(node: AgentConfig) -> None:
    async with running_pod(node, "sleep", "1000") as pod, log_of(pod, follow=True) as stream:
        stream.leave()


async def test_the_log_of_a_removed_container_is_gone_in_words(node: AgentConfig) -> None:
    async with running_pod(node, "true") as pod:
        pod.container = "0" * 64
        with pytest.raises(ExceptionGroup) as failed:
            async with log_of(pod):
                pass
        assert failed.group_contains(BadRequest, match="is gone")
