"""Sampan's own endpoints for nodes: the tunnel, its streams, archives of images, checks."""

import asyncio
from typing import Final

import orjson
from aiohttp import web

from sampan.api.errors import ApiError, BadRequest, Forbidden, MethodNotAllowed, NotFound
from sampan.api.objects import Object
from sampan.apiserver.authz import NODE_PREFIX, NODES
from sampan.apiserver.http import answers, sockets
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.images import Images
from sampan.apiserver.tunnel import Tunnels

_CONTROL_HEARTBEAT: Final = 5.0
_CHECKED_WITHIN: Final = 60.0


class Nodes:
    def __init__(self, tunnels: Tunnels, images: Images) -> None:
        self._tunnels = tunnels
        self._images = images

    async def serve(self, exchange: Exchange) -> web.StreamResponse:
        match exchange.request.method, exchange.parts[2:]:
            case "GET", ["tunnel"]:
                return await self._tunnel(exchange)
            case "GET", ["streams", stream_id]:
                return await self._stream(exchange, stream_id)
            case _, ["images", *archive_id] if len(archive_id) < 2:  # noqa: PLR2004
                return await self._images.serve(exchange, *archive_id)
            case "GET", ["check", "network"]:
                return await self._check(exchange)
            case _, ["tunnel"] | ["streams", _]:
                raise MethodNotAllowed("the server does not allow this method on this path")
        raise NotFound("the server could not find the requested resource")

    async def _tunnel(self, exchange: Exchange) -> web.StreamResponse:
        node = _node(exchange)
        socket = await sockets.accept(exchange, heartbeat=_CONTROL_HEARTBEAT)
        await self._tunnels.control(node, socket)
        await socket.close()
        return socket.response

    async def _check(self, exchange: Exchange) -> web.StreamResponse:
        """Have every connected node examine the network, all at the same time."""
        nodes = self._tunnels.nodes()
        verdicts = await asyncio.gather(*map(self._verdict, nodes))
        return await answers.send_object(
            exchange, {"nodes": dict(zip(nodes, verdicts, strict=True))}
        )

    async def _verdict(self, node: str) -> Object:
        try:
            async with (
                asyncio.timeout(_CHECKED_WITHIN),
                self._tunnels.stream(node, "check-network", {}) as agent,
            ):
                return dict(orjson.loads(await agent.receive() or b"{}"))
        except ApiError as error:
            return {"error": error.message}
        except (TimeoutError, ConnectionError):
            return {"error": f"not done within {_CHECKED_WITHIN:g} s"}

    async def _stream(self, exchange: Exchange, stream_id: str) -> web.StreamResponse:
        node = _node(exchange)
        if not self._tunnels.expects(node, stream_id):
            raise NotFound("nobody asked for this stream, or no longer waits for it")
        # No heartbeat: its answers would wait behind the data of a client that reads slowly.
        socket = await sockets.accept(exchange)
        await self._tunnels.dialled(node, stream_id, socket)
        return socket.response


def _node(exchange: Exchange) -> str:
    """Return the name of the node that asks, with a WebSocket; raise if it is none."""
    user = exchange.user
    if NODES not in user.groups or not user.name.startswith(NODE_PREFIX):
        raise Forbidden("forbidden: only a node with its certificate may open a tunnel")
    if not sockets.wanted(exchange, ()):
        raise BadRequest("the tunnel is a WebSocket: send an upgrade request")
    return user.name.removeprefix(NODE_PREFIX)
