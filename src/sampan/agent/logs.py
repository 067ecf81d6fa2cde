"""Containers' logs as the runtime writes them: the CRI log format, read back as clients ask.

A container's log is the file `LOGS/NAMESPACE_POD_UID/CONTAINER/ATTEMPT.log`. Beside it stay its
older parts, `ATTEMPT.log.TIME`, from when it grew too big; together they are read as one log.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from sampan.api.errors import BadRequest
from sampan.api.objects import Object
from sampan.api.time import parse_time

BLOCK: Final = 65536
PARTIAL: Final = b"P"
_IMAGE_PROBLEMS: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class LogQuery(Struct, frozen=True, kw_only=True):
    """What of a log is wanted; the fields are those of PodLogOptions."""

    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None
    """In bytes."""


class Entry(Struct, frozen=True):
    """One line of the file: a whole line of the container's, or a part of a long one."""

    time: bytes
    text: bytes
    """With its line end, unless the line goes on in the next entry."""


def parse_entry(line: bytes) -> Entry | None:
    """Read one line of the CRI log format; None if it is not of that format."""
    parts = line.removesuffix(b"\n").split(b" ", 3)
    if len(parts) != 4 or parts[1] not in {b"stdout", b"stderr"}:  # noqa: PLR2004 - time, stream, tags, text
        return None
    time, _, tags, text = parts
    partial = tags.split(b":")[0] == PARTIAL
    return Entry(time, text if partial else text + b"\n")


class Formatter:
    """Turns lines of the file into what the client gets, within its limits."""

    def __init__(self, query: LogQuery) -> None:
        self._query = query
        self._left = query.limit
        self._begins = True
        self._late_enough = query.since is None

    @property
    def full(self) -> bool:
        """Whether the client's limit is reached."""
        return self._left is not None and self._left <= 0

    def write(self, line: bytes) -> bytes:
        entry = parse_entry(line)
        if entry is None or not self._wanted(entry):
            return b""
        stamp = entry.time + b" " if self._query.timestamps and self._begins else b""
        self._begins = entry.text.endswith(b"\n")
        out = stamp + entry.text
        if self._left is not None:
            out = out[: max(self._left, 0)]
            self._left -= len(out)
        return out

    def _wanted(self, entry: Entry) -> bool:
        # The entries are in order, so times need no look after the first that is late enough.
        if not self._late_enough and self._query.since:
            self._late_enough = _time(entry.time) >= self._query.since
        return self._late_enough


def _time(text: bytes) -> datetime:
    return parse_time(text.decode())


def container_id(pod: Object, container: str, *, previous: bool) -> str:
    """Say which container's log is meant, by the Pod's status; the refusals are a kubelet's."""
    name = pod["metadata"]["name"]
    where = f'container "{container}" in pod "{name}"'
    status = _status_of(pod, container)
    if status is None:
        raise BadRequest(f"{where} is waiting to start: {_pod_waits(pod)}")
    state, last = status.get("state") or {}, status.get("lastState") or {}
    ended = (last.get("terminated") or {}).get("containerID", "")
    if previous:
        if not ended:
            raise BadRequest(f"previous terminated {where} not found")
        return str(ended)
    if "running" in state:
        return str(status.get("containerID", ""))
    if "terminated" in state:
        found = state["terminated"].get("containerID") or ended
        if not found:
            raise BadRequest(f"{where} is terminated")
        return str(found)
    if ended:
        return str(ended)
    reason = (state.get("waiting") or {}).get("reason", "")
    raise BadRequest(
        f"{where} is waiting to start: {_IMAGE_PROBLEMS.get(reason, reason or 'no logs yet')}"
    )


def _status_of(pod: Object, container: str) -> Object | None:
    status = pod.get("status") or {}
    groups = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    every = [entry for group in groups for entry in status.get(group) or ()]
    return next((entry for entry in every if entry.get("name") == container), None)


def _pod_waits(pod: Object) -> str:
    return "ContainerCreating" if pod["spec"].get("nodeName") else "the pod has no node yet"


class LogFile:
    """Reads a log that is being written and rotated, from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        if self._file:
            self._file.close()

    def start(self, tail: int | None) -> Iterator[bytes]:
        """Yield the lines that are there, or the last *tail* of them; `more` goes on from there."""
        older = rotated(self._path)
        self._open()
        if tail is None:
            for path in older:
                with path.open("rb") as part:
                    yield from part
        else:
            missing = tail - (_seek_tail(self._file, tail) if self._file else 0)
            yield from _last_lines(older, missing)
        yield from self.more()

    def more(self) -> Iterator[bytes]:
        """Yield the whole lines that have come since, through any rotation."""
        while True:
            if self._file is None and not self._open():
                return
            yield from self._lines()
            if not self._replaced():
                return
            yield from self._lines()  # what came between reading and renaming
            self.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            return False
        return True

    def _lines(self) -> Iterator[bytes]:
        while self._file and (block := self._file.read(BLOCK)):
            *lines, self._rest = (self._rest + block).split(b"\n")
            yield from lines

    def _replaced(self) -> bool:
        """Whether the path names another file now, or this one was cut off."""
        if self._file is None:
            return False
        mine = os.fstat(self._file.fileno())
        if mine.st_size < self._file.tell():
            return True
        try:
            return self._path.stat().st_ino != mine.st_ino
        except FileNotFoundError:
            return False  # renamed, and the runtime has not opened the next one yet


def rotated(path: Path) -> list[Path]:
    """The older parts of a log, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"))


def _seek_tail(file: BinaryIO, lines: int) -> int:
    """Move to where the last *lines* lines begin; return how many there are."""
    end = position = file.seek(0, os.SEEK_END)
    wanted = lines + 1 if _ends_with_newline(file, end) else lines
    seen = 0
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        cut = len(block)
        while (cut := block.rfind(b"\n", 0, cut)) >= 0:
            seen += 1
            if seen == wanted:
                file.seek(position + cut + 1)
                return lines
    file.seek(0)
    return seen if wanted > lines else seen + (end > 0)


def _ends_with_newline(file: BinaryIO, end: int) -> bool:
    if not end:
        return False
    file.seek(end - 1)
    return file.read(1) == b"\n"


def _last_lines(paths: list[Path], count: int) -> list[bytes]:
    """The last *count* lines of several files taken together."""
    found: list[bytes] = []
    for path in reversed(paths):
        if count <= 0:
            break
        with path.open("rb") as part:
            count -= _seek_tail(part, count)
            found = [*part, *found]
    return found


async def read(file: LogFile, query: LogQuery) -> AsyncIterator[bytes]:
    """Yield what is there now, in blocks of a sensible size."""
    formatter = Formatter(query)
    async for block in blocks(file.start(query.tail), formatter):
        yield block


async def blocks(lines: Iterator[bytes], formatter: Formatter) -> AsyncIterator[bytes]:
    """Format *lines* and put them together; other work gets its turn after each block."""
    out = bytearray()
    for line in lines:
        if formatter.full:
            break
        out += formatter.write(line)
        if len(out) >= BLOCK:
            yield bytes(out)
            out.clear()
            await asyncio.sleep(0)
    if out:
        yield bytes(out)
