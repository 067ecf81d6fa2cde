"""Events about what controllers did."""

from typing import Protocol

from sampan.client.events import EventRecorder
from sampan.controllers.plan import RecordEvent


class Recorder(Protocol):
    def record(self, event: RecordEvent, source: str, *, name: str = "") -> None:
        """Take *event* for writing, without waiting; *name* replaces `{name}` in its message."""


class ControllerEvents:
    """What controllers record, signed by each of them."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder

    def record(self, event: RecordEvent, source: str, *, name: str = "") -> None:
        message = event.message.replace("{name}", name)
        self._recorder.record(event.about, event.type, event.reason, message, source)
