"""Waiting for changes in a directory without asking again and again: Linux' inotify."""

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_MODIFY: Final = 0x00000002
_MOVED_TO: Final = 0x00000080
_CREATE: Final = 0x00000100
_DELETE_SELF: Final = 0x00000400
_EVENTS: Final = _MODIFY | _MOVED_TO | _CREATE | _DELETE_SELF


class Changes:
    """Remembers that something changed since it was last asked; `watching` makes it."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Wait for a change after the last `wait` returned."""
        await self._changed.wait()
        self._changed.clear()

    def note(self) -> None:
        self._changed.set()


@asynccontextmanager
async def watching(directory: Path) -> AsyncIterator[Changes]:
    """Note every file of *directory* that is written to, created or renamed."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _failure("inotify_init1")
    loop = asyncio.get_running_loop()
    changes = Changes()

    def drain() -> None:
        os.read(fd, 65536)
        changes.note()

    try:
        if libc.inotify_add_watch(fd, os.fsencode(directory), _EVENTS) < 0:
            raise _failure(str(directory))
        loop.add_reader(fd, drain)
        try:
            yield changes
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)


def _failure(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"cannot watch for changes: {os.strerror(code)}", what)
