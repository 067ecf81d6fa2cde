"""What Pods use, read every few seconds while somebody scales by it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from msgspec import Struct

from sampan.api import quantities
from sampan.api.errors import ApiError
from sampan.api.objects import Object
from sampan.api.time import parse_time

EVERY: Final = 15.0

Source: TypeAlias = Callable[[], Awaitable[Sequence[Object]]]
"""Returns the PodMetrics of all Pods; raises an ApiError if nobody measures."""

log = logging.getLogger(__name__)


class Sample(Struct, frozen=True):
    """What one Pod used on average over a moment before *at*, by container and resource."""

    at: datetime
    containers: Mapping[str, Mapping[str, float]]


class Meter:
    """The latest samples by `namespace/name`; *problem* says why there are none."""

    def __init__(self) -> None:
        self.samples: Mapping[str, Sample] = {}
        self.problem = "no metrics are read yet"

    async def run(self, source: Source, wanted: Callable[[], bool]) -> None:
        """Read *source* again and again while *wanted*, until cancelled."""
        while True:
            if wanted():
                await self._read(source)
            await asyncio.sleep(EVERY)

    async def _read(self, source: Source) -> None:
        try:
            listed = await source()
        except (ApiError, OSError, TimeoutError) as error:
            self.samples, self.problem = {}, f"unable to fetch metrics: {error}"
            log.info("metrics of Pods: %s", error)
        else:
            self.samples, self.problem = dict(map(_sample, listed)), ""


def _sample(raw: Object) -> tuple[str, Sample]:
    meta = raw["metadata"]
    containers = {
        c["name"]: {name: float(quantities.parse(q)) for name, q in c["usage"].items()}
        for c in raw.get("containers") or ()
    }
    key = f"{meta['namespace']}/{meta['name']}"
    return key, Sample(parse_time(raw["timestamp"]), containers)
