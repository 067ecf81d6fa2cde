"""Images that nobody uses are removed when the disk fills up, those unused for longest first.

What came without a registry stays: it could not be pulled again.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

HIGH: Final = 0.85
"""The part of the disk in use from which images are removed, and"""
LOW: Final = 0.80
"""the one that this aims at; both are Kubernetes' defaults."""
LEAST_AGE: Final = 120.0
"""Seconds that an image is left alone after it was last seen in use, or came."""
_LOOK: Final = 60.0

log = logging.getLogger(__name__)


class Held(Struct, frozen=True):
    """An image as the runtime has it."""

    id: str
    names: tuple[str, ...]
    size: int


class Store(Protocol):
    async def held(self) -> Iterable[Held]: ...

    async def in_use(self) -> frozenset[str]:
        """The ids or names of images that containers were made of."""

    async def kept(self) -> frozenset[str]:
        """The names of images that must stay."""

    async def remove(self, image: str) -> None: ...


class Space(Struct, frozen=True):
    total: int
    used: int


def disk_space(path: Path) -> Space:
    usage = shutil.disk_usage(path)
    return Space(usage.total, usage.total - usage.free)


def _is_one(image: Held, known: frozenset[str]) -> bool:
    return image.id in known or not known.isdisjoint(image.names)


class Collector:
    def __init__(
        self, store: Store, space: Callable[[], Space], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._space = space
        self._clock = clock
        self._last_used: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK)

    async def look(self) -> int:
        """Note what is in use, and make room if need be; return the bytes that became free."""
        images, using = list(await self._store.held()), await self._store.in_use()
        now = self._clock()
        self._last_used = {
            image.id: now if _is_one(image, using) else self._last_used.get(image.id, now)
            for image in images
        }
        space = self._space()
        if space.used < space.total * HIGH:
            return 0
        kept = await self._store.kept()
        unused = [
            image
            for image in images
            if now - self._last_used[image.id] >= LEAST_AGE and not _is_one(image, using | kept)
        ]
        unused.sort(key=lambda image: self._last_used[image.id])
        return await self._remove(unused, space.used - round(space.total * LOW))

    async def _remove(self, images: Iterable[Held], wanted: int) -> int:
        freed = 0
        for image in images:
            if freed >= wanted:
                break
            await self._store.remove(image.id)
            freed += image.size
            log.info("the disk fills up: removed image %s", ", ".join(image.names) or image.id)
        return freed
