"""`logs`: what a container wrote, from the file that the runtime keeps; to its end if followed."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
from cri_api.v1 import api_pb2
from msgspec import Struct, convert

from sampan.agent.logs import Formatter, LogFile, LogQuery, blocks, container_id
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.containers import reason
from sampan.agent.streams.inotify import watching
from sampan.agent.streams.stream import Params, Stream, client_left, until_first
from sampan.api.errors import BadRequest, InternalError
from sampan.api.objects import Object

_FLUSHED_WITHIN: Final = 3.0
_LOOK: Final = 0.02

FindPod = Callable[[str, str], Awaitable[Object]]
"""By namespace and name; raises an ApiError if there is none."""


class LogParams(Struct, frozen=True, kw_only=True, rename="camel"):
    namespace: str
    pod: str
    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: datetime | None = None
    limit_bytes: int | None = None

    def query(self, now: datetime) -> LogQuery:
        since = self.since_time
        if self.since_seconds is not None:
            since = now - timedelta(seconds=self.since_seconds)
        return LogQuery(
            timestamps=self.timestamps, tail=self.tail_lines, since=since, limit=self.limit_bytes
        )


async def serve_logs(
    containerd: Containerd, find_pod: FindPod, params: Params, stream: Stream
) -> None:
    asked = convert(dict(params), LogParams, strict=False)
    pod = await find_pod(asked.namespace, asked.pod)
    container = container_id(pod, asked.container, previous=asked.previous).rpartition("/")[2]
    path = await _log_path(containerd, container, asked)
    query = asked.query(datetime.now(UTC))
    await stream.accept()
    with closing(LogFile(path)) as file:
        if asked.follow:
            ended = _ended(containerd, container)
            sending = _follow(file, path.parent, query, stream, ended)
        else:
            sending = _send(file.start(query.tail), Formatter(query), stream)
        await until_first(sending, client_left(stream))


async def _log_path(containerd: Containerd, container: str, asked: LogParams) -> Path:
    try:
        request = api_pb2.ContainerStatusRequest(container_id=container)
        answer = await containerd.cri.ContainerStatus(request)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise BadRequest(
                f'the log of container "{asked.container}" in pod "{asked.pod}" is gone: '
                "the container was removed"
            ) from error
        raise InternalError(f"the container runtime does not answer: {reason(error)}") from error
    return Path(answer.status.log_path)


async def _send(lines: Iterator[bytes], formatter: Formatter, stream: Stream) -> None:
    async for block in blocks(lines, formatter):
        await stream.send(block)


async def _follow(
    file: LogFile,
    directory: Path,
    query: LogQuery,
    stream: Stream,
    ended: Coroutine[Any, Any, None],
) -> None:
    """Send what is there and what comes, until the container has ended or the limit is reached."""
    formatter = Formatter(query)
    async with watching(directory) as changes, asyncio.TaskGroup() as group:
        end = group.create_task(ended)
        end.add_done_callback(lambda _: changes.note())
        await _send(file.start(query.tail), formatter, stream)
        while not formatter.full:
            over = end.done()
            await _send(file.more(), formatter, stream)
            if over:
                return
            await changes.wait()
        end.cancel()


async def _ended(containerd: Containerd, container: str) -> None:
    """Wait until the container has ended and the runtime has written the last of its log."""
    with suppress(grpc.RpcError):  # it had ended before
        await containerd.wait(container)
    request = api_pb2.ContainerStatusRequest(container_id=container)
    with suppress(grpc.RpcError, TimeoutError):  # it is removed already, or the runtime is gone
        async with asyncio.timeout(_FLUSHED_WITHIN):
            while await _running(containerd, request):  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(_LOOK)


async def _running(containerd: Containerd, request: Any) -> bool:
    answer = await containerd.cri.ContainerStatus(request)
    return bool(answer.status.state == api_pb2.CONTAINER_RUNNING)
