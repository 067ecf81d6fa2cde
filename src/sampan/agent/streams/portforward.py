"""`portforward`: one TCP connection to a port inside a Pod, 127.0.0.1 included.

A socket belongs to the network namespace in which it was made, whatever thread uses it later. So a
thread of its own enters the Pod's namespace, makes the socket, and ends.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import Final

import grpc
from msgspec import Struct, convert

from sampan.agent import mountns
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.containers import ready_sandbox, reason
from sampan.agent.streams.process import CHUNK
from sampan.agent.streams.stream import Params, Stream
from sampan.api.errors import InternalError

_CONNECTED_WITHIN: Final = 10.0
_LOOPBACKS: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class PortForwardParams(Struct, frozen=True, kw_only=True):
    namespace: str
    pod: str
    port: int


async def serve_portforward(containerd: Containerd, params: Params, stream: Stream) -> None:
    asked = convert(dict(params), PortForwardParams)
    try:
        sandbox = await ready_sandbox(containerd, asked.namespace, asked.pod)
        pid = await containerd.pid(sandbox)
    except grpc.RpcError as error:
        raise InternalError(f"the container runtime does not answer: {reason(error)}") from error
    with closing(await _connect(pid, asked)) as connection:
        await stream.accept()
        async with asyncio.TaskGroup() as group:
            answers = group.create_task(_send_answers(connection, stream))
            await _forward(connection, stream)
            # The client is gone altogether: whatever else comes has nowhere to go.
            answers.cancel()


async def _connect(pid: int, asked: PortForwardParams) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, address in _LOOPBACKS:
        connection = await asyncio.wrap_future(_socket_in(pid, family))
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN):
                await loop.sock_connect(connection, (address, asked.port))
        except OSError as error:
            connection.close()
            failure = failure or error
        else:
            return connection
    raise InternalError(
        f"failed to connect to port {asked.port} in pod {asked.namespace}/{asked.pod}: {failure}"
    )


async def _forward(connection: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    async for frame in stream.frames():
        data = frame if isinstance(frame, bytes) else frame.encode()
        if data:
            await loop.sock_sendall(connection, data)
        else:
            with suppress(OSError):  # the Pod's side may be closed already
                connection.shutdown(socket.SHUT_WR)


async def _send_answers(connection: socket.socket, stream: Stream) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, CHUNK):
        await stream.send(data)
    await stream.send(b"")


def _socket_in(pid: int, family: socket.AddressFamily) -> "Future[socket.socket]":
    """Make a TCP socket in the network of process *pid*, in a thread that then ends."""
    made: Future[socket.socket] = Future()

    def work() -> None:
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as namespace:  # noqa: PTH123 - a file descriptor, not a path
                mountns.enter_network(namespace.fileno())
            made.set_result(socket.socket(family))
        except OSError as error:
            made.set_exception(error)

    threading.Thread(target=work, name="portforward-socket", daemon=True).start()
    return made
