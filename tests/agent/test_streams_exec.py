"""exec against a real containerd."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.streams.exec import serve_exec
from sampan.api.errors import BadRequest, InternalError
from tests.agent.client_stream import ClientStream
from tests.agent.real_node import RunningPod, needs_node, node, running_pod

__all__ = ["node"]
pytestmark = needs_node
SLEEP = ("sleep", "1000")
CLOSE_STDIN = bytes((255, 0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def exec_in(pod: RunningPod, *command: str, **params: Any) -> AsyncIterator[ClientStream]:
    stream = ClientStream()
    params = pod.params(command=list(command), stdout=True, stderr=True, **params)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(serve_exec(pod.containerd, pod.config.exec_dir, params, stream))
        yield stream
    assert list(pod.config.exec_dir.glob("*")) == [], "no FIFO is left"


async def test_output_errors_and_the_exit_code_come_apart(node: AgentConfig) -> None:
    async with (
        running_pod(node, *SLEEP) as pod,
        exec_in(pod, "sh", "-c", "echo out; echo err >&2; exit 7") as stream,
    ):
        seen, status = await stream.finish()
    assert seen == {1: b"out\n", 2: b"err\n"}
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_success_is_told_after_all_output(node: AgentConfig) -> None:
    async with (
        running_pod(node, *SLEEP) as pod,
        exec_in(pod, "dd", "if=/dev/zero", "bs=1024", "count=4096", "status=none") as stream,
    ):
        seen, status = await stream.finish()
    assert len(seen[1]) == 4 << 20
    assert status["status"] == "Success"


async def test_stdin_is_read_to_its_half_close(node: AgentConfig) -> None:
    data = bytes(range(256)) * 8192
    async with running_pod(node, *SLEEP) as pod, exec_in(pod, "md5sum", stdin=True) as stream:
        for start in range(0, len(data), 30000):
            stream.send_frame(b"\0" + data[start : start + 30000])
        stream.send_frame(CLOSE_STDIN)
        seen, status = await stream.finish()
    import hashlib

    assert seen[1].split()[0].decode() == hashlib.md5(data).hexdigest()  # noqa: S324 - what busybox has
    assert status["status"] == "Success"


async def test_a_terminal_has_the_size_that_the_client_says(node: AgentConfig) -> None:
    async with (
        running_pod(node, *SLEEP) as pod,
        exec_in(pod, "sh", stdin=True, tty=True) as stream,
    ):
        await stream.read_until(b"# ", channel=1)
        stream.send_frame(b"\4" + json.dumps({"Width": 101, "Height": 33}).encode())
        stream.send_frame(b"\0stty size; test -t 0 && echo is a tty; echo $TERM\n")
        assert b"33 101" in await stream.read_until(b"xterm\r\n", channel=1)
        stream.send_frame(b"\0exit 4\n")
        _, status = await stream.finish()
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]


async def test_a_terminal_gets_the_size_that_came_before_its_program(node: AgentConfig) -> None:
    """The runtimes of today set it just after the start: a program may look too early once."""
    look = "until [ \"$(stty size 2>/dev/null)\" = '33 101' ]; do :; done; stty size"
    async with (
        running_pod(node, *SLEEP) as pod,
        exec_in(pod, "sh", "-c", look, stdin=True, tty=True) as stream,
    ):
        stream.send_frame(b"\4" + json.dumps({"Width": 101, "Height": 33}).encode())
        seen, _ = await stream.finish()
    assert seen[1] == b"33 101\r\n"


async def test_a_process_whose_client_leaves_is_killed(node: AgentConfig) -> None:
    async with running_pod(node, *SLEEP) as pod:
        async with exec_in(pod, "sh", "-c", "echo here; exec sleep 12345", stdin=True) as stream:
            await stream.read_until(b"here", channel=1)
            stream.leave()
        async with exec_in(pod, "ps") as stream:
            seen, _ = await stream.finish()
    assert b"12345" not in seen[1]


async def test_a_child_that_keeps_the_output_open_does_not_hold_up_the_end(
    node: AgentConfig,
) -> None:
    async with running_pod(node, *SLEEP) as pod:
        begun = asyncio.get_running_loop().time()
        async with exec_in(pod, "sh", "-c", "sleep 60 & echo started") as stream:
            seen, status = await stream.finish()
        assert asyncio.get_running_loop().time() - begun < 10
    assert seen[1] == b"started\n"
    assert status["status"] == "Success"


async def test_a_missing_program_is_a_failure_in_words(node: AgentConfig) -> None:
    async with running_pod(node, *SLEEP) as pod, exec_in(pod, "/no/such/program") as stream:
        _, status = await stream.finish()
    assert status["status"] == "Failure"
    assert "no/such/program" in status["message"]


async def test_a_container_that_does_not_run_is_refused(node: AgentConfig) -> None:
    async with running_pod(node, *SLEEP) as pod:
        stream = ClientStream()
        params = pod.params(command=["true"]) | {"container": "other"}
        with pytest.raises(InternalError, match="container not found"):
            await serve_exec(pod.containerd, Path("/nowhere"), params, stream)
        with pytest.raises(BadRequest, match="command"):
            await serve_exec(pod.containerd, Path("/nowhere"), pod.params(command=[]), stream)
        assert not stream.accepted.is_set()
