"""containerd's own services, where CRI is not enough: processes with FIFOs, and events of one task.

The messages are described here as data: only the fields that are used, with the numbers of
containerd's API (1.x, unchanged since 1.0). gRPC needs no more than that, so there is no generated
code to keep and no compiler to install.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
from cri_api.v1.api_pb2_grpc import ImageServiceStub, RuntimeServiceStub
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sampan.api.objects import Object

PROCESS_TYPE: Final = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_TASKS: Final = "containerd.services.tasks.v1.Tasks"
_CONTAINERS: Final = "containerd.services.containers.v1.Containers"
_RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_NAMESPACE: Final = (("containerd-namespace", "k8s.io"),)

_MESSAGES: Final[Mapping[str, tuple[tuple[int, str, str], ...]]] = {
    "Empty": (),
    "Any": ((1, "type_url", "string"), (2, "value", "bytes")),
    "GetContainerRequest": ((1, "id", "string"),),
    "Container": ((1, "id", "string"), (5, "spec", "Any")),
    "GetContainerResponse": ((1, "container", "Container"),),
    "ProcessRequest": ((1, "container_id", "string"), (2, "exec_id", "string")),
    "Process": ((1, "container_id", "string"), (3, "pid", "uint32")),
    "GetResponse": ((1, "process", "Process"),),
    "ExecProcessRequest": (
        (1, "container_id", "string"),
        (2, "stdin", "string"),
        (3, "stdout", "string"),
        (4, "stderr", "string"),
        (5, "terminal", "bool"),
        (6, "spec", "Any"),
        (7, "exec_id", "string"),
    ),
    "KillRequest": (
        (1, "container_id", "string"),
        (2, "exec_id", "string"),
        (3, "signal", "uint32"),
    ),
    "ResizePtyRequest": (
        (1, "container_id", "string"),
        (2, "exec_id", "string"),
        (3, "width", "uint32"),
        (4, "height", "uint32"),
    ),
    "CloseIORequest": (
        (1, "container_id", "string"),
        (2, "exec_id", "string"),
        (3, "stdin", "bool"),
    ),
    "WaitResponse": ((1, "exit_status", "uint32"),),
}


def _message_classes() -> dict[str, Any]:
    """Make the classes in a pool of their own, so that no other package's names collide."""
    file = descriptor_pb2.FileDescriptorProto(
        name="sampan/containerd.proto", package="sampan.containerd", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, type_ in fields:
            _add_field(message, number, field, type_)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in _MESSAGES
    }


def _add_field(message: Any, number: int, name: str, type_: str) -> None:
    field = message.field.add(name=name, number=number, label=1)
    if type_ in _MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".sampan.containerd.{type_}"
    else:
        field.type = getattr(field, f"TYPE_{type_.upper()}")


_CLASSES: Final = _message_classes()


class Containerd:
    """One node's containerd: its own services, and CRI's as they are; raises grpc.RpcError."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.cri = RuntimeServiceStub(channel)
        self.images = ImageServiceStub(channel)

    async def container_spec(self, container: str) -> Object:
        """Return the OCI runtime spec that *container* was created with."""
        answer = await self._call(
            _CONTAINERS, "Get", "GetContainerRequest", "GetContainerResponse", id=container
        )
        spec: Object = orjson.loads(answer.container.spec.value)
        return spec

    async def pid(self, container: str) -> int:
        """Return the process id of the container's first process, as this node sees it."""
        answer = await self._call(
            _TASKS, "Get", "ProcessRequest", "GetResponse", container_id=container
        )
        return int(answer.process.pid)

    async def add_process(
        self, container: str, exec_id: str, process: Object, io: Mapping[str, str], *, tty: bool
    ) -> None:
        """Prepare *process* (OCI JSON) in a running container; *io* names its FIFOs by stream."""
        spec = _CLASSES["Any"](type_url=PROCESS_TYPE, value=orjson.dumps(process))
        await self._call(
            _TASKS,
            "Exec",
            "ExecProcessRequest",
            container_id=container,
            exec_id=exec_id,
            terminal=tty,
            spec=spec,
            **io,
        )

    async def start(self, container: str, exec_id: str) -> None:
        await self._call(_TASKS, "Start", "ProcessRequest", container_id=container, exec_id=exec_id)

    async def wait(self, container: str, exec_id: str = "") -> int:
        """Wait for the end of a process, or of the container itself; return its exit code."""
        answer = await self._call(
            _TASKS,
            "Wait",
            "ProcessRequest",
            "WaitResponse",
            container_id=container,
            exec_id=exec_id,
        )
        return int(answer.exit_status)

    async def kill(self, container: str, exec_id: str, signal: int) -> None:
        await self._call(
            _TASKS, "Kill", "KillRequest", container_id=container, exec_id=exec_id, signal=signal
        )

    async def remove_process(self, container: str, exec_id: str) -> None:
        await self._call(
            _TASKS, "DeleteProcess", "ProcessRequest", container_id=container, exec_id=exec_id
        )

    async def resize(self, container: str, exec_id: str, width: int, height: int) -> None:
        await self._call(
            _TASKS,
            "ResizePty",
            "ResizePtyRequest",
            container_id=container,
            exec_id=exec_id,
            width=width,
            height=height,
        )

    async def close_stdin(self, container: str, exec_id: str = "") -> None:
        """Drop the runtime's own hold on a process's stdin, so that it reads an end of file."""
        await self._call(
            _TASKS,
            "CloseIO",
            "CloseIORequest",
            container_id=container,
            exec_id=exec_id,
            stdin=True,
        )

    async def _call(
        self, service: str, method: str, asks: str, answers: str = "Empty", **fields: Any
    ) -> Any:
        call = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=_CLASSES[asks].SerializeToString,
            response_deserializer=_CLASSES[answers].FromString,
        )
        return await call(_CLASSES[asks](**fields), metadata=_NAMESPACE)


@asynccontextmanager
async def open_containerd(socket: Path) -> AsyncIterator[Containerd]:
    async with grpc.aio.insecure_channel(f"unix://{socket}", options=_RECONNECT) as channel:
        yield Containerd(channel)
