"""exec and attach over SPDY: its streams told as the frames of `v5.channel.k8s.io`."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

from sampan.apiserver.http import spdy
from sampan.apiserver.tunnel import Frame, Socket

_STDIN, _ERROR, _RESIZE, _CLOSE = 0, 3, 4, 255
_CHANNELS: Final = {"stdin": _STDIN, "stdout": 1, "stderr": 2, "error": _ERROR, "resize": _RESIZE}
_OPENED_WITHIN: Final = 30.0


class SpdyChannels:
    """A client's SPDY connection, *carrier*, as one socket of channel frames."""

    def __init__(self, carrier: Socket) -> None:
        self._carrier = carrier
        self._framing = spdy.Framing()
        self._arrived: deque[spdy.Event] = deque()
        self._channel_of: dict[int, int] = {}
        self._stream_of: dict[int, int] = {}

    async def opened(self, wanted: Collection[str]) -> None:
        """Wait until the client has opened *wanted*: it opens all before it sends anything."""
        missing = {_CHANNELS[name] for name in wanted}
        try:
            async with asyncio.timeout(_OPENED_WITHIN):
                while missing - self._stream_of.keys():
                    event = await self._next()
                    if isinstance(event, spdy.Opened):
                        await self._open(event)
                    elif event is None:
                        raise ConnectionResetError
        except TimeoutError as error:
            raise ConnectionResetError from error

    async def _open(self, event: spdy.Opened) -> None:
        channel = _CHANNELS.get(event.headers.get("streamtype", ""))
        if channel is None or channel in self._stream_of:
            await self._carrier.send(self._framing.reset(event.stream, spdy.REFUSED))
            return
        self._channel_of[event.stream] = channel
        self._stream_of[channel] = event.stream
        await self._carrier.send(self._framing.reply(event.stream))

    async def _next(self) -> spdy.Event | None:
        """Wait for the next event; None when the client is gone, or talks nonsense."""
        while not self._arrived:
            frame = await self._carrier.receive()
            if frame is None:
                return None
            try:
                self._arrived += self._framing.feed(frame if isinstance(frame, bytes) else b"")
            except spdy.ProtocolError:
                return None
        return self._arrived.popleft()

    async def receive(self) -> Frame | None:
        """Wait for what the client says to the process, None when it is gone."""
        while (event := await self._next()) is not None:
            if isinstance(event, spdy.Ping):
                await self._carrier.send(self._framing.ping(event.number))
            elif isinstance(event, spdy.Opened):
                await self._open(event)
            elif isinstance(event, spdy.Data) and (frame := await self._frame(event)):
                return frame
        return None

    async def _frame(self, event: spdy.Data) -> bytes | None:
        channel = self._channel_of.get(event.stream)
        if channel not in {_STDIN, _RESIZE}:
            return None
        if event.data:
            if event.fin:
                self._arrived.appendleft(spdy.Data(event.stream, b"", fin=True))
            await self._carrier.send(self._framing.received(event.stream, len(event.data)))
            return bytes((channel,)) + event.data
        return bytes((_CLOSE, channel)) if event.fin and channel == _STDIN else None

    async def send(self, frame: Frame) -> None:
        """Send the client one frame of the process; the final status ends the error stream."""
        data = frame.encode() if isinstance(frame, str) else frame
        channel, rest, ends = data[0], data[1:], data[0] == _ERROR
        if channel == _CLOSE and rest:
            channel, rest, ends = rest[0], b"", True
        stream = self._stream_of.get(channel)
        if stream is None:
            return
        if ends:
            del self._stream_of[channel]
        await self._carrier.send(self._framing.data(stream, rest, fin=ends))

    async def close(self) -> None:
        """End every stream that is still open, and the connection."""
        frames = [self._framing.data(s, b"", fin=True) for s in self._stream_of.values()]
        self._stream_of.clear()
        try:
            await self._carrier.send(b"".join([*frames, self._framing.go_away(0)]))
        except ConnectionError:
            return
        finally:
            await self._carrier.close()
