"""Events are told for an hour, and then forgotten.

Nobody needs a clock for that: now and then, an Event that comes takes the old ones away.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sampan.api import kinds
from sampan.api.errors import NotFound
from sampan.api.objects import Object
from sampan.api.time import parse_time
from sampan.apiserver.interface import Call, DeleteOptions
from sampan.apiserver.reading import Reader
from sampan.apiserver.writing import Clock, Writer

LIFETIME: Final = timedelta(hours=1)
EVERY: Final = 100
"""Events that come before the old ones are looked for."""
_BATCH: Final = 64
_TIMES: Final = ("lastTimestamp", "eventTime", "firstTimestamp")


class Expiry:
    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._count = 0

    async def one_more(self) -> None:
        """Count an Event that was created, and forget the old ones if it is time to."""
        self._count += 1
        if self._count % EVERY == 0:
            await self.sweep()

    async def sweep(self) -> None:
        old = list(expired(await self._reader.all(kinds.EVENTS), self._clock()))
        for start in range(0, len(old), _BATCH):
            async with asyncio.TaskGroup() as group:
                for event in old[start : start + _BATCH]:
                    group.create_task(self._forget(event))

    async def _forget(self, event: Object) -> None:
        meta = event["metadata"]
        only = DeleteOptions(uid=meta["uid"])
        with suppress(NotFound):
            await self._writer.delete(
                kinds.EVENTS, meta["namespace"], meta["name"], only, Call(), trusted=True
            )


def expired(events: Iterable[Object], now: datetime) -> Iterable[Object]:
    """Those of *events* that were last seen too long ago."""
    return (event for event in events if last_seen(event) < now - LIFETIME)


def last_seen(event: Object) -> datetime:
    latest = (event.get("series") or {}).get("lastObservedTime")
    told = latest or next((event[field] for field in _TIMES if event.get(field)), None)
    return parse_time(told or event["metadata"]["creationTimestamp"])
