"""`sampan kubeconfig`: print the kubeconfig of the cluster that runs here."""

from typing import Annotated

import typer

from sampan.cli.connection import find_kubeconfig


def kubeconfig(
    name: Annotated[str, typer.Option("--name", help="The dev cluster's; else what runs.")] = "",
) -> None:
    """Print the kubeconfig of the cluster that runs here: a server's, or a dev cluster's."""
    typer.echo(find_kubeconfig(dev=name).read_text(), nl=False)
