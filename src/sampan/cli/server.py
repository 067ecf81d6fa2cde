"""`sampan server`: the API, the controllers, the scheduler, and by default a node."""

import socket
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sampan.agent.config import AgentConfig
from sampan.cli import agent, doctor
from sampan.cli.terminal import fail, out
from sampan.client.enrol import Credentials

DATA = Path("/var/lib/sampan/server")
PORT = 6443


def server(
    *,
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
    node_name: Annotated[str, typer.Option(help="The node's name; else the host's.")] = "",
    agent_data_dir: Annotated[Path, typer.Option(help="The node's images, logs, volumes.")] = (
        agent.DATA
    ),
    scheduler_rules: Annotated[
        Path | None, typer.Option(help="A Python file of scheduling rules of your own.")
    ] = None,
    agent_run_dir: Annotated[Path, typer.Option(help="What of the node a reboot may take.")] = (
        agent.RUN
    ),
) -> None:
    """Run a server. Prints how to add nodes; a signal stops it, containers go on."""
    advertise = advertise or own_address()
    node = None
    if run_agent:
        doctor.require()
        credentials = Credentials(agent_data_dir / "pki")
        node = AgentConfig(
            node_name=node_name or socket.gethostname().lower(),
            node_ip=advertise,
            server="",
            data_dir=agent_data_dir,
            run_dir=agent_run_dir,
            ca=credentials.ca,
            certificate=credentials.certificate,
            key=credentials.key,
        )
        agent.start_runtime(node)
    from sampan import assembly  # noqa: PLC0415 - heavy; containerd starts meanwhile

    config = assembly.ServerConfig(
        data_dir=data_dir,
        listen=tuple(listen or ("0.0.0.0",)),
        port=port,
        advertise=advertise,
        scheduler_rules=scheduler_rules,
    )
    try:
        assembly.run_server(config, node=node, started=partial(_tell, config.url))
    except assembly.CannotStart as error:
        fail(str(error))


def _tell(url: str, token: str) -> None:
    out.print(f"[green]✓[/] the API answers at {url}")
    out.print("  to use it here:    sampan kubeconfig > ~/.kube/config")
    out.print("  to add a machine, run on it:")
    out.print(f"  sampan agent --server {url} --token {token}", soft_wrap=True)


def own_address() -> str:
    """Find this machine's address on the way out, or loopback if there is none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
