"""Clients that vanish in the middle leave nothing behind: no stream, no watch, no error logged."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.apiserver.http.connection import Connection
from sampan.apiserver.interface import Call, Entry, Place
from tests.apiserver.http.support import SUCCESS, Live, until

PODS = "/api/v1/namespaces/default/pods"
Stream = aiohttp.ClientWebSocketResponse[bool]


@contextlib.asynccontextmanager
async def asking(live: Live, path: str, *headers: str) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request by hand, and break the connection off at the end."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", live.server.port, ssl=live.admin_tls, server_hostname="localhost"
    )
    head = "".join(f"{header}\r\n" for header in headers)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
    async with asyncio.timeout(5):
        yield reader
    writer.transport.abort()


def no_errors(caplog: pytest.LogCaptureFixture) -> bool:
    return not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


async def test_a_watcher_that_vanishes_in_a_burst(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(live, "/api/v1/configmaps?watch=1") as reader:
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: live.server.open_watches() == 1)

    async def make(number: int) -> None:
        meta = {"name": f"c{number}", "namespace": "default"}
        await live.make(kinds.CONFIGMAPS, {"metadata": meta, "data": {"a": "x" * 10_000}})

    await asyncio.gather(*map(make, range(100)))
    await until(lambda: live.server.open_watches() == 0)
    assert no_errors(caplog)


async def test_a_watcher_that_never_reads_holds_up_nobody(live: Live) -> None:
    async with asking(live, "/api/v1/configmaps?watch=1"):
        await until(lambda: live.server.open_watches() == 1)
        for number in range(60):
            meta = {"name": f"c{number}", "namespace": "default"}
            await live.make(kinds.CONFIGMAPS, {"metadata": meta, "data": {"a": "x" * 200_000}})
        listed = await live.request("GET", "/api/v1/namespaces/default/configmaps?limit=1")
        assert listed.status == 200


async def test_a_reader_of_logs_that_vanishes(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    left = asyncio.Event()

    async def logs(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        with contextlib.suppress(ConnectionError):
            while not stream.closed:
                await stream.send_bytes(b"line\n" * 1000)
                await asyncio.sleep(0)
        left.set()

    await live.pod_on("n1")
    async with live.agent("n1", logs=logs):
        async with asking(live, f"{PODS}/web/log?container=main&follow=1") as reader:
            await reader.readuntil(b"line\n")
        async with asyncio.timeout(5):
            await left.wait()
        await until(lambda: live.server.open_streams() == 0)
    assert no_errors(caplog)


async def test_an_exec_whose_client_vanishes_is_told_to_the_agent(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    left = asyncio.Event()

    async def waits(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        async for _ in stream:
            pass
        left.set()

    await live.pod_on("n1")
    websocket = (
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        "Sec-WebSocket-Protocol: v5.channel.k8s.io",
    )  # fmt: skip
    spdy = (
        "Connection: Upgrade", "Upgrade: SPDY/3.1",
        "X-Stream-Protocol-Version: v4.channel.k8s.io",
    )  # fmt: skip
    path = f"{PODS}/web/exec?container=main&command=a&stdin=1&stdout=1"
    async with live.agent("n1", exec=waits):
        for headers in (websocket, spdy):
            left.clear()
            async with asking(live, path, *headers) as reader:
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(5):
                await left.wait()
            await until(lambda: live.server.open_streams() == 0)
    assert no_errors(caplog)


async def test_an_agent_that_vanishes_ends_what_its_clients_do(live: Live) -> None:
    async def dies(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        await stream.send_bytes(b"last words\n")
        assert stream._response.connection
        assert stream._response.connection.transport
        stream._response.connection.transport.abort()

    await live.pod_on("n1")
    async with live.agent("n1", logs=dies), asyncio.timeout(5):
        answer = await live.request("GET", f"{PODS}/web/log?container=main&follow=1")
    assert answer.body == b"last words\n"


async def test_the_kernel_looks_after_silent_connections(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[socket.socket] = []
    made = Connection.connection_made

    def noted(self: Connection, transport: asyncio.Transport) -> None:
        made(self, transport)
        seen.append(transport.get_extra_info("socket"))

    monkeypatch.setattr(Connection, "connection_made", noted)
    async with asking(live, "/version") as reader:
        await reader.readuntil(b"\r\n\r\n")
        wire = seen[0]
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 40_000


async def test_a_write_is_finished_though_its_client_left(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    create = live.registry.create

    async def slow(place: Place, obj: Object, call: Call) -> Entry:
        begun.set()
        await go_on.wait()
        entry = await create(place, obj, call)
        done.set()
        return entry

    monkeypatch.setattr(live.registry, "create", slow)
    body = {"metadata": {"name": "c"}}
    path = "/api/v1/namespaces/default/configmaps"
    asked = asyncio.ensure_future(live.request("POST", path, body))
    async with asyncio.timeout(5):
        await begun.wait()
        asked.cancel()
        await asyncio.wait([asked])
        go_on.set()
        await done.wait()
    assert (await live.request("GET", f"{path}/c")).status == 200
