"""The server's side of the tunnel with sockets of paper, in virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from sampan.api.errors import (
    ApiError,
    BadRequest,
    InternalError,
    NotFound,
    ServiceUnavailable,
    Timeout,
)
from sampan.apiserver.tunnel import Frame, Tunnels
from sampan.testing.clock import VirtualTimeLoop

GRANTED = '{"kind":"Status","status":"Success"}'


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Paper:
    """A socket whose other side is the test."""

    def __init__(self, *frames: Frame) -> None:
        self.sent: list[Any] = []
        self.closed = False
        self._inbox: asyncio.Queue[Frame | None] = asyncio.Queue()
        for frame in frames:
            self._inbox.put_nowait(frame)

    async def send(self, frame: Frame) -> None:
        if self.closed:
            raise ConnectionResetError
        self.sent.append(orjson.loads(frame))

    async def receive(self) -> Frame | None:
        return await self._inbox.get()

    async def close(self) -> None:
        self.closed = True
        self._inbox.put_nowait(None)


async def connected(tunnels: Tunnels, group: asyncio.TaskGroup, node: str = "n1") -> Paper:
    control = Paper()
    group.create_task(tunnels.control(node, control))
    await asyncio.sleep(0)
    return control


async def ask(tunnels: Tunnels) -> Frame | None:
    async with tunnels.stream("n1", "logs", {"pod": "p"}) as socket:
        return await socket.receive()


async def refused(tunnels: Tunnels) -> ApiError:
    """Ask in vain, and return why."""
    with pytest.raises(ApiError) as caught:
        await ask(tunnels)
    return caught.value


async def test_a_stream_is_what_the_node_dials_back() -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        control = await connected(tunnels, group)
        asking = group.create_task(ask(tunnels))
        await asyncio.sleep(0)
        [opening] = control.sent
        assert (opening["verb"], opening["params"]) == ("logs", {"pod": "p"})
        dialled = Paper(GRANTED, b"data")
        await tunnels.dialled("n1", opening["open"], dialled)
        assert await asking == b"data"
        assert dialled.closed
        assert len(tunnels) == 0
        await control.close()


async def test_a_node_that_does_not_dial_back_in_10_s_is_a_timeout() -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        control = await connected(tunnels, group)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Timeout, match="node n1 did not answer within 10 s"):
            await ask(tunnels)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(10)
        late = control.sent[0]["open"]
        with pytest.raises(NotFound):
            await tunnels.dialled("n1", late, Paper())
        await control.close()


async def test_without_a_line_the_node_is_unavailable_at_once() -> None:
    with pytest.raises(ServiceUnavailable, match="node n1 is not connected"):
        await ask(Tunnels())


async def test_a_line_that_breaks_fails_what_waits_on_it() -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        control = await connected(tunnels, group)
        asking = group.create_task(refused(tunnels))
        await asyncio.sleep(0)
        await control.close()
        assert isinstance(await asking, ServiceUnavailable)
        assert tunnels.nodes() == []


async def test_a_newer_line_takes_the_olders_place() -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        older = await connected(tunnels, group)
        newer = await connected(tunnels, group)
        await asyncio.sleep(0)
        assert older.closed
        assert tunnels.nodes() == ["n1"]
        asking = group.create_task(ask(tunnels))
        await asyncio.sleep(0)
        await tunnels.dialled("n1", newer.sent[0]["open"], Paper(GRANTED, b"x"))
        assert await asking == b"x"
        await newer.close()


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (['{"kind":"Status","status":"Failure","code":400,"message":"no"}'], BadRequest),
        (["nonsense"], InternalError),
        (["[]"], InternalError),
        ([b"\xff"], InternalError),
    ],
)
async def test_what_the_first_frame_says_is_what_the_client_gets(
    frames: list[Frame], error: type[Exception]
) -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        control = await connected(tunnels, group)
        asking = group.create_task(refused(tunnels))
        await asyncio.sleep(0)
        await tunnels.dialled("n1", control.sent[0]["open"], Paper(*frames))
        assert isinstance(await asking, error)
        await control.close()


async def test_another_node_cannot_answer() -> None:
    tunnels = Tunnels()
    async with asyncio.TaskGroup() as group:
        control = await connected(tunnels, group)
        asking = group.create_task(ask(tunnels))
        await asyncio.sleep(0)
        stream_id = control.sent[0]["open"]
        assert tunnels.expects("n1", stream_id)
        assert not tunnels.expects("n2", stream_id)
        with pytest.raises(NotFound):
            await tunnels.dialled("n2", stream_id, Paper(GRANTED))
        await tunnels.dialled("n1", stream_id, Paper(GRANTED, b"right"))
        assert await asking == b"right"
        await control.close()
