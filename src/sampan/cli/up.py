"""`sampan up`: bring a Compose application up, and say what it waits for until it is ready."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.text import Text

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.stack import Files, ProjectName, read_project, warn
from sampan.cli.terminal import err, fail, out

if TYPE_CHECKING:
    from sampan.api.objects import Object
    from sampan.cli.rollout import ServiceState
    from sampan.client.connection import Connection
    from sampan.client.http import HttpClient
    from sampan.client.interface import Client

LAST_LINES = 15
SETTLING = 1.0
"""Seconds that a stack must stay up if a service has no health check: many programs that cannot run
say so by ending at once, and until then they look ready."""


def up(
    file: Files = None,
    project: ProjectName = "",
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="A profile to activate; may be repeated.")
    ] = None,
    kubeconfig: Kubeconfig = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait until all is ready.")] = 300,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait.")] = False,
) -> None:
    """Bring a Compose application up on the cluster, or up to date; wait until it is ready."""
    from sampan.compose.document import ComposeError  # noqa: PLC0415 - YAML is slow to import
    from sampan.compose.objects import cautions, convert  # noqa: PLC0415

    loaded = read_project(file, project, profile)
    try:
        objects = convert(loaded)
    except ComposeError as error:
        fail(str(error))
    warn(cautions(loaded, objects))
    connection = connect(kubeconfig)
    names = list(loaded.services)
    run(_up(connection, loaded.name, names, objects, 0 if detach else timeout))


async def _up(
    connection: "Connection", stack: str, names: list[str], objects: "list[Object]", seconds: int
) -> None:
    from sampan.cli.applying import NotOurs, PortTaken, apply  # noqa: PLC0415 - slow imports
    from sampan.cli.board import Board  # noqa: PLC0415
    from sampan.client.http import HttpClient  # noqa: PLC0415

    async with HttpClient(connection) as client:
        try:
            await apply(client, objects)
        except NotOurs as error:
            fail(str(error), hint="choose another name: --project NAME")
        except PortTaken as error:
            fail(str(error), hint="publish another port, or take that application down first")
        if not seconds:
            out.print(f"{stack} is on its way; to see how far it is: sampan ps --project {stack}")
            return
        with Board(stack) as board:
            settling = 0 if all(map(_checked, objects)) else SETTLING
            states = await wait(
                client, stack, names, board.show, seconds=seconds, settling=settling
            )
        if not all(state.done for state in states):
            await _explain(client, stack, states, seconds)
        out.print(f"[green]✓[/] {stack} is up, in {board.seconds:.1f} s")
        await _show_ports(client, stack)


def _checked(obj: "Object") -> bool:
    if obj["kind"] != "Deployment":
        return True
    return "readinessProbe" in obj["spec"]["template"]["spec"]["containers"][0]


async def wait(
    client: "Client",
    stack: str,
    names: Sequence[str],
    show: "Callable[[Sequence[ServiceState]], None]",
    *,
    seconds: float,
    settling: float = 0,
) -> "list[ServiceState]":
    """Watch the stack until every service is ready or *seconds* are over; return the last state.

    Unless it is so from the beginning it must then stay ready for *settling* seconds.
    """
    from sampan.cli.rollout import STACK, Deployment, Replica, states  # noqa: PLC0415
    from sampan.client.cache import Cache, Interest  # noqa: PLC0415

    cache = Cache(client, [Interest(each, stack, labels=STACK) for each in (Deployment, Replica)])
    changed = asyncio.Event()
    cache.subscribe(lambda _: changed.set())

    def look() -> "list[ServiceState]":
        seen = states(names, cache.all(Deployment), cache.all(Replica))
        show(seen)
        return seen

    async def until(wanted: bool) -> None:
        while all(state.done for state in look()) is not wanted and not hopeless():
            changed.clear()
            await changed.wait()

    def hopeless() -> bool:
        return any(state.taken_back for state in look())

    async with asyncio.TaskGroup() as group:
        following = group.create_task(cache.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await cache.synced()
                if not all(state.done for state in look()):
                    await until(True)
                    while settling and await _within(settling, until(False)) and not hopeless():
                        await until(True)
        following.cancel()
    return look()


async def _within(seconds: float, event: Coroutine[Any, Any, None]) -> bool:
    """Whether *event* comes in that time."""
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        return False
    return True


async def _explain(
    client: "HttpClient", stack: str, states: "Sequence[ServiceState]", seconds: int
) -> NoReturn:
    """Say why it is not up, with the last words of a replica of each service that is not."""
    for state in states:
        if not state.done:
            err.print(Text.assemble((f"{state.name}: ", "bold"), str(state)))
            words = await _last_check(client, stack, state) + await _last_words(
                client, stack, state
            )
            for line in words:
                err.print(Text(f"  {line}", style="dim"))
    unready = ", ".join(state.name for state in states if not state.done)
    if failed := ", ".join(state.name for state in states if state.taken_back):
        fail(f"{stack} runs its last release again: the new one failed ({failed})")
    fail(
        f"{stack} is not up after {seconds} s: {unready}",
        hint=f"it goes on trying; sampan logs --project {stack} or sampan down --project {stack}",
    )


async def _last_check(client: "HttpClient", stack: str, state: "ServiceState") -> list[str]:
    """What the health check of the failing replica said last."""
    from sampan.api import kinds  # noqa: PLC0415

    events = (await client.list(kinds.EVENTS, stack)).items
    failed = [
        event
        for event in events
        if event.get("reason") == "Unhealthy" and event["involvedObject"]["name"] == state.failing
    ]
    latest = max(failed, key=lambda event: event.get("lastTimestamp") or "", default=None)
    return [latest["message"].strip()] if latest else []


async def _last_words(client: "HttpClient", stack: str, state: "ServiceState") -> list[str]:
    from sampan.api import kinds  # noqa: PLC0415
    from sampan.api.errors import ApiError  # noqa: PLC0415

    if not state.failing:
        return []
    path = kinds.PODS.path(stack, state.failing, "log")
    for previous in ("true", "false") if state.restarted else ("false",):
        params = {"container": state.name, "tailLines": str(LAST_LINES), "previous": previous}
        try:
            async with client.request("GET", path, params=params) as response:
                lines = (await response.text(errors="replace")).splitlines()
        except ApiError:
            continue  # it has never started: the reason is in the state
        if lines:
            return [f"the last lines of {state.failing}:", *lines]
    return []


async def _show_ports(client: "HttpClient", stack: str) -> None:
    from sampan.api import kinds  # noqa: PLC0415
    from sampan.api.objects import Node, Service  # noqa: PLC0415
    from sampan.cli.rollout import SERVICE, STACK  # noqa: PLC0415

    services = await client.list(kinds.SERVICES, stack, labels=STACK)
    published = [s for s in map(Service.of, services.items) if s.spec.type != "ClusterIP"]
    if not published:
        return
    nodes = map(Node.of, (await client.list(kinds.NODES)).items)
    addresses = ", ".join(node.internal_ip for node in nodes if node.ready and node.internal_ip)
    for service in published:
        for port in service.spec.ports:
            number = port.port if service.spec.type == "LoadBalancer" else port.node_port
            name = service.metadata.labels.get(SERVICE, service.metadata.name)
            out.print(
                f"  {escape(name)}: port {number}/{port.protocol.lower()} on every node "
                f"({addresses})"
            )
