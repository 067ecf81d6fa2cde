"""`sampan check`: examine what the cluster does, from every node."""

from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.terminal import fail, out

if TYPE_CHECKING:
    from sampan.client.connection import Connection

app = typer.Typer(no_args_is_help=True, help="Examine what the cluster does, from every node.")

NETWORK = "/sampan/v1/check/network"


@app.callback()
def check() -> None:
    pass


@app.command()
def network(kubeconfig: Kubeconfig = None) -> None:
    """Resolve and dial every Service from every node; repair rules that are not as they must be."""
    nodes = run(_examine(connect(kubeconfig)))
    if not nodes:
        fail("no node is connected", hint="look at them: kubectl get nodes")
    bad = sum([_tell(node, verdict) for node, verdict in sorted(nodes.items())])
    if bad:
        raise typer.Exit(1)


async def _examine(connection: "Connection") -> dict[str, Any]:
    import orjson  # noqa: PLC0415 - slow imports

    from sampan.client.http import HttpClient  # noqa: PLC0415

    async with HttpClient(connection) as client, client.request("GET", NETWORK) as response:
        return dict(orjson.loads(await response.read())["nodes"])


def _tell(node: str, verdict: dict[str, Any]) -> bool:
    """Print what one node found; say whether anything is wrong."""
    if error := verdict.get("error"):
        out.print(f"[red]✗[/] {escape(node)}: {escape(error)}")
        return True
    findings = verdict["findings"]
    mark = "[red]✗[/]" if findings else "[green]✓[/]"
    what = f"{verdict['names']} names resolved, {verdict['dialled']} Service ports dialled"
    out.print(f"{mark} {escape(node)}: {what}, {verdict['repaired']} rules repaired")
    for finding in findings:
        out.print(f"    {escape(finding['subject'])}: {escape(finding['problem'])}")
    return bool(findings)
