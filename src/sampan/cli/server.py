"""`sampan server`: the API, the controllers, the scheduler, and by default a node."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from sampan.cli import doctor
from sampan.cli.terminal import fail

DATA = Path("/var/lib/sampan/server")
PORT = 6443


def server(
    data_dir: Annotated[Path, typer.Option(help="The cluster's state, keys and images.")] = DATA,
    listen: Annotated[
        list[str] | None, typer.Option(help="An address to listen on; may be repeated. Else all.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = PORT,
    advertise: Annotated[
        str, typer.Option(help="The address that nodes and Pods use; else this machine's own.")
    ] = "",
    run_agent: Annotated[
        bool, typer.Option("--agent/--no-agent", help="Be a node as well.")
    ] = True,
) -> None:
    """Run a server. Prints how to add nodes; a signal stops it, containers go on."""
    from sampan import assembly  # noqa: PLC0415 - heavy, and useless to `--help`

    if run_agent:
        doctor.require()
    config = assembly.ServerConfig(
        data_dir=data_dir,
        listen=tuple(listen or ("0.0.0.0",)),
        port=port,
        advertise=advertise or own_address(),
    )
    try:
        assembly.run_server(config, node=run_agent)
    except assembly.CannotStart as error:
        fail(str(error))


def own_address() -> str:
    """Find this machine's address on the way out, or loopback if there is none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
