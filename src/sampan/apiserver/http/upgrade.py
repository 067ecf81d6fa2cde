"""SPDY/3.1 as older clients speak it: the HTTP connection itself is taken over after a 101."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from aiohttp import web

from sampan.api.errors import BadRequest
from sampan.apiserver.http.connection import Connection
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.tunnel import Frame

_PROTOCOLS: Final = "X-Stream-Protocol-Version"
_WAITING_LIMIT: Final = 1 << 20


class Upgraded:
    """The bytes of a connection that is no longer HTTP; losing it cancels its request's task."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self.response = response
        self._request = request
        self._waiting = bytearray()
        self._arrived = asyncio.Event()
        cast("Connection", request.protocol).take_over(self._take)

    def _take(self, data: bytes) -> None:
        self._waiting += data
        self._arrived.set()
        transport = self._request.transport
        if len(self._waiting) > _WAITING_LIMIT and isinstance(transport, asyncio.ReadTransport):
            transport.pause_reading()

    async def receive(self) -> Frame | None:
        """Wait for bytes; None when the connection is closing."""
        await self._arrived.wait()
        self._arrived.clear()
        taken = bytes(self._waiting)
        self._waiting.clear()
        transport = self._request.transport
        if isinstance(transport, asyncio.ReadTransport) and not transport.is_closing():
            transport.resume_reading()
        return taken or None

    async def send(self, frame: Frame) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        transport.write(frame if isinstance(frame, bytes) else frame.encode())
        await self._request.writer.drain()

    async def close(self) -> None:
        self.response.force_close()


def chosen(exchange: Exchange, protocols: Sequence[str]) -> str:
    """Return the protocol to speak over SPDY, "" if the request does not ask for SPDY."""
    headers = exchange.request.headers
    if headers.get("Upgrade", "").lower() != "spdy/3.1":
        return ""
    offered = [
        protocol.strip()
        for header in headers.getall(_PROTOCOLS, ())
        for protocol in header.split(",")
    ]
    found = next((protocol for protocol in protocols if protocol in offered), "")
    if not found:
        raise BadRequest(f"unable to negotiate a protocol: offered {offered}, known {protocols}")
    return found


async def accept(exchange: Exchange, protocol: str) -> Upgraded:
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", _PROTOCOLS: protocol}
    response = web.StreamResponse(status=101, headers=headers)
    await response.prepare(exchange.request)
    return Upgraded(exchange.request, response)
