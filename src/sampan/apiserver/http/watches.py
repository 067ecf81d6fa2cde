"""Watches: one JSON line an event, written in batches, ended in good order.

A reader takes events as they come and a writer sends what has gathered, so a burst is one write and
a slow client holds back its own reader only.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Final

import orjson
from aiohttp import web

from sampan.api.errors import ApiError
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.forms import EventForm, event_line
from sampan.apiserver.http.negotiate import JSON
from sampan.apiserver.interface import Event

_SHORTEST: Final = 1800.0
_LONGEST: Final = 3600.0
_GATHERED_LIMIT: Final = 1 << 20


class Watches:
    """Every watch that is open, so that all can be ended when the server stops."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._limits)

    def close(self) -> None:
        """End all watches as their own time limit would."""
        self._closing = True
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time())

    async def serve(
        self, exchange: Exchange, events: AsyncGenerator[Event, None], form: EventForm
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "no-cache, private"})
        response.content_type = JSON
        response.enable_chunked_encoding()
        asked = exchange.query.number("timeoutSeconds")
        seconds = asked or random.uniform(_SHORTEST, _LONGEST)  # noqa: S311 - spreads reconnects
        await response.prepare(exchange.request)
        if exchange.request.method == "HEAD" or self._closing:
            return response
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as limit:
                self._limits.add(limit)
                try:
                    await _pump(events, form, response)
                finally:
                    self._limits.discard(limit)
        return response


class _Gathered:
    """What waits to be written; bounded, and closed when no more comes."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, line: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._size < _GATHERED_LIMIT)
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify_all()

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """Return all that has gathered, waiting for something; nothing means closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._lines) or self._closed)
            taken = b"".join(self._lines)
            self._lines.clear()
            self._size = 0
            self._changed.notify_all()
            return taken


async def _pump(
    events: AsyncGenerator[Event, None], form: EventForm, response: web.StreamResponse
) -> None:
    gathered = _Gathered()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(_read(events, form, gathered))
        while batch := await gathered.take():
            await response.write(batch)
        reader.cancel()


async def _read(events: AsyncGenerator[Event, None], form: EventForm, gathered: _Gathered) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                await gathered.put(form.line(event.type, event.entry, _now()))
    except ApiError as error:
        await gathered.put(event_line("ERROR", orjson.dumps(error.status())))
    await gathered.close()


def _now() -> datetime:
    return datetime.now(UTC)
