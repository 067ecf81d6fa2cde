"""One Pod in the agent's hands: the only mutable thing about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from sampan.agent.memory import ContainerMemory, Memory, Seen, count_end
from sampan.agent.runtime import Container, Sandbox
from sampan.agent.spec import NodePod, NodePodSpec
from sampan.api.objects import Metadata, Object


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

    def is_own_write(self, pod: NodePod) -> bool:
        """Whether *pod* is as this agent left it."""
        return int(pod.metadata.resource_version or 0) == self.revision

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


def only_status(old: NodePod, new: NodePod) -> bool:
    before, after = old.metadata, new.metadata
    return old.spec == new.spec and (
        before.labels == after.labels
        and before.annotations == after.annotations
        and before.deletion_timestamp == after.deletion_timestamp
        and before.deletion_grace_period_seconds == after.deletion_grace_period_seconds
        and before.finalizers == after.finalizers
    )


def downward(pod: NodePod) -> tuple[object, object]:
    """What of a running Pod may change under its downward API volumes."""
    return pod.metadata.labels, pod.metadata.annotations


def stand_in(sandbox: Sandbox) -> NodePod:
    """A Pod that is known only by what runs for it."""
    metadata = Metadata(name=sandbox.name, namespace=sandbox.namespace, uid=sandbox.uid)
    return NodePod(metadata=metadata, spec=NodePodSpec())


def differs(record: Record, sandboxes: list[Sandbox], containers: list[Container]) -> bool:
    known: set[tuple[str, object]] = {(s.id, s.ready) for s in record.seen.sandboxes}
    known |= {(c.id, c.state) for c in record.seen.containers}
    found: set[tuple[str, object]] = {(s.id, s.ready) for s in sandboxes if s.uid == record.uid}
    found |= {(c.id, c.state) for c in containers if c.uid == record.uid}
    return known != found
