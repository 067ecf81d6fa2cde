"""Every controller there is, in one visible list, and the start of them all."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sampan.api.objects import Pod, Resource, Service
from sampan.client.cache import Cache, Index, Interest, by_node, by_owner
from sampan.client.interface import Client
from sampan.controllers import (
    deployment,
    endpoints,
    load_balancer,
    node_ipam,
    node_lifecycle,
    replicaset,
    taint_eviction,
)
from sampan.controllers.events import EventRecorder
from sampan.controllers.loop import Loop, followed, wall_clock
from sampan.controllers.plan import Controller
from sampan.controllers.views import by_label, by_orphan, by_selector

CONTROLLERS: Final[tuple[Controller, ...]] = (
    deployment.CONTROLLER,
    replicaset.CONTROLLER,
    endpoints.SLICES,
    endpoints.LEGACY,
    load_balancer.CONTROLLER,
    node_lifecycle.CONTROLLER,
    taint_eviction.CONTROLLER,
    node_ipam.CONTROLLER,
)

INDEXES: Final[Mapping[type[Resource], Mapping[str, Index]]] = {
    Pod: {"owner": by_owner, "node": by_node, "orphan": by_orphan, "label": by_label},
    Service: {"owner": by_owner, "selector": by_selector},
}
EVERYWHERE: Final[Mapping[str, Index]] = {
    "owner": by_owner,
    "orphan": by_orphan,
    "label": by_label,
}


def interests(controllers: Iterable[Controller] = CONTROLLERS) -> Sequence[Interest]:
    """Return what a cache must follow for *controllers*."""
    views = followed(tuple(controllers)).values()
    return [Interest(view, indexes=INDEXES.get(view, EVERYWHERE)) for view in views]


async def run_all(client: Client, *, now: Callable[[], datetime] = wall_clock) -> None:
    """Run every controller over one cache of its own, until cancelled."""
    cache = Cache(client, interests())
    recorder = EventRecorder(client, now)
    loop = Loop(client, cache, CONTROLLERS, recorder, now=now)
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(), name="events")
        group.create_task(loop.run(), name="controllers")
        group.create_task(cache.run(), name="cache")
