"""`sampan image`: put images on the nodes without a registry."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.terminal import fail, out, table

if TYPE_CHECKING:
    from sampan.cli.readiness import Progress
    from sampan.client.connection import Connection
    from sampan.client.http import HttpClient

app = typer.Typer(no_args_is_help=True, help="Put images on the nodes without a registry.")

IMAGES = "/sampan/v1/images"
CHUNK = 1 << 20
Archives = Annotated[
    list[Path], typer.Argument(help="Archives: `docker save`, or an OCI layout; gzip too.")
]


@app.command()
def load(files: Archives, kubeconfig: Kubeconfig = None) -> None:
    """Put the images of an archive on every node, and on nodes that join later."""
    for file in files:
        if not file.is_file():
            fail(f"there is no file {file}")
    run(_load(connect(kubeconfig), files))


@app.command("ls")
def list_(kubeconfig: Kubeconfig = None) -> None:
    """List the archives that the cluster keeps."""
    run(_list(connect(kubeconfig)))


async def _load(connection: "Connection", files: list[Path]) -> None:
    from sampan.cli.readiness import Progress  # noqa: PLC0415 - slow imports
    from sampan.client.http import HttpClient  # noqa: PLC0415

    async with HttpClient(connection) as client:
        for file in files:
            with Progress(file.name) as progress:
                images, nodes, failed = await _send(client, file, progress)
            for node, why in failed.items():
                out.print(f"[red]✗[/] {node}: {escape(why)}")
            if failed:
                fail(f"{file} did not reach: {', '.join(failed)}")
            out.print(f"[green]✓[/] {escape(', '.join(images))} on {_count(nodes, 'node')}")


async def _send(
    client: "HttpClient", file: Path, progress: "Progress"
) -> tuple[list[str], int, dict[str, str]]:
    """Upload an archive and follow it to the nodes: its images, how many nodes, who failed why."""
    import orjson  # noqa: PLC0415

    images: list[str] = []
    states: dict[str, dict[str, Any]] = {}
    missed: list[str] = []
    async with client.request("POST", IMAGES, data=_chunks(file, progress)) as response:
        async for line in response.content:
            if not line.strip():
                continue
            report = orjson.loads(line)
            images = report.get("images", images)
            if "node" in report:
                states[report["node"]] = report
                loaded = sum(state["phase"] == "loaded" for state in states.values())
                progress.say(f"on {loaded} of {_count(len(states), 'node')}")
            missed = report.get("failed") or missed
    why = {
        node: str(states.get(node, {}).get("message") or "no reason is known") for node in missed
    }
    return images, len(states) - len(why), why


async def _chunks(file: Path, progress: "Progress") -> AsyncIterator[bytes]:
    size = file.stat().st_size or 1  # noqa: ASYNC240 - nothing else runs in this loop
    sent = 0
    with file.open("rb") as archive:
        while chunk := archive.read(CHUNK):
            yield chunk
            sent += len(chunk)
            if size > CHUNK * 16:
                progress.say(f"{sent * 10 // size * 10} % sent")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


async def _list(connection: "Connection") -> None:
    import orjson  # noqa: PLC0415

    from sampan.api.quantities import human_bytes  # noqa: PLC0415
    from sampan.client.http import HttpClient  # noqa: PLC0415

    async with HttpClient(connection) as client, client.request("GET", IMAGES) as response:
        archives = orjson.loads(await response.read())["archives"]
    if not archives:
        out.print("No archives are kept; put one there: sampan image load FILE")
        return
    rows = [
        (escape(", ".join(a["images"])), a["id"][:12], human_bytes(a["size"])) for a in archives
    ]
    table(("IMAGES", "ARCHIVE", "SIZE"), rows)
