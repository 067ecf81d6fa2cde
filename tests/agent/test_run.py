"""Noticing the end of a process that may be somebody else's child."""

import asyncio
import os
import subprocess

import pytest

from sampan.agent.run import _ended


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_the_end_of_a_child_is_noticed_at_once_and_it_is_reaped() -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "0.2"], {})
    async with asyncio.timeout(5):
        assert await _ended(child, within=60)
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)  # noqa: ASYNC222 - there is none to wait for


async def test_a_process_that_lives_on_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "100"]) as child:  # noqa: ASYNC220 - a moment
        assert not await _ended(child.pid, within=0.05)
        assert child.poll() is None
        child.kill()


async def test_a_process_that_is_gone_already_has_ended() -> None:
    with subprocess.Popen(["true"]) as child:  # noqa: ASYNC220 - a moment
        child.wait()
    assert await _ended(child.pid, within=60)
