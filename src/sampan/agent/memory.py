"""What the agent knows about one Pod: what the runtime shows, and what only it remembers.

Both are frozen, so that plans and statuses are made from a snapshot.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sampan.agent.runtime import Container, Sandbox
from sampan.api.objects import Object
from sampan.api.time import parse_time

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=5)
STEADY: Final = timedelta(minutes=10)
"""A container that ran so long is forgiven its earlier crashes."""


class Seen(Struct, frozen=True):
    """A Pod's sandboxes and containers in the runtime."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def newest(self) -> Sandbox | None:
        return max(self.sandboxes, key=lambda s: (s.attempt, s.created_at), default=None)

    @property
    def sandbox(self) -> Sandbox | None:
        """The sandbox that works, if there is one."""
        newest = self.newest
        return newest if newest and newest.ready else None

    def attempts(self, name: str) -> list[Container]:
        """Every run of a container that is still known, the latest first."""
        mine = (c for c in self.containers if c.name == name)
        return sorted(mine, key=lambda c: (c.attempt, c.created_at), reverse=True)

    def latest(self, name: str) -> Container | None:
        return next(iter(self.attempts(name)), None)

    def with_container(self, container: Container) -> "Seen":
        others = tuple(c for c in self.containers if c.id != container.id)
        return replace(self, containers=(*others, container))

    def without_container(self, container: str) -> "Seen":
        return replace(self, containers=tuple(c for c in self.containers if c.id != container))

    def with_sandbox(self, sandbox: Sandbox) -> "Seen":
        others = tuple(s for s in self.sandboxes if s.id != sandbox.id)
        return replace(self, sandboxes=(*others, sandbox))

    def with_stopped(self, sandbox: str) -> "Seen":
        """Mark a sandbox as stopped; its address is free."""
        return replace(
            self,
            sandboxes=tuple(
                replace(s, ready=False) if s.id == sandbox else s for s in self.sandboxes
            ),
        )

    def without_sandbox(self, sandbox: str) -> "Seen":
        """Drop a sandbox and the containers that went with it."""
        return Seen(
            tuple(s for s in self.sandboxes if s.id != sandbox),
            tuple(c for c in self.containers if c.sandbox != sandbox),
        )


class Waiting(Struct, frozen=True):
    """Why something has not happened yet, as a container's status tells it."""

    reason: str
    message: str = ""


class ContainerMemory(Struct, frozen=True, kw_only=True):
    crashes: int = 0
    """How many times in a row it ended without having run steadily."""
    counted: str = ""
    """The id of the run whose end `crashes` has counted last."""
    next_attempt: int = 0
    """What the API says is the least number that the next run may have."""
    waiting: Waiting | None = None
    failures: int = 0
    """Of pulling its image or making it, in a row."""
    retry_at: datetime | None = None
    image: str = ""
    """The image's id, when it is at hand for run number `image_for`."""
    image_for: int = -1
    pulling: bool = False
    probed: str = ""
    """The run of which the next three speak."""
    started: bool = False
    ready: bool = False
    unhealthy: str = ""
    """Why that run must be killed and started again."""
    grace: int | None = None
    """How long that run has when it is killed for being unhealthy."""
    resized: Mapping[str, str] = {}
    """Of runs that were resized: what they were given."""
    stopping: Mapping[str, int] = {}
    """The runs that are being stopped, and the grace that each was given."""
    last: Object = {}
    """`lastState` as the API has it, for when the runtime has forgotten."""


class Memory(Struct, frozen=True, kw_only=True):
    started_at: datetime
    """When the agent took the Pod up."""
    containers: Mapping[str, ContainerMemory] = {}
    prepared: bool = False
    """Whether its volumes are there."""
    waiting: Waiting | None = None
    """Why its containers cannot be made yet."""
    failures: int = 0
    retry_at: datetime | None = None
    ending_at: datetime | None = None
    """When it was first seen to be on its way out."""
    drained_at: datetime | None = None
    """When Services were seen to send it no more traffic."""
    evicted: str = ""
    """Why it had to end, because the node could bear it no longer."""
    let_go: bool = False
    """Whether the API was told that nothing of it runs any more."""
    forgotten: bool = False
    """Whether the node has given up all that it held of the Pod."""

    def of(self, name: str) -> ContainerMemory:
        return self.containers.get(name) or ContainerMemory()

    def with_container(self, name: str, memory: ContainerMemory) -> "Memory":
        return replace(self, containers={**self.containers, name: memory})


def restart_pause(crashes: int) -> timedelta:
    """Return the wait after so many crashes in a row: none after the first, then 10 s, doubling."""
    if crashes <= 1:
        return timedelta()
    doublings = min(crashes - 2, 10)
    return min(timedelta(seconds=FIRST_PAUSE.total_seconds() * 2.0**doublings), LONGEST_PAUSE)


def retry_pause(failures: int) -> timedelta:
    """Return the wait after so many failures to pull an image or make a container."""
    return restart_pause(failures + 1)


def count_end(memory: ContainerMemory, ended: Container) -> ContainerMemory:
    """Remember that a run has ended; each run counts once."""
    if memory.counted == ended.id:
        return memory
    begun, end = ended.started_at, ended.finished_at
    steady = begun is not None and end is not None and end - begun >= STEADY
    return replace(memory, crashes=1 if steady else memory.crashes + 1, counted=ended.id)


def recall(status: Object, now: datetime) -> Memory:
    """Take up a Pod that another agent, or this one before a restart, has cared for."""
    entries = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
        *(status.get("ephemeralContainerStatuses") or ()),
    ]
    begun = status.get("startTime")
    return Memory(
        started_at=parse_time(begun) if begun else now,
        containers={entry["name"]: _recall_container(entry) for entry in entries},
    )


def _recall_container(entry: Object) -> ContainerMemory:
    restarts = int(entry.get("restartCount") or 0)
    ran = bool(entry.get("containerID"))
    return ContainerMemory(
        crashes=restarts,
        next_attempt=restarts + 1 if ran else restarts,
        probed=str(entry.get("containerID") or "").rpartition("/")[2],
        started=bool(entry.get("started")),
        ready=bool(entry.get("ready")),
        last=entry.get("lastState") or {},
    )
