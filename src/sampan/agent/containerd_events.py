"""containerd's event stream: which container ended, which image came.

The messages are described here as data, as in `streams/containerd.py`: only what is read, with
the field numbers of containerd's API (1.x, unchanged since 1.0).
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_METHOD: Final = "/containerd.services.events.v1.Events/Subscribe"
_FILTERS: Final = tuple(
    f'namespace==k8s.io,topic=="{topic}"'
    for topic in ("/tasks/exit", "/images/create", "/images/update")
)
_MESSAGES: Final[Mapping[str, tuple[tuple[int, str, str], ...]]] = {
    "SubscribeRequest": ((1, "filters", "repeated"),),
    "Payload": ((1, "type_url", "string"), (2, "value", "bytes")),
    "Envelope": ((2, "namespace", "string"), (3, "topic", "string"), (4, "event", "Payload")),
    # The exit of a task names the container and the process, which for the first one is the same.
    "TaskExit": ((1, "container_id", "string"), (2, "id", "string")),
    "ImageChange": ((1, "name", "string"),),
}


def _message_classes() -> dict[str, Any]:
    """Make the classes in a pool of their own, so that no other package's names collide."""
    package = "sampan.containerd.events"
    file = descriptor_pb2.FileDescriptorProto(
        name="sampan/containerd_events.proto", package=package, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, label, type_ in fields:
            field = message.field.add(name=label, number=number)
            field.label = field.LABEL_REPEATED if type_ == "repeated" else field.LABEL_OPTIONAL
            if type_ in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{package}.{type_}"
            else:
                field.type = field.TYPE_BYTES if type_ == "bytes" else field.TYPE_STRING
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in _MESSAGES
    }


_CLASSES: Final = _message_classes()


async def subscribe(channel: Any) -> AsyncIterator[tuple[str, str]]:
    """Yield (topic, container or image name); raises grpc.RpcError when the stream breaks."""
    call = channel.unary_stream(
        _METHOD,
        request_serializer=_CLASSES["SubscribeRequest"].SerializeToString,
        response_deserializer=_CLASSES["Envelope"].FromString,
    )
    async for envelope in call(_CLASSES["SubscribeRequest"](filters=_FILTERS)):
        if subject := _subject(envelope.topic, envelope.event.value):
            yield envelope.topic, subject


def _subject(topic: str, payload: bytes) -> str:
    """Whom an event is about; "" for the end of a process that was only exec'd."""
    if topic.startswith("/images/"):
        return str(_CLASSES["ImageChange"].FromString(payload).name)
    ended = _CLASSES["TaskExit"].FromString(payload)
    return str(ended.container_id) if ended.id == ended.container_id else ""
