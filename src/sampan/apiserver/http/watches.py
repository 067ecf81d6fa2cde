"""Watches: one JSON line an event, written in batches, ended in good order.

What happened since the last write is the next one, so a burst costs a client one record, and a slow
client holds back nothing but its own place in the history.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
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
        self,
        exchange: Exchange,
        batches: AsyncGenerator[Sequence[Event], None],
        form: EventForm,
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
                    await _pump(batches, form, response)
                finally:
                    self._limits.discard(limit)
        return response


async def _pump(
    batches: AsyncGenerator[Sequence[Event], None], form: EventForm, response: web.StreamResponse
) -> None:
    try:
        async with aclosing(batches):
            async for events in batches:
                await response.write(form.lines(events, _now()))
    except ApiError as error:
        await response.write(event_line("ERROR", orjson.dumps(error.status())))


def _now() -> datetime:
    return datetime.now(UTC)
