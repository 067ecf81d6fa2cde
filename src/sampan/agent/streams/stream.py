"""One stream of the tunnel as a verb sees it: the server carries its frames and nothing more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol

Frame = bytes | str
Params = Mapping[str, Any]


class Stream(Protocol):
    async def accept(self) -> None:
        """Tell the client that its request is granted; before that, an ApiError refuses it."""

    async def send(self, frame: Frame) -> None:
        """Send one frame, waiting while the other side is slow."""

    def frames(self) -> AsyncIterator[Frame]:
        """Yield what the client sends, until it is gone."""


Verb = Callable[[Params, Stream], Awaitable[None]]


async def until_first(*works: Coroutine[Any, Any, None]) -> None:
    """Run *works* together until one of them ends, then cancel the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def client_left(stream: Stream) -> None:
    """Return when the client is gone; what it still sends is of no interest."""
    async for _ in stream.frames():
        pass
