"""`sampan down`: take a Compose application off the cluster."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.stack import Files, ProjectName, stack_name
from sampan.cli.terminal import fail, out

if TYPE_CHECKING:
    from sampan.client.connection import Connection

PAUSE = 0.1


def down(
    file: Files = None,
    project: ProjectName = "",
    kubeconfig: Kubeconfig = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait until all is gone.")] = 120,
    volumes: Annotated[
        bool, typer.Option("--volumes", "-v", help="Delete its volumes, too, and what is in them.")
    ] = False,
) -> None:
    """Take a Compose application off the cluster; its volumes stay, for the next `sampan up`."""
    run(_down(connect(kubeconfig), project, file, timeout, volumes=volumes))


async def _down(
    connection: "Connection",
    project: str,
    files: list[Path] | None,
    seconds: int,
    *,
    volumes: bool,
) -> None:
    from sampan.api import kinds  # noqa: PLC0415 - slow imports
    from sampan.api.errors import NotFound  # noqa: PLC0415
    from sampan.cli.applying import NotOurs, find_stack, take_off  # noqa: PLC0415
    from sampan.cli.readiness import Progress  # noqa: PLC0415
    from sampan.client.http import HttpClient  # noqa: PLC0415

    began = time.monotonic()
    async with HttpClient(connection) as client:
        stack = await stack_name(client, project, files)
        kept: list[str] = []
        try:
            found = await find_stack(client, stack)
            if found and not volumes:
                kept = await take_off(client, stack)
            if not kept:
                await client.delete(kinds.NAMESPACES, stack)
        except NotOurs as error:
            fail(str(error))
        except NotFound:
            pass
        with Progress(stack) as progress:
            while True:
                pods = (await client.list(kinds.PODS, stack)).items
                space = await client.list(kinds.NAMESPACES, fields=f"metadata.name={stack}")
                if not pods if kept else not space.items:
                    break
                progress.say(f"stopping, {len(pods)} to go" if pods else "cleaning up")
                if time.monotonic() - began > seconds:
                    names = ", ".join(pod["metadata"]["name"] for pod in pods) or "nothing"
                    fail(f"{stack} is not gone after {seconds} s; still there: {names}")
                await asyncio.sleep(PAUSE)
    out.print(f"[green]✓[/] {stack} is gone, in {time.monotonic() - began:.1f} s")
    if kept:
        out.print(
            f"  its volumes stay: {', '.join(kept)} (`sampan down --volumes` deletes what is in "
            "them)"
        )
