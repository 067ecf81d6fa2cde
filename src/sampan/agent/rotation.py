"""Container logs are kept small: full ones are set aside, and the oldest of those removed.

The runtime goes on in a new file when it is told that the old one was renamed. Readers
(`agent/logs.py`) find the older parts by their names, which end in the time of the change.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from sampan.agent.logs import rotated
from sampan.agent.runtime import Container, Runtime, RuntimeFailure

MOST_BYTES: Final = 10 << 20
MOST_FILES: Final = 5
"""Of one run of a container, the one that is written to included; both are Kubernetes' defaults."""
_LOOK: Final = 10.0

log = logging.getLogger(__name__)


class Rotation:
    def __init__(
        self,
        runtime: Runtime,
        running: Callable[[], Iterable[Container]],
        now: Callable[[], datetime],
        *,
        most_bytes: int = MOST_BYTES,
        most_files: int = MOST_FILES,
    ) -> None:
        self._runtime = runtime
        self._running = running
        self._now = now
        self._most_bytes = most_bytes
        self._most_files = most_files

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self.sweep()

    async def sweep(self) -> None:
        """Set every log aside that is full."""
        for container in list(self._running()):
            path = Path(container.log_path)
            if container.log_path and _size(path) > self._most_bytes:
                try:
                    await self._set_aside(container.id, path)
                except (OSError, RuntimeFailure) as error:
                    log.warning("the log %s cannot be rotated: %s", path, error)

    async def _set_aside(self, container: str, path: Path) -> None:
        aside = self._renamed(path)
        try:
            await self._runtime.reopen_log(container)
        except RuntimeFailure:
            _put_back(aside, path)
            raise

    def _renamed(self, path: Path) -> Path:
        for old in rotated(path)[: -(self._most_files - 2) or None]:
            old.unlink(missing_ok=True)
        aside = path.with_name(f"{path.name}.{self._now():%Y%m%d-%H%M%S.%f}")
        return path.rename(aside)


def _put_back(aside: Path, path: Path) -> None:
    """Undo the renaming: the runtime still writes to that file."""
    aside.rename(path)


def remove_log(path: Path) -> None:
    """Remove all parts of one run's log."""
    for part in (*rotated(path), path):
        part.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
