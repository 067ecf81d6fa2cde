"""News about this node's Pods and their containers."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sampan.agent.spec import NodePod
from sampan.client.events import EventRecorder, Severity, wall_clock
from sampan.client.interface import Client

COMPONENT: Final = "sampan-agent"

__all__ = ["Events", "Severity"]


class Events:
    """A queue of news and the one task that writes it."""

    def __init__(self, client: Client, node: str, now: Callable[[], datetime] = wall_clock) -> None:
        self._node = node
        self._recorder = EventRecorder(client, now)

    def record(
        self, pod: NodePod, type_: Severity, reason: str, message: str, container: str = ""
    ) -> None:
        """Take news for writing, without waiting."""
        field = _field(pod, container)
        self._recorder.record(pod, type_, reason, message, COMPONENT, host=self._node, field=field)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        await self._recorder.run()


def _field(pod: NodePod, container: str) -> str:
    if not container:
        return ""
    init = any(c.name == container for c in pod.spec.init_containers)
    return f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
