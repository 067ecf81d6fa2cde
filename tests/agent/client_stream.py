"""The client's end of a stream, for tests of the verbs without a server between."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from sampan.agent.streams.stream import Frame

PATIENCE = 15.0


class ClientStream:
    """What the agent sends is read with `receive`; what it gets is written with `send_frame`."""

    def __init__(self) -> None:
        self.accepted = asyncio.Event()
        self._to_agent: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._to_client: asyncio.Queue[Frame] = asyncio.Queue()

    async def accept(self) -> None:
        self.accepted.set()

    async def send(self, frame: Frame) -> None:
        await self._to_client.put(frame)

    async def frames(self) -> AsyncIterator[Frame]:
        while (frame := await self._to_agent.get()) is not None:
            yield frame

    def send_frame(self, frame: Frame) -> None:
        self._to_agent.put_nowait(frame)

    def leave(self) -> None:
        self._to_agent.put_nowait(None)

    async def receive(self) -> Frame:
        async with asyncio.timeout(PATIENCE):
            return await self._to_client.get()

    async def read_until(self, wanted: bytes, *, channel: int | None = None) -> bytes:
        """Read until *wanted* has come; with *channel*, only that channel's data counts."""
        seen = b""
        while wanted not in seen:
            frame = await self.receive()
            assert isinstance(frame, bytes)
            if channel is None:
                seen += frame
            elif frame[0] == channel:
                seen += frame[1:]
        return seen

    async def finish(self) -> tuple[dict[int, bytes], dict[str, Any]]:
        """Read to the final status; return what came on each channel, and the status."""
        seen: dict[int, bytes] = {}
        while True:
            frame = await self.receive()
            assert isinstance(frame, bytes)
            if frame[0] == 3:
                return seen, json.loads(frame[1:])
            seen[frame[0]] = seen.get(frame[0], b"") + frame[1:]

    def sent(self) -> list[Frame]:
        """What the agent has sent and nobody has read."""
        return [self._to_client.get_nowait() for _ in range(self._to_client.qsize())]
