"""`sampan logs`: what an application's replicas write, in one stream."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.stack import ProjectName, stack_name
from sampan.cli.terminal import err, fail, out

if TYPE_CHECKING:
    from aiohttp import StreamReader

    from sampan.cli.rollout import Replica
    from sampan.client.cache import Cache
    from sampan.client.connection import Connection
    from sampan.client.http import HttpClient

_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more comes.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="The last lines of each replica.")] = -1,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Show times.")] = False,
    file: Annotated[
        list[Path] | None, typer.Option("--file", help="A Compose file; else compose.yaml here.")
    ] = None,
    project: ProjectName = "",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show an application's logs, each line with the replica that wrote it."""
    wanted = _Wanted(set(services or ()), tail, timestamps=timestamps, follow=follow)
    try:
        run(_logs(connect(kubeconfig), project, file, wanted))
    except BrokenPipeError:
        sys.stderr.close()  # the reader, such as `head`, has seen enough


@dataclass(frozen=True, slots=True)
class _Wanted:
    services: set[str]
    tail: int
    timestamps: bool
    follow: bool


async def _logs(
    connection: "Connection", project: str, files: list[Path] | None, wanted: _Wanted
) -> None:
    from sampan.client.http import HttpClient  # noqa: PLC0415 - slow imports

    async with HttpClient(connection) as client:
        stack = await stack_name(client, project, files)
        await _check_services(client, stack, wanted.services)
        reader = _Reader(client, stack, wanted)
        await (_follow if wanted.follow else _show)(reader, wanted.services)


async def _check_services(client: "HttpClient", stack: str, services: set[str]) -> None:
    from sampan.api import kinds  # noqa: PLC0415
    from sampan.cli.rollout import STACK  # noqa: PLC0415

    listing = await client.list(kinds.DEPLOYMENTS, stack, labels=STACK)
    known = {each["metadata"]["name"] for each in listing.items}
    for service in sorted(services - known):
        fail(f"{stack} has no service {service!r}", hint=f"it has: {', '.join(sorted(known))}")


class _Reader:
    """Prints the logs of one stack's replicas, each in its own colour."""

    def __init__(self, client: "HttpClient", stack: str, wanted: _Wanted) -> None:
        self.client = client
        self.stack = stack
        self.tail = {"tailLines": str(wanted.tail)} if wanted.tail >= 0 else {}
        self._times = {"timestamps": "true"} if wanted.timestamps else {}
        self._colours: dict[str, int] = {}

    async def show(self, replica: "Replica", params: dict[str, str]) -> None:
        """Print what the server sends until it ends; raises an ApiError."""
        from sampan.api import kinds  # noqa: PLC0415

        name = replica.metadata.name
        path = kinds.PODS.path(self.stack, name, "log")
        asked = {"container": replica.service, **self._times, **params}
        async with self.client.request("GET", path, params=asked) as response:
            async for line in _lines(response.content):
                self._print(name, line)

    def _print(self, name: str, line: str) -> None:
        prefix = name
        if out.is_terminal:
            colour = self._colours.setdefault(name, len(self._colours))
            prefix = f"\x1b[{_COLOURS[colour % len(_COLOURS)]}m{name}\x1b[0m"
        sys.stdout.write(f"{prefix} | {line}\n")
        sys.stdout.flush()


async def _lines(stream: "StreamReader") -> AsyncIterator[str]:
    """Decode lines of any length, each as soon as it is complete."""
    begun = b""
    while chunk := await stream.read(1 << 16):
        *whole, begun = (begun + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if begun:
        yield begun.decode(errors="replace")


async def _show(reader: _Reader, services: set[str]) -> None:
    from sampan.api import kinds  # noqa: PLC0415
    from sampan.api.errors import BadRequest, NotFound  # noqa: PLC0415
    from sampan.cli.ps import in_order  # noqa: PLC0415
    from sampan.cli.rollout import STACK, Replica  # noqa: PLC0415

    listing = await reader.client.list(kinds.PODS, reader.stack, labels=STACK)
    replicas = [
        replica
        for replica in in_order(map(Replica.of, listing.items))
        if not services or replica.service in services
    ]
    if not replicas:
        err.print(f"{reader.stack} has no replicas yet; to wait for them: sampan logs -f")
    for replica in replicas:
        try:
            await reader.show(replica, reader.tail)
        except (BadRequest, NotFound) as error:
            err.print(f"{replica.metadata.name}: {error}", markup=False)


async def _follow(reader: _Reader, services: set[str]) -> None:
    """Follow every replica, those too that come later, until interrupted."""
    from sampan.cli.rollout import STACK, Replica  # noqa: PLC0415
    from sampan.client.cache import Cache, Delta, Interest  # noqa: PLC0415

    cache = Cache(reader.client, [Interest(Replica, reader.stack, labels=STACK)])
    followed: set[str] = set()
    async with asyncio.TaskGroup() as group:

        def notice(delta: Delta[Replica]) -> None:
            replica = delta.latest
            wanted = not services or replica.service in services
            if wanted and delta.new and replica.metadata.uid not in followed:
                followed.add(replica.metadata.uid)
                group.create_task(_follow_replica(reader, cache, replica))

        cache.subscribe(notice)
        await cache.run()


async def _follow_replica(reader: _Reader, cache: "Cache", replica: "Replica") -> None:
    """Show each run of its container from its start to its end, until the replica is gone."""
    from sampan.api.errors import ApiError  # noqa: PLC0415

    shown = ""
    changed = asyncio.Event()
    cache.subscribe(lambda _: changed.set())
    while latest := _same(cache, replica):
        if (container := latest.container.container_id) != shown:
            tail = {} if shown else reader.tail
            try:
                await reader.show(latest, {"follow": "true", **tail})
            except ApiError as error:
                err.print(f"{latest.metadata.name}: {error}", markup=False)
            shown = container
        changed.clear()
        await changed.wait()


def _same(cache: "Cache", replica: "Replica") -> "Replica | None":
    found = cache.get(type(replica), replica.metadata.namespace, replica.metadata.name)
    return found if found and found.metadata.uid == replica.metadata.uid else None
