"""`exec`: a new process in a running container, wired to the client.

When the process has ended, what it wrote is sent first and how it ended last. When the client is
gone first, the process is killed.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import grpc
from msgspec import Struct, convert

from sampan.agent.streams import channels
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.containers import reason, running_container
from sampan.agent.streams.process import CHUNK, Process, Streams, process_spec, running_process
from sampan.agent.streams.stream import Frame, Params, Stream, until_first
from sampan.api.errors import BadRequest, InternalError

_DRAINED_WITHIN: Final = 2.0
_SIZE_WITHIN: Final = 0.25
_CHANNELS: Final = {"stdout": channels.STDOUT, "stderr": channels.STDERR}


class ExecParams(Struct, frozen=True, kw_only=True):
    namespace: str
    pod: str
    container: str
    command: Sequence[str]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = False
    tty: bool = False


async def serve_exec(containerd: Containerd, scratch: Path, params: Params, stream: Stream) -> None:
    asked = convert(dict(params), ExecParams)
    if not asked.command:
        raise BadRequest("you must specify at least one command for the container")
    try:
        found = await running_container(containerd, asked.namespace, asked.pod, asked.container)
        spec = await containerd.container_spec(found.id)
    except grpc.RpcError as error:
        raise InternalError(f"the container runtime does not answer: {reason(error)}") from error
    streams = Streams(asked.stdin, asked.stdout, asked.stderr, asked.tty)
    await stream.accept()
    async with asyncio.TaskGroup() as group:
        frames = stream.frames()
        first = group.create_task(_next(frames))
        size = await _first_size(first) if asked.tty else None
        process = process_spec(spec, asked.command, tty=asked.tty, size=size)
        try:
            async with running_process(containerd, found.id, process, streams, scratch) as running:
                if size:
                    await running.resize(*size)  # runtimes before runc 1.2 take no size at birth
                obeying = _obey(running, first, frames)
                await until_first(_finish(running, asked.command, stream), obeying)
        except grpc.RpcError as error:
            await stream.send(channels.final_frame(_could_not_start(reason(error))))
        finally:
            first.cancel()


async def _next(frames: AsyncIterator[Frame]) -> Frame | None:
    return await anext(frames, None)


async def _first_size(first: "asyncio.Task[Frame | None]") -> tuple[int, int] | None:
    """Wait a moment for the client's terminal size: programs look at it when they start."""
    await asyncio.wait({first}, timeout=_SIZE_WITHIN)
    frame = first.result() if first.done() else None
    if isinstance(frame, bytes) and frame[:1] == bytes((channels.RESIZE,)):
        return channels.parse_size(frame[1:])
    return None


async def _finish(process: Process, command: Sequence[str], stream: Stream) -> None:
    """Send all output and then the exit status."""
    async with asyncio.TaskGroup() as group:
        copies = [
            group.create_task(_copy(reader, _CHANNELS[name], stream))
            for name, reader in process.outputs.items()
        ]
        code = await process.wait()
        if copies:
            # A child that outlives the process may hold its output open for ever.
            _, late = await asyncio.wait(copies, timeout=_DRAINED_WITHIN)
            for copy in late:
                copy.cancel()
    status = channels.exit_status(code, shlex.join(command))
    await stream.send(channels.final_frame(status))


async def _copy(reader: asyncio.StreamReader, channel: int, stream: Stream) -> None:
    while data := await reader.read(CHUNK):
        await stream.send(channels.frame(channel, data))


async def _obey(
    process: Process, first: "asyncio.Task[Frame | None]", frames: AsyncIterator[Frame]
) -> None:
    """Do what the client's frames say until the client is gone."""
    frame = await first
    while frame is not None:
        if isinstance(frame, bytes) and frame:
            await _do(process, frame[0], frame[1:])
        frame = await _next(frames)


async def _do(process: Process, channel: int, data: bytes) -> None:
    if channel == channels.STDIN:
        await process.write(data)
    elif channel == channels.RESIZE and (size := channels.parse_size(data)):
        await process.resize(*size)
    elif channel == channels.CLOSE and data[:1] == bytes((channels.STDIN,)):
        await process.close_stdin()


def _could_not_start(why: str) -> dict[str, object]:
    return InternalError(
        f"Internal error occurred: error executing command in container: {why}"
    ).status()
