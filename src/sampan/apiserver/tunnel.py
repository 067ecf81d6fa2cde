"""The server's side of the tunnel: agents dial out, the server asks down the line.

A node keeps one control socket. To do something on the node, the server sends it an `open`; the
agent dials back one socket for that alone, and its first frame says whether the request is granted.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from sampan.api.errors import (
    InternalError,
    NotFound,
    ServiceUnavailable,
    Timeout,
    error_from_status,
)

Frame = bytes | str

DIAL_BACK_WITHIN: Final = 10.0


class Socket(Protocol):
    """One WebSocket from an agent."""

    async def send(self, frame: Frame) -> None: ...

    async def receive(self) -> Frame | None:
        """Wait for the next frame; None when the other side has hung up."""

    async def close(self) -> None: ...


@dataclass(eq=False)
class _Asked:
    """A stream that a node was asked to open; *finished* is set when nobody uses it any more."""

    node: str
    answered: "asyncio.Future[Socket]"
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class Tunnels:
    """The control sockets of all connected nodes, and the streams that were asked for."""

    def __init__(self) -> None:
        self._controls: dict[str, Socket] = {}
        self._asked: dict[str, _Asked] = {}

    def __len__(self) -> int:
        """How many streams were asked for and are not finished."""
        return len(self._asked)

    def nodes(self) -> list[str]:
        return sorted(self._controls)

    async def control(self, node: str, socket: Socket) -> None:
        """Keep *socket* as the node's line until it hangs up; a newer one takes its place."""
        older = self._controls.get(node)
        self._controls[node] = socket
        if older is not None:
            await older.close()
        try:
            while await socket.receive() is not None:
                pass
        finally:
            if self._controls.get(node) is socket:
                del self._controls[node]
                self._give_up(node)

    def _give_up(self, node: str) -> None:
        for asked in self._asked.values():
            if asked.node == node and not asked.answered.done():
                asked.answered.set_exception(unreachable(node))

    async def close(self) -> None:
        """Hang up on every node, and end every stream."""
        for node in self._controls:
            self._give_up(node)
        answered = [asked.answered for asked in self._asked.values() if asked.answered.done()]
        streams = [each.result() for each in answered if not each.exception()]
        await asyncio.gather(*(socket.close() for socket in (*streams, *self._controls.values())))

    async def dialled(self, node: str, stream_id: str, socket: Socket) -> None:
        """Hand over the socket that *node* dialled for a stream, until that is finished."""
        asked = self._asked.get(stream_id)
        if asked is None or asked.node != node or asked.answered.done():
            raise NotFound("nobody asked for this stream, or no longer waits for it")
        asked.answered.set_result(socket)
        await asked.finished.wait()

    def expects(self, node: str, stream_id: str) -> bool:
        asked = self._asked.get(stream_id)
        return asked is not None and asked.node == node and not asked.answered.done()

    @asynccontextmanager
    async def stream(
        self, node: str, verb: str, params: Mapping[str, Any]
    ) -> AsyncIterator[Socket]:
        """Open a stream on *node*; raise what the agent answers if it refuses.

        Raise ServiceUnavailable without a tunnel to the node, Timeout if it does not dial back.
        """
        control = self._controls.get(node)
        if control is None:
            raise unreachable(node)
        stream_id = secrets.token_urlsafe(16)
        asked = _Asked(node, asyncio.get_running_loop().create_future())
        self._asked[stream_id] = asked
        try:
            opening = {"open": stream_id, "verb": verb, "params": dict(params)}
            socket = await self._opened(control, asked, orjson.dumps(opening).decode())
            yield socket
        finally:
            del self._asked[stream_id]
            asked.finished.set()
            if asked.answered.done() and not asked.answered.exception():
                await asked.answered.result().close()

    async def _opened(self, control: Socket, asked: _Asked, opening: str) -> Socket:
        try:
            async with asyncio.timeout(DIAL_BACK_WITHIN):
                await control.send(opening)
                socket = await asyncio.shield(asked.answered)
                await _check_granted(socket)
        except TimeoutError as error:
            raise Timeout(
                f"node {asked.node} did not answer within {DIAL_BACK_WITHIN:g} s"
            ) from error
        except ConnectionError as error:
            raise unreachable(asked.node) from error
        return socket


async def _check_granted(socket: Socket) -> None:
    try:
        status = orjson.loads(await socket.receive() or b"")
        granted = status["status"] == "Success"
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise InternalError("the node's agent closed the stream without a Status") from error
    if not granted:
        raise error_from_status(status)


def unreachable(node: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"node {node} is not connected: is `sampan agent` running there?", retry_after=1
    )
