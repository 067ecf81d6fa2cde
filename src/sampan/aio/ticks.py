"""Notice silence on a stream without losing what comes next."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")
S = TypeVar("S")

_SETTLE: Final = 2
"""Turns of the loop within which a stream that was just woken shows its item."""


class Tick(Struct, Generic[S], frozen=True):
    """Nothing has come for a while; everything up to *sample* was seen."""

    sample: S


async def with_ticks(
    source: AsyncGenerator[T, None], period: float, sample: Callable[[], S]
) -> AsyncGenerator[T | Tick[S], None]:
    """Yield what *source* yields, and a Tick after every *period* seconds without an item.

    *sample* is taken before it is made sure that no item was already under way, so an item that
    comes after a Tick is later than the Tick's sample.
    """
    following = asyncio.ensure_future(anext(source))
    try:
        while True:
            await asyncio.wait((following,), timeout=period)
            if not following.done():
                seen = sample()
                for _ in range(_SETTLE):
                    await asyncio.sleep(0)
                if not following.done():
                    yield Tick(seen)
                    continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            following = asyncio.ensure_future(anext(source))
            yield item
    finally:
        following.cancel()
        await asyncio.wait((following,))
        if not following.cancelled():
            following.exception()
        await source.aclose()
