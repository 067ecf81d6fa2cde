"""A process in a running container, and its three streams as FIFOs.

containerd's shim copies between the FIFOs and the process. Its ends are opened before `Start`
returns, so ours are opened first and read only then; stdin is opened for reading too, so that
opening it never waits and writing never breaks.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import grpc
from msgspec import Struct

from sampan.agent.streams.containerd import Containerd
from sampan.api.objects import Object

CHUNK: Final = 32768
_KILLED_WITHIN: Final = 5.0


class Streams(Struct, frozen=True):
    """Which streams the client asked for; a terminal has no stderr of its own."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = False
    tty: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        asked = {"stdout": self.stdout, "stderr": self.stderr and not self.tty}
        return tuple(name for name, wanted in asked.items() if wanted)


class Fifos:
    """Our ends of a process's streams; made by `fifos`."""

    def __init__(self, directory: Path, streams: Streams) -> None:
        names = (*(("stdin",) if streams.stdin else ()), *streams.outputs)
        self.paths = {name: str(directory / name) for name in names}
        for path in self.paths.values():
            os.mkfifo(path, 0o600)
        self._stdin = (
            os.open(self.paths["stdin"], os.O_RDWR | os.O_NONBLOCK) if streams.stdin else None
        )
        self._unread = {
            name: os.open(self.paths[name], os.O_RDONLY | os.O_NONBLOCK) for name in streams.outputs
        }
        self._transports: list[asyncio.BaseTransport] = []

    async def outputs(self) -> dict[str, asyncio.StreamReader]:
        """Begin to read; before the other side has opened them, they would seem to be at an end."""
        loop = asyncio.get_running_loop()
        readers = {}
        while self._unread:
            name, fd = self._unread.popitem()
            reader = readers[name] = asyncio.StreamReader(limit=2 * CHUNK)
            protocol = asyncio.StreamReaderProtocol(reader)
            pipe = os.fdopen(fd, "rb", buffering=0)
            transport, _ = await loop.connect_read_pipe(lambda p=protocol: p, pipe)  # type: ignore[misc]
            self._transports.append(transport)
        return readers

    async def write(self, data: bytes) -> None:
        """Write to stdin, waiting while nobody reads; nowhere once it is closed."""
        while data and self._stdin is not None:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                await _writable(self._stdin)

    def close_stdin(self) -> None:
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def close(self) -> None:
        self.close_stdin()
        for transport in self._transports:
            transport.close()
        for fd in self._unread.values():
            os.close(fd)


class Process:
    """A process that runs until `running_process` is left."""

    def __init__(
        self,
        containerd: Containerd,
        container: str,
        exec_id: str,
        io: Fifos,
        outputs: dict[str, asyncio.StreamReader],
    ) -> None:
        self._containerd = containerd
        self._container = container
        self._id = exec_id
        self._io = io
        self.outputs = outputs

    async def wait(self) -> int:
        return await self._containerd.wait(self._container, self._id)

    async def resize(self, width: int, height: int) -> None:
        with suppress(grpc.RpcError):  # it may have ended meanwhile
            await self._containerd.resize(self._container, self._id, width, height)

    async def write(self, data: bytes) -> None:
        await self._io.write(data)

    async def close_stdin(self) -> None:
        self._io.close_stdin()
        with suppress(grpc.RpcError):  # it may have ended meanwhile
            await self._containerd.close_stdin(self._container, self._id)


def process_spec(
    container: Object,
    command: Sequence[str],
    *,
    tty: bool,
    size: tuple[int, int] | None = None,
) -> Object:
    """Derive a further process's spec from its container's: same user, rights, directory."""
    process = dict(container["process"])
    for leftover in ("commandLine", "consoleSize"):
        process.pop(leftover, None)
    process["args"] = list(command)
    process["terminal"] = tty
    if tty:
        kept = [entry for entry in process.get("env") or () if not entry.startswith("TERM=")]
        process["env"] = [*kept, "TERM=xterm"]
    if size:
        process["consoleSize"] = {"width": size[0], "height": size[1]}
    return process


@asynccontextmanager
async def running_process(
    containerd: Containerd, container: str, spec: Object, streams: Streams, scratch: Path
) -> AsyncIterator[Process]:
    """Start a process; however this is left, it has ended by then and nothing of it remains."""
    exec_id = uuid4().hex
    with _fifos(scratch / exec_id, streams) as io:
        try:
            await containerd.add_process(container, exec_id, spec, io.paths, tty=streams.tty)
            await containerd.start(container, exec_id)
            yield Process(containerd, container, exec_id, io, await io.outputs())
        finally:
            await _remove(containerd, container, exec_id)


@contextmanager
def _fifos(directory: Path, streams: Streams) -> Iterator[Fifos]:
    directory.mkdir(parents=True, mode=0o700)
    try:
        ends = Fifos(directory, streams)
        try:
            yield ends
        finally:
            ends.close()
    finally:
        shutil.rmtree(directory)


async def _remove(containerd: Containerd, container: str, exec_id: str) -> None:
    with suppress(grpc.RpcError, TimeoutError):  # it may have ended, or never started
        await containerd.kill(container, exec_id, signal.SIGKILL)
        await asyncio.wait_for(containerd.wait(container, exec_id), _KILLED_WITHIN)
    with suppress(grpc.RpcError):  # its container may be gone, and it with it
        await containerd.remove_process(container, exec_id)


def _done(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
