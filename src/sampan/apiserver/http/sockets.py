"""WebSockets as the rest of the server sees them: frames in, frames out, closed once."""

from collections.abc import Sequence
from typing import Final

from aiohttp import WSMsgType, web

from sampan.api.errors import BadRequest
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.tunnel import Frame

_CLOSED_WITHIN: Final = 2.0


class WebSocket:
    def __init__(self, response: web.WebSocketResponse) -> None:
        self.response = response

    @property
    def protocol(self) -> str:
        return self.response.ws_protocol or ""

    async def send(self, frame: Frame) -> None:
        """Send one frame; raise ConnectionError when the other side is gone."""
        if isinstance(frame, str):
            await self.response.send_str(frame)
        else:
            await self.response.send_bytes(frame)

    async def receive(self) -> Frame | None:
        """Wait for the next frame; None when the other side has hung up."""
        message = await self.response.receive()
        if message.type in {WSMsgType.BINARY, WSMsgType.TEXT}:
            frame: Frame = message.data
            return frame
        return None

    async def close(self) -> None:
        await self.response.close()


def wanted(exchange: Exchange, protocols: Sequence[str]) -> bool:
    """Say whether the request asks for a WebSocket; raise BadRequest if for an unknown protocol."""
    if exchange.request.headers.get("Upgrade", "").lower() != "websocket":
        return False
    ready = web.WebSocketResponse(protocols=protocols).can_prepare(exchange.request)
    if not ready.ok:
        raise BadRequest("this is not a valid WebSocket handshake")
    if protocols and not ready.protocol:
        offered = exchange.request.headers.get("Sec-WebSocket-Protocol", "")
        raise BadRequest(
            f"unable to negotiate a subprotocol: offered {offered!r}, known {protocols}"
        )
    return True


async def accept(
    exchange: Exchange, protocols: Sequence[str] = (), *, heartbeat: float | None = None
) -> WebSocket:
    response = web.WebSocketResponse(
        protocols=protocols, heartbeat=heartbeat, timeout=_CLOSED_WITHIN, compress=False
    )
    await response.prepare(exchange.request)
    return WebSocket(response)
