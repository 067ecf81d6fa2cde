"""What the work on every Pod of a node shares."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sampan.agent.containerconfig import Cluster
from sampan.agent.env import Surroundings
from sampan.agent.events import Events
from sampan.agent.pulls import Images
from sampan.agent.record import Clock, Poke, Record
from sampan.agent.resources import Capacity
from sampan.agent.runtime import Runtime
from sampan.agent.sources import Sources
from sampan.agent.spec import NodePod
from sampan.agent.volumes import Volumes
from sampan.api.objects import Service
from sampan.client.interface import Client

Connected = Callable[[NodePod, str], Awaitable[None]]
"""Wait until a Pod may send from the address that it has."""
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
_FIRST: Final = 0.25
_LONGEST: Final = 15.0


@dataclass(frozen=True, slots=True)
class Tools:
    ip: str
    """The node's."""
    log_dir: Path
    cluster: Cluster
    capacity: Capacity
    client: Client
    runtime: Runtime
    volumes: Volumes
    sources: Sources
    images: Images
    events: Events
    services: Callable[[], Iterable[Service]]
    connected: Connected
    spawn: Spawn
    poke: Poke
    now: Clock

    def around(self, record: Record) -> Surroundings:
        """What a Pod's fields may speak of."""
        return Surroundings(record.pod, self.pod_ip(record), self.ip, self.capacity)

    def pod_ip(self, record: Record) -> str:
        if record.pod.spec.host_network:
            return self.ip
        newest = record.seen.newest
        return next(iter(newest.ips), "") if newest else ""


def soon(failures: int) -> timedelta:
    """When to look again for what somebody may supply any moment, such as a missing Secret."""
    return timedelta(seconds=min(_FIRST * 2.0 ** min(failures - 1, 10), _LONGEST))
