"""`attach`: the client at a running container's own streams.

CRI reads a container's FIFOs, so only CRI can share them: its frames are those of
`v4.channel.k8s.io`, which lack the close of a channel. That is told to the task service instead.
"""

import asyncio

import aiohttp
import grpc
from cri_api.v1 import api_pb2
from msgspec import Struct, convert

from sampan.agent.streams import channels
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.containers import reason, running_container
from sampan.agent.streams.stream import Params, Stream, until_first
from sampan.api.errors import InternalError


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
    try:
        found = await running_container(containerd, asked.namespace, asked.pod, asked.container)
        request = api_pb2.AttachRequest(
            container_id=found.id,
            stdin=asked.stdin,
            stdout=asked.stdout,
            stderr=asked.stderr and not asked.tty,
            tty=asked.tty,
        )
        answer = await containerd.cri.Attach(request)
    except grpc.RpcError as error:
        raise InternalError(f"cannot attach to {asked.container}: {reason(error)}") from error
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(answer.url, protocols=("v4.channel.k8s.io",), max_msg_size=0) as runtime,
    ):
        await stream.accept()
        await until_first(_show(runtime, stream), _obey(containerd, found.id, runtime, stream))


async def _show(runtime: "aiohttp.ClientWebSocketResponse[bool]", stream: Stream) -> None:
    """Send what the container writes, until it ends; CRI's last frame is its final status."""
    ended = False
    async for message in runtime:
        if message.type is aiohttp.WSMsgType.BINARY and len(message.data) > 1:
            await stream.send(message.data)
            ended = message.data[0] == channels.ERROR
    if not ended:
        await stream.send(channels.final_frame(channels.SUCCESS))


async def _obey(
    containerd: Containerd,
    container: str,
    runtime: "aiohttp.ClientWebSocketResponse[bool]",
    stream: Stream,
) -> None:
    async for frame in stream.frames():
        if not isinstance(frame, bytes) or not frame:
            continue
        if frame[0] in {channels.STDIN, channels.RESIZE}:
            await runtime.send_bytes(frame)
        elif frame == bytes((channels.CLOSE, channels.STDIN)):
            await asyncio.shield(containerd.close_stdin(container))
