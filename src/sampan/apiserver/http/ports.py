"""Port-forwarding as Python's clients do it: `v4.channel.k8s.io`, two channels a port.

Channel 2N carries the bytes of the Nth port that the request names, 2N+1 what goes wrong; each
channel's first frame tells the port. One TCP connection a port, for as long as the WebSocket.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from sampan.api.errors import ApiError, BadRequest
from sampan.api.objects import Object
from sampan.apiserver.http.queries import Query
from sampan.apiserver.tunnel import Socket, Tunnels

PROTOCOL: Final = "v4.channel.k8s.io"
_MOST_PORTS: Final = 64
_WAITING_FRAMES: Final = 64

Inbox = asyncio.Queue[bytes]


def ports_of(query: Query) -> Sequence[int]:
    """Read `ports=80,81&ports=82`; raise BadRequest for what is none."""
    texts = [text for value in query.all("ports") for text in value.split(",")]
    if not 0 < len(texts) <= _MOST_PORTS:
        raise BadRequest(f"query parameter `ports`: name 1 to {_MOST_PORTS} ports")
    return [_port(text) for text in texts]


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0  # noqa: PLR2004
    if not 0 < port < 1 << 16:
        raise BadRequest(f"query parameter `ports`: {text!r} is not a port")
    return port


class PortChannels:
    """One client that forwards *ports* of *pod*, which is on *node*."""

    def __init__(self, tunnels: Tunnels, node: str, pod: Object, ports: Sequence[int]) -> None:
        self._tunnels = tunnels
        self._node = node
        self._pod = pod
        self._ports = ports

    async def run(self, client: Socket) -> None:
        """Serve the client until it hangs up."""
        inboxes = [Inbox(_WAITING_FRAMES) for _ in self._ports]
        for number, port in enumerate(self._ports):
            for channel in (2 * number, 2 * number + 1):
                await client.send(bytes((channel,)) + port.to_bytes(2, "little"))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._forward(number, inbox, client))
                for number, inbox in enumerate(inboxes)
            ]
            while frame := await client.receive():
                data = frame if isinstance(frame, bytes) else frame.encode()
                number, is_error = divmod(data[0], 2)
                if not is_error and number < len(inboxes):
                    await inboxes[number].put(data[1:])
            for task in tasks:
                task.cancel()

    async def _forward(self, number: int, inbox: Inbox, client: Socket) -> None:
        port = self._ports[number]
        params = {
            "namespace": self._pod["metadata"]["namespace"],
            "pod": self._pod["metadata"]["name"],
            "port": port,
        }
        try:
            async with self._tunnels.stream(self._node, "portforward", params) as agent:
                await self._carry(2 * number, inbox, client, agent)
        except* ApiError as errors:
            told = f"error forwarding port {port}: {errors.exceptions[0]}"
            await client.send(bytes((2 * number + 1,)) + told.encode())

    async def _carry(self, channel: int, inbox: Inbox, client: Socket, agent: Socket) -> None:
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send(inbox, agent))
            while frame := await agent.receive():
                data = frame if isinstance(frame, bytes) else frame.encode()
                await client.send(bytes((channel,)) + data)
            sender.cancel()


async def _send(inbox: Inbox, agent: Socket) -> None:
    try:
        while True:
            if data := await inbox.get():
                await agent.send(data)
    except ConnectionError:
        return
