"""`kubectl port-forward`: SPDY inside a WebSocket, a pair of streams for each TCP connection.

The client opens an error stream and a data stream with the same request ID and the port; each data
stream becomes one `portforward` stream of the tunnel, and what goes wrong is told on the other.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from sampan.api.errors import ApiError, BadRequest
from sampan.apiserver.http import ports, sockets, spdy, upgrade
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.paths import Target
from sampan.apiserver.http.streams import Streams
from sampan.apiserver.tunnel import Socket, Tunnels, unreachable

SPDY_PROTOCOL: Final = "portforward.k8s.io"
PROTOCOL: Final = f"SPDY/3.1+{SPDY_PROTOCOL}"
_WAITING_FRAMES: Final = 64
_MOST_STREAMS: Final = 1000
_MOST_PORT: Final = 65535


class PortForward:
    def __init__(self, streams: Streams, tunnels: Tunnels) -> None:
        self._streams = streams
        self._tunnels = tunnels

    async def serve(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        pod, node = await self._streams.pod(target)
        over_websocket = sockets.wanted(exchange, (PROTOCOL, ports.PROTOCOL))
        protocol = upgrade.chosen(exchange, (SPDY_PROTOCOL,))
        if not over_websocket and not protocol:
            raise BadRequest("Upgrade request required: to a WebSocket, or to SPDY/3.1")
        if node not in self._tunnels.nodes():
            raise unreachable(node)
        if not over_websocket:
            upgraded = await upgrade.accept(exchange, protocol)
            await _Session(self._tunnels, node, pod["metadata"], upgraded).run()
            await upgraded.close()
            return upgraded.response
        offered = exchange.request.headers["Sec-WebSocket-Protocol"]
        wanted = () if PROTOCOL in offered else ports.ports_of(exchange.query)
        client = await sockets.accept(exchange, (PROTOCOL, ports.PROTOCOL))
        if client.protocol == PROTOCOL:
            await _Session(self._tunnels, node, pod["metadata"], client).run()
        else:
            await ports.PortChannels(self._tunnels, node, pod, wanted).run(client)
        await client.close()
        return client.response


log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Connection:
    """One forwarded TCP connection: what the client sent waits in *inbox*, None ends it."""

    error_stream: int
    data_stream: int
    port: int
    inbox: "asyncio.Queue[bytes | None]" = field(
        default_factory=lambda: asyncio.Queue(_WAITING_FRAMES)
    )
    task: "asyncio.Task[None] | None" = None


class _Session:
    def __init__(self, tunnels: Tunnels, node: str, pod: dict[str, Any], client: Socket) -> None:
        self._tunnels = tunnels
        self._node = node
        self._pod = pod
        self._client = client
        self._framing = spdy.Framing()
        self._errors: dict[str, int] = {}
        self._by_stream: dict[int, _Connection] = {}

    async def run(self) -> None:
        """Serve the client until it hangs up or talks nonsense."""
        async with asyncio.TaskGroup() as group:
            while (frame := await self._client.receive()) is not None:
                try:
                    events = self._framing.feed(frame if isinstance(frame, bytes) else b"")
                except spdy.ProtocolError:
                    break
                for event in events:
                    await self._handle(event, group)
            for connection in self._by_stream.values():
                if connection.task:
                    connection.task.cancel()

    async def _handle(self, event: spdy.Event, group: asyncio.TaskGroup) -> None:
        match event:
            case spdy.Opened():
                await self._open(event, group)
            case spdy.Data():
                await self._take(event)
            case spdy.Reset(stream):
                connection = self._by_stream.pop(stream, None)
                if connection and connection.task:
                    connection.task.cancel()
            case spdy.Ping(number):
                await self._client.send(self._framing.ping(number))

    async def _open(self, event: spdy.Opened, group: asyncio.TaskGroup) -> None:
        """Take an error stream, or the data stream that completes its pair."""
        request, port = event.headers.get("requestid", ""), _port(event.headers.get("port", ""))
        kind = event.headers.get("streamtype", "")
        crowded = len(self._by_stream) + len(self._errors) >= _MOST_STREAMS
        if kind == "error" and not crowded:
            self._errors[request] = event.stream
        elif kind == "data" and port and request in self._errors:
            connection = _Connection(self._errors.pop(request), event.stream, port)
            self._by_stream[event.stream] = connection
            connection.task = group.create_task(self._forward(connection))
        else:
            await self._client.send(self._framing.reset(event.stream, spdy.REFUSED))
            return
        await self._client.send(self._framing.reply(event.stream))

    async def _take(self, event: spdy.Data) -> None:
        """Hand data on, waiting while the Pod is slow: the client has one connection for all."""
        connection = self._by_stream.get(event.stream)
        if connection is None:
            return
        if event.data:
            await connection.inbox.put(event.data)
            await self._client.send(self._framing.received(event.stream, len(event.data)))
        if event.fin:
            await connection.inbox.put(None)

    async def _forward(self, connection: _Connection) -> None:
        params = {
            "namespace": self._pod["namespace"],
            "pod": self._pod["name"],
            "port": connection.port,
        }
        trouble = ""
        try:
            async with self._tunnels.stream(self._node, "portforward", params) as agent:
                await self._carry(connection, agent)
        except* ApiError as errors:
            trouble = (
                f"error forwarding port {connection.port} to pod {self._pod['name']}, "
                f"uid {self._pod['uid']}: {errors.exceptions[0]}"
            )
        except* ConnectionError:
            log.debug("a port-forward's client is gone")
        await self._finish(connection, trouble)

    async def _carry(self, connection: _Connection, agent: Socket) -> None:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send_inbox(connection, agent))
            while (frame := await agent.receive()) is not None:
                if not frame:
                    await self._client.send(
                        self._framing.data(connection.data_stream, b"", fin=True)
                    )
                else:
                    data = frame if isinstance(frame, bytes) else frame.encode()
                    await self._client.send(self._framing.data(connection.data_stream, data))
            sender.cancel()

    async def _finish(self, connection: _Connection, trouble: str) -> None:
        """Tell what went wrong, if anything, and end both streams."""
        self._by_stream.pop(connection.data_stream, None)
        last = self._framing.data(connection.error_stream, trouble.encode(), fin=True)
        end = self._framing.data(connection.data_stream, b"", fin=True)
        try:
            await self._client.send(last + end)
        except ConnectionError:
            return


async def _send_inbox(connection: _Connection, agent: Socket) -> None:
    try:
        while (data := await connection.inbox.get()) is not None:
            await agent.send(data)
        await agent.send(b"")
    except ConnectionError:
        return


def _port(text: str) -> int:
    """Read a port; 0 if that is none."""
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0  # noqa: PLR2004
    return port if port <= _MOST_PORT else 0
