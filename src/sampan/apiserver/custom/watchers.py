"""Watches of custom kinds: in the version that was asked for, and ended when that is gone."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from sampan.apiserver.custom.catalog import Catalog
from sampan.apiserver.custom.conversion import Converter
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.interface import Event

LAST_WORDS: Final = 1.0
"""Seconds in which a watcher still learns of deletions, once its kind is no longer served."""

Batches = AsyncGenerator[Sequence[Event], None]


class Watchers:
    def __init__(self, catalog: Catalog, converter: Converter) -> None:
        self._catalog = catalog
        self._converter = converter
        self._waiting: dict[asyncio.Timeout, CustomKind] = {}

    def end_unserved(self) -> None:
        """Let watches of kinds that are no longer served come to their end."""
        soon = asyncio.get_running_loop().time() + LAST_WORDS
        for limit, kind in self._waiting.items():
            if not self._catalog.serves(kind) and limit.when() is None:
                limit.reschedule(soon)

    async def presented(self, kind: CustomKind, batches: Batches) -> Batches:
        """Tell *batches* of what is stored as of *kind*, while that is served."""
        async with aclosing(batches):
            while events := await self._next(kind, batches):
                now = self._catalog.current(kind)
                told = now if isinstance(now, CustomKind) else kind
                entries = [event.entry for event in events if event.type != "BOOKMARK"]
                shown = iter(await self._converter.presented_all(told, entries))
                yield [
                    event if event.type == "BOOKMARK" else Event(event.type, next(shown))
                    for event in events
                ]

    async def _next(self, kind: CustomKind, batches: Batches) -> Sequence[Event]:
        """The next events; none if there will be no more."""
        limit = asyncio.timeout(None if self._catalog.serves(kind) else LAST_WORDS)
        self._waiting[limit] = kind
        try:
            async with limit:
                while not (events := await anext(batches)):
                    pass
                return events
        except (TimeoutError, StopAsyncIteration):
            return ()
        finally:
            del self._waiting[limit]
