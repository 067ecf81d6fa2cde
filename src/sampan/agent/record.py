"""One Pod in the agent's hands: the only mutable thing about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from sampan.agent.memory import ContainerMemory, Memory, Seen, count_end
from sampan.agent.runtime import Container
from sampan.agent.spec import NodePod
from sampan.api.objects import Object


@dataclass(slots=True)
class Record:
    """Changed only by who holds its key in the queue, or in one step without waiting."""

    pod: NodePod
    memory: Memory
    seen: Seen = field(default_factory=Seen)
    gone: bool = False
    """Whether the API has it no more."""
    stale: bool = True
    """Whether the runtime must be asked what there is."""
    written: Object | None = None
    """The status that was written last, until the watch shows it."""
    revision: int = 0
    """Of that write."""

    @property
    def uid(self) -> str:
        return self.pod.uid

    def known_status(self) -> Object:
        """What the API's status is now, as far as this agent knows."""
        if (
            self.written is not None
            and int(self.pod.metadata.resource_version or 0) < self.revision
        ):
            return self.written
        return self.pod.status

    def of(self, container: str) -> ContainerMemory:
        return self.memory.of(container)

    def remember(self, container: str, **changes: object) -> None:
        memory = replace(self.memory.of(container), **changes)
        self.memory = self.memory.with_container(container, memory)

    def note(self, **changes: object) -> None:
        self.memory = replace(self.memory, **changes)

    def see(self, container: Container) -> bool:
        """Take in a container's state; True if this is the first that is heard of its end."""
        self.seen = self.seen.with_container(container)
        before = self.memory.of(container.name)
        if not container.ended or before.counted == container.id:
            return False
        counted = count_end(before, container)
        self.memory = self.memory.with_container(container.name, counted)
        return True


Poke = Callable[[str], None]
"""Have a Pod looked at again, by its uid."""
Clock = Callable[[], datetime]
