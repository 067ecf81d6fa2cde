"""`attach`: the client at a running container's own streams.

CRI reads a container's FIFOs, so only CRI can share them. Its WebSockets speak `v4.channel.k8s.io`,
which cannot close stdin alone; so stdin has a socket of its own, and closing that is its end, if
the container was made to be attached to once (`stdinOnce`).
"""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import grpc
from cri_api.v1 import api_pb2
from msgspec import Struct, convert

from sampan.agent.streams import channels
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.containers import reason, running_container
from sampan.agent.streams.stream import Params, Stream, until_first
from sampan.api.errors import InternalError

Socket = aiohttp.ClientWebSocketResponse


class AttachParams(Struct, frozen=True, kw_only=True):
    namespace: str
    pod: str
    container: str
    stdin: bool = False
    stdout: bool = True
    stderr: bool = False
    tty: bool = False


async def serve_attach(containerd: Containerd, params: Params, stream: Stream) -> None:
    asked = convert(dict(params), AttachParams)
    async with aiohttp.ClientSession() as session, AsyncExitStack() as sockets:
        try:
            found = await running_container(containerd, asked.namespace, asked.pod, asked.container)
            outputs = await _open(containerd, session, found.id, asked)
            sockets.push_async_callback(outputs.close)
            inputs = await _open(containerd, session, found.id, asked)
            sockets.push_async_callback(inputs.close)
        except grpc.RpcError as error:
            raise InternalError(f"cannot attach to {asked.container}: {reason(error)}") from error
        await stream.accept()
        async with asyncio.TaskGroup() as group:
            unread = group.create_task(_discard(inputs))
            await until_first(_show(outputs, stream), _obey(inputs, stream))
            unread.cancel()


async def _open(
    containerd: Containerd, session: aiohttp.ClientSession, container: str, asked: AttachParams
) -> Socket:
    """Attach to the container: to its stdin and stdout in any case.

    A WebSocket that asks for one of them only is to CRI one whose client has closed stdin.
    """
    request = api_pb2.AttachRequest(
        container_id=container,
        stdin=True,
        stdout=True,
        stderr=asked.stderr and not asked.tty,
        tty=asked.tty,
    )
    answer = await containerd.cri.Attach(request)
    return await session.ws_connect(answer.url, protocols=("v4.channel.k8s.io",), max_msg_size=0)


async def _show(outputs: Socket, stream: Stream) -> None:
    """Send what the container writes, until it ends; CRI's last frame is its final status."""
    ended = False
    async for message in outputs:
        if message.type is aiohttp.WSMsgType.BINARY and len(message.data) > 1:
            await stream.send(message.data)
            ended = message.data[0] == channels.ERROR
    if not ended:
        await stream.send(channels.final_frame(channels.SUCCESS))


async def _obey(inputs: Socket, stream: Stream) -> None:
    """Do what the client's frames say until the client is gone."""
    async for frame in stream.frames():
        if not isinstance(frame, bytes) or not frame:
            continue
        if frame == bytes((channels.CLOSE, channels.STDIN)):
            await inputs.close()
        elif frame[0] in {channels.STDIN, channels.RESIZE} and not inputs.closed:
            await inputs.send_bytes(frame)


async def _discard(inputs: Socket) -> None:
    """Read what comes a second time: CRI waits for every reader."""
    async for _ in inputs:
        pass
