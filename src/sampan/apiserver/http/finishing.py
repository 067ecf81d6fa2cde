"""Writes are finished once they are begun, whether or not the client waits for the answer.

A client that hangs up cancels its request. In the middle of a write that would leave half of its
consequences undone: a port that stays taken, a collection that is half deleted.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Finisher:
    """Runs works to their end, in a group that outlives the requests."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take works while the context lasts; leaving it waits for those that are begun."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do *work* and return its result; when cancelled, stop waiting but let it end."""
        if self._group is None:
            return await work
        result, error = await asyncio.shield(self._group.create_task(_outcome(work)))
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # there is one if there is no error


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    """Turn an error into a value: nobody may be left to raise it to."""
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
        return None, error
