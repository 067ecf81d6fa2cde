"""`sampan dev`: a cluster of several nodes on one machine, for trying things and for tests.

Each node is a network namespace with its own address, containerd and agent; one server runs beside
them. Nothing in the server or the agent knows of it: they are the processes that run on real
machines, only told other directories.
"""

import asyncio
import shutil
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.table import Table

from sampan.cli import doctor
from sampan.cli.processes import find, last_lines, spawn, spawn_command, stop
from sampan.cli.readiness import NotReady, Progress, wait_for_nodes
from sampan.cli.terminal import fail, out

app = typer.Typer(no_args_is_help=True, help="A cluster of several nodes on this machine.")

DATA = Path("/var/lib/sampan/dev")
RUN = Path("/run/sampan/dev")
FIRST_PORT = 6443
NETWORKS = 200
MOST_NODES = 50
Name = Annotated[str, typer.Option("--name", help="Which dev cluster.")]


class Cluster(msgspec.Struct, frozen=True):
    """A dev cluster as it was asked for; kept as `cluster.json` in its data directory."""

    name: str
    nodes: int
    network: int
    """N of 10.210.N.0/24, the link between the nodes and this machine."""
    port: int
    egress: bool

    @property
    def data_dir(self) -> Path:
        return DATA / self.name

    @property
    def run_dir(self) -> Path:
        return RUN / self.name

    @property
    def gateway(self) -> str:
        return f"10.210.{self.network}.1"

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "server" / "kubeconfig"

    @property
    def node_names(self) -> list[str]:
        return [f"node-{index}" for index in range(1, self.nodes + 1)]

    def address(self, node: str) -> str:
        return f"10.210.{self.network}.{10 + int(node.removeprefix('node-'))}"

    def record(self, role: str) -> Path:
        return self.run_dir / role / "process.json"

    def log(self, role: str) -> Path:
        return self.data_dir / role / "log"


def load(name: str) -> Cluster | None:
    try:
        return msgspec.json.decode((DATA / name / "cluster.json").read_bytes(), type=Cluster)
    except FileNotFoundError:
        return None


def everyone() -> list[Cluster]:
    found = (load(path.parent.name) for path in sorted(DATA.glob("*/cluster.json")))
    return [cluster for cluster in found if cluster]


@app.command()
def up(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_NODES, help="How many nodes; else 1, or as many as it has."),
    ] = None,
    name: Name = "dev",
    egress: Annotated[
        bool, typer.Option(help="Let Pods reach the world through this machine.")
    ] = True,
    timeout: Annotated[int, typer.Option(help="Seconds to wait until all is ready.")] = 60,
) -> None:
    """Start the cluster, or whatever of it does not run; wait until every node is ready."""
    doctor.require([finding for finding in doctor.examine() if finding.essential])
    began = time.monotonic()
    cluster = _choose(name, nodes or 0, egress=egress)
    _save(cluster)
    _make_network(cluster)
    with Progress(f"cluster {name}") as progress:
        _start_server(cluster)
        for node in cluster.node_names:
            _start_agent(cluster, node)
        ready = wait_for_nodes(cluster.kubeconfig, cluster.node_names, progress, seconds=timeout)
        try:
            asyncio.run(ready)
        except NotReady as missing:
            _explain(cluster, missing)
    seconds = time.monotonic() - began
    out.print(f"[green]✓[/] {cluster.nodes} nodes ready in {seconds:.1f} s")
    out.print(f"  export KUBECONFIG={cluster.kubeconfig}")


@app.command()
def down(name: Name = "dev") -> None:
    """Stop the cluster and remove every trace of it, its data included."""
    if not (cluster := load(name)):
        out.print(f"There is no dev cluster {name!r}: nothing to do.")
        return
    for node in cluster.node_names:
        stop(cluster.record(node), seconds=5)
    stop(cluster.record("server"), seconds=5)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _stop_containers(cluster, node), cluster.node_names))
    _testbed().destroy(cluster.name)
    shutil.rmtree(cluster.run_dir, ignore_errors=True)
    shutil.rmtree(cluster.data_dir)
    out.print(f"[green]✓[/] cluster {name} is gone")


@app.command()
def kill(node: str, name: Name = "dev") -> None:
    """Pull a node's plug: its link, agent and containers are gone at once. `dev up` mends it."""
    cluster = load(name) or fail(f"there is no dev cluster {name!r}", hint=_known())
    if node not in cluster.node_names:
        fail(f"cluster {name} has no {node!r}", hint=f"it has: {', '.join(cluster.node_names)}")
    _testbed().unplug(cluster.name, int(node.removeprefix("node-")))
    stop(cluster.record(node), seconds=0)
    _stop_containers(cluster, node)
    out.print(f"{node} is dead; to bring it back: sampan dev up --name {name}")


@app.command()
def status(name: Annotated[str, typer.Option("--name", help="Only this one.")] = "") -> None:
    """List the dev clusters on this machine and their processes."""
    clusters = [cluster for cluster in everyone() if name in {"", cluster.name}]
    if not clusters:
        fail(f"there is no dev cluster {name!r}".replace(" ''", ""), hint=_known())
    table = Table(box=None, pad_edge=False)
    for title in ("CLUSTER", "PROCESS", "STATE", "ADDRESS", "PID", "LOG"):
        table.add_column(title, overflow="fold")
    for cluster in clusters:
        for role in ("server", *cluster.node_names):
            process = find(cluster.record(role))
            state = "[green]running[/]" if process else "[red]stopped[/]"
            address = cluster.gateway if role == "server" else cluster.address(role)
            pid = str(process.pid) if process else "-"
            table.add_row(cluster.name, role, state, address, pid, str(cluster.log(role)))
    out.print(table)


def _known() -> str:
    names = ", ".join(cluster.name for cluster in everyone())
    return f"known here: {names}" if names else "start one: sampan dev up --nodes 3"


def _choose(name: str, nodes: int, *, egress: bool) -> Cluster:
    """The cluster as it is, grown to *nodes*, or a new one on a network and port of its own."""
    if existing := load(name):
        if nodes and nodes < existing.nodes:
            fail(
                f"cluster {name} has {existing.nodes} nodes and does not shrink",
                hint=f"to start anew: sampan dev down --name {name}",
            )
        return msgspec.structs.replace(existing, nodes=nodes or existing.nodes)
    _check_name(name)
    taken = {cluster.network for cluster in everyone()}
    network = next(n for n in range(NETWORKS) if n not in taken)
    ports = {cluster.port for cluster in everyone()}
    port = next(p for p in range(FIRST_PORT, 1 << 16) if p not in ports and _is_free(p))
    return Cluster(name, nodes or 1, network, port, egress)


def _check_name(name: str) -> None:
    if not (name.isascii() and name.isalnum() and name.islower() and len(name) <= 12):  # noqa: PLR2004 - what an interface name has room for
        fail(
            f"{name!r} cannot name a dev cluster",
            hint="use 1 to 12 lower-case letters and digits: they become part of interface names",
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _save(cluster: Cluster) -> None:
    cluster.data_dir.mkdir(parents=True, exist_ok=True)
    (cluster.data_dir / "cluster.json").write_bytes(msgspec.json.encode(cluster))


def _testbed() -> ModuleType:
    """Netlink takes a while to import, and most commands do not need it."""
    from sampan.net import testbed  # noqa: PLC0415

    return testbed


def _make_network(cluster: Cluster) -> None:
    _testbed().create(
        cluster.name,
        subnet=f"10.210.{cluster.network}.0/24",
        nodes=cluster.nodes,
        egress=cluster.egress,
    )


def _start_server(cluster: Cluster) -> None:
    if find(cluster.record("server")):
        return
    arguments = [
        *("server", "--no-agent", "--data-dir", str(cluster.data_dir / "server")),
        *("--listen", "127.0.0.1", "--listen", cluster.gateway),
        *("--port", str(cluster.port), "--advertise", cluster.gateway),
    ]
    spawn(cluster.record("server"), arguments, cluster.log("server"))


def _start_agent(cluster: Cluster, node: str) -> None:
    if find(cluster.record(node)):
        return
    spawn_command(cluster.record(node), _agent_command(cluster, node), cluster.log(node))


def _agent_command(cluster: Cluster, node: str) -> list[str]:
    return [
        *("nsenter", f"--net={_testbed().netns_path(cluster.name, node)}", "--"),
        *(sys.executable, "-m", "sampan", "agent"),
        *("--server", f"https://{cluster.gateway}:{cluster.port}"),
        *("--token-file", str(cluster.data_dir / "server" / "token")),
        *("--node-name", node, "--node-ip", cluster.address(node)),
        *("--data-dir", str(cluster.data_dir / node), "--run-dir", str(cluster.run_dir / node)),
    ]


def _stop_containers(cluster: Cluster, node: str) -> None:
    from sampan.agent.config import AgentConfig  # noqa: PLC0415 - gRPC is slow to import
    from sampan.agent.containerd import stop_node  # noqa: PLC0415

    keys = cluster.data_dir / node / "pki"
    stop_node(
        AgentConfig(
            node_name=node,
            node_ip=cluster.address(node),
            server=f"https://{cluster.gateway}:{cluster.port}",
            data_dir=cluster.data_dir / node,
            run_dir=cluster.run_dir / node,
            ca=keys / "ca.crt",
            certificate=keys / "node.crt",
            key=keys / "node.key",
        )
    )


def _explain(cluster: Cluster, missing: NotReady) -> NoReturn:
    """Say what is missing, and show the last words of whichever process has stopped."""
    stopped = [r for r in ("server", *cluster.node_names) if not find(cluster.record(r))]
    logs = "\n".join(
        f"{role} has stopped; the end of {cluster.log(role)}:\n{last_lines(cluster.log(role))}"
        for role in stopped
    )
    hint = logs or f"logs: {cluster.data_dir}/*/log"
    fail(str(missing), hint=f"{hint}\nto start over: sampan dev down --name {cluster.name}")
