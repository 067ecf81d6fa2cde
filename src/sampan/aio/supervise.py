"""Keep a set of named long-lived coroutines running, whatever happens to one of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sampan.aio.backoff import Backoff

Work = Callable[[], Awaitable[None]]

_RECOVERED_AFTER: Final = 60.0
_DEFAULT: Final = Backoff(first=0.1, cap=30.0)

log = logging.getLogger(__name__)


async def supervise(works: Mapping[str, Work], *, backoff: Backoff = _DEFAULT) -> None:
    """Run all of *works* until each has returned; one that raises is logged and started again.

    The pauses between starts double; a work that ran a minute starts afresh. Cancelling this
    cancels them all.
    """
    async with asyncio.TaskGroup() as group:
        for name, work in works.items():
            group.create_task(_keep_running(name, work, backoff), name=name)


async def _keep_running(name: str, work: Work, backoff: Backoff) -> None:
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        begun = loop.time()
        try:
            await work()
        except Exception:
            failures = 1 if loop.time() - begun > _RECOVERED_AFTER else failures + 1
            pause = backoff.delay(failures)
            log.exception("%s failed; starting it again in %g s", name, pause)
            await asyncio.sleep(pause)
        else:
            return
