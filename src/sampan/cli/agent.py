"""`sampan agent`: run a node that joins a server."""

import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from sampan.agent.config import AgentConfig
from sampan.cli import doctor
from sampan.cli.terminal import fail
from sampan.client.enrol import Credentials, EnrolmentError, enrol

DATA = Path("/var/lib/sampan/agent")
RUN = Path("/run/sampan/agent")


def agent(  # noqa: PLR0917 - its options
    server: Annotated[str, typer.Option(help="The server's URL: https://ADDRESS:6443.")],
    token: Annotated[
        str,
        typer.Option(envvar="SAMPAN_TOKEN", help="The join token, as `sampan server` shows it."),
    ] = "",
    token_file: Annotated[Path | None, typer.Option(help="A file with the join token.")] = None,
    node_name: Annotated[str, typer.Option(help="Its name; else the host's.")] = "",
    node_ip: Annotated[
        str, typer.Option(help="Its address; else the one that reaches the server.")
    ] = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, may be repeated.")] = None,
    dns: Annotated[
        list[str] | None,
        typer.Option(
            help="Who is asked for names outside the cluster: SERVER, or DOMAIN=SERVER for the "
            "names of one domain; may be repeated. Else as /etc/resolv.conf says."
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Images, logs, volumes, keys.")] = DATA,
    run_dir: Annotated[Path, typer.Option(help="Sockets and what a reboot may take.")] = RUN,
) -> None:
    """Run a node that joins a server. The containers go on when this process ends."""
    doctor.require()
    name = node_name or socket.gethostname().lower()
    credentials = Credentials(data_dir.absolute() / "pki")
    servers, stubs = parse_servers(dns or [])
    config = AgentConfig(
        node_name=name,
        node_ip=node_ip or address_towards(server),
        server=server,
        data_dir=data_dir.absolute(),
        run_dir=run_dir.absolute(),
        ca=credentials.ca,
        certificate=credentials.certificate,
        key=credentials.key,
        labels=parse_labels(label or []),
        upstream_dns=servers,
        stub_domains=stubs,
    )
    if not (token or token_file or credentials.cluster_file.exists()):
        fail(
            "this node has not joined yet and needs a token",
            hint="on the server: cat /var/lib/sampan/server/token; here: --token TOKEN",
        )
    run_node(config, lambda: token or read_token(token_file))


def run_node(config: AgentConfig, token: Callable[[], str]) -> None:
    """Start the node's containerd, join, and be its agent until a signal comes.

    A server on this machine may be starting at the same time, so it is asked last.
    """
    start_runtime(config)
    from sampan import assembly  # noqa: PLC0415 - heavy; containerd starts meanwhile
    from sampan.agent import run as _warm  # noqa: F401, PLC0415 - heavy; the server starts meanwhile

    directory = config.ca.parent
    try:
        joined = Credentials(directory).cluster_file.exists()
        credentials = enrol(config.server, "" if joined else token(), config.node_name, directory)
    except EnrolmentError as error:
        fail(str(error))
    assembly.run_agent(assembly.joined(config, credentials))


def start_runtime(config: AgentConfig) -> None:
    """Start the node's containerd and see the file system as it does.

    Its mount namespace can be entered only while this process has one thread.
    """
    from sampan.agent import containerd  # noqa: PLC0415 - useless to `--help`

    try:
        containerd.join_mount_namespace(containerd.ensure_containerd(config))
    except containerd.NodeError as error:
        fail(str(error))


def read_token(file: Path | None) -> str:
    """Read the token, waiting for a server on this machine that is about to write it."""
    if file is None:
        return ""
    import time  # noqa: PLC0415

    deadline = time.monotonic() + 30
    while not file.exists():
        if time.monotonic() > deadline:
            fail(f"there is no token at {file}", hint="is the server running?")
        time.sleep(0.02)
    return file.read_text().strip()


def parse_servers(texts: list[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Read `SERVER` and `DOMAIN=SERVER`; end the command at what is neither."""
    servers: list[str] = []
    stubs: dict[str, tuple[str, ...]] = {}
    for text in texts:
        domain, equals, server = text.rpartition("=")
        try:
            ip_address(server)
        except ValueError:
            fail(f"--dns {text}: {server!r} is no IP address", hint="such as --dns 10.0.0.53")
        if equals:
            stubs[domain] = (*stubs.get(domain, ()), server)
        else:
            servers.append(server)
    return tuple(servers), stubs


def parse_labels(texts: list[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not (key and sign):
            fail(f"--label {text}: write KEY=VALUE")
        labels[key] = value
    return labels


def address_towards(server: str) -> str:
    """Find this machine's address on the way to *server*; nothing is sent."""
    place = urlsplit(server)
    if not place.hostname:
        fail(f"--server {server}: write https://ADDRESS:6443")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((place.hostname, place.port or 6443))
        except OSError as error:
            fail(f"cannot reach {place.hostname}: {os.strerror(error.errno or 0)}")
        return str(probe.getsockname()[0])
