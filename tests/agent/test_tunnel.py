"""The agent's side of the tunnel, against a server that only knows WebSockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from sampan.agent.streams.stream import Params, Stream
from sampan.agent.tunnel import Tunnel
from sampan.api.errors import InternalError, NotFound
from sampan.client.http import Connection, HttpClient


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Takes control sockets and streams as they come."""

    def __init__(self) -> None:
        self.controls: asyncio.Queue[web.WebSocketResponse] = asyncio.Queue()
        self.streams: asyncio.Queue[tuple[str, web.WebSocketResponse]] = asyncio.Queue()
        self.refuses = False

    async def control(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            raise web.HTTPServiceUnavailable
        return await self._take(request, self.controls.put_nowait)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        return await self._take(request, lambda ws: self.streams.put_nowait((name, ws)))

    @staticmethod
    async def _take(request: web.Request, announce: Any) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        announce(socket)
        while not socket.closed:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0.01)
        return socket

    async def connected(self) -> web.WebSocketResponse:
        async with asyncio.timeout(10):
            return await self.controls.get()

    async def ask(
        self, control: web.WebSocketResponse, stream: str, verb: str, **params: Any
    ) -> web.WebSocketResponse:
        await control.send_str(json.dumps({"open": stream, "verb": verb, "params": params}))
        async with asyncio.timeout(10):
            name, socket = await self.streams.get()
        assert name == stream
        return socket


async def echo(params: Params, stream: Stream) -> None:
    await stream.accept()
    await stream.send(f"asked {params['word']}")
    async for frame in stream.frames():
        await stream.send(frame)


async def refuse(_params: Params, _stream: Stream) -> None:
    raise NotFound('pod "web" not found')


async def refuse_within_a_group(_params: Params, _stream: Stream) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(refuse(_params, _stream))


async def break_down(_params: Params, _stream: Stream) -> None:
    raise ZeroDivisionError


async def fail_late(_params: Params, stream: Stream) -> None:
    await stream.accept()
    raise InternalError("too late")


VERBS = {
    "echo": echo,
    "refuse": refuse,
    "refuse in a group": refuse_within_a_group,
    "break down": break_down,
    "fail late": fail_late,
}


@asynccontextmanager
async def tunnel() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/sampan/v1/tunnel", server.control)
    app.router.add_get("/sampan/v1/streams/{id}", server.stream)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with HttpClient(Connection(url)) as client, asyncio.TaskGroup() as group:
            running = group.create_task(Tunnel(client, VERBS).run())
            yield server
            running.cancel()
    finally:
        await runner.cleanup()


async def status_of(socket: web.WebSocketResponse) -> dict[str, Any]:
    message = await asyncio.wait_for(socket.receive(), 10)
    assert message.type is WSMsgType.TEXT
    return dict(json.loads(message.data))


async def test_what_the_server_asks_is_done_on_a_socket_of_its_own() -> None:
    async with tunnel() as server:
        stream = await server.ask(await server.connected(), "s1", "echo", word="this")
        assert (await status_of(stream))["status"] == "Success"
        assert await stream.receive_str() == "asked this"
        await stream.send_bytes(b"\x00" * 100_000)
        assert await stream.receive_bytes() == b"\x00" * 100_000
        await stream.close()


async def test_streams_do_not_wait_for_each_other() -> None:
    async with tunnel() as server:
        control = await server.connected()
        streams = [await server.ask(control, f"s{n}", "echo", word=str(n)) for n in range(5)]
        for n, stream in reversed(list(enumerate(streams))):
            await status_of(stream)
            assert await stream.receive_str() == f"asked {n}"
            await stream.close()


@pytest.mark.parametrize(
    ("verb", "code", "said"),
    [
        ("refuse", 404, 'pod "web" not found'),
        ("refuse in a group", 404, 'pod "web" not found'),
        ("break down", 500, "ZeroDivisionError"),
        ("dance", 400, "does not know 'dance'"),
    ],
)
async def test_a_refusal_is_the_first_frame(verb: str, code: int, said: str) -> None:
    async with tunnel() as server:
        status = await status_of(await server.ask(await server.connected(), "s1", verb))
    assert status["status"] == "Failure"
    assert status["code"] == code
    assert said in status["message"]


async def test_a_failure_after_the_grant_breaks_the_stream_off() -> None:
    async with tunnel() as server:
        stream = await server.ask(await server.connected(), "s1", "fail late")
        assert (await status_of(stream))["status"] == "Success"
        assert (await stream.receive()).type in {WSMsgType.CLOSE, WSMsgType.CLOSED}


async def test_a_broken_control_socket_is_dialled_again_and_streams_go_on() -> None:
    async with tunnel() as server:
        control = await server.connected()
        stream = await server.ask(control, "s1", "echo", word="first")
        await status_of(stream)
        await control.close()
        again = await server.connected()
        await stream.send_str("still here")
        assert [await stream.receive_str() for _ in range(2)] == ["asked first", "still here"]
        await stream.close()
        assert (await status_of(await server.ask(again, "s2", "refuse")))["code"] == 404


async def test_a_server_that_refuses_is_asked_again() -> None:
    async with tunnel() as server:
        control = await server.connected()
        server.refuses = True
        await control.close()
        await asyncio.sleep(0.3)
        server.refuses = False
        await server.connected()


async def test_what_is_no_request_does_not_end_the_tunnel() -> None:
    async with tunnel() as server:
        control = await server.connected()
        await control.send_str("nonsense")
        await control.send_str('{"open": 5}')
        assert (await status_of(await server.ask(control, "s1", "refuse")))["code"] == 404
