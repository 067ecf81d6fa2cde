"""`sampan ps`: an application's replicas, where they run and how they are."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from sampan.cli.connection import Kubeconfig, connect, run
from sampan.cli.stack import Files, ProjectName, list_stacks, stack_name
from sampan.cli.terminal import fail, out, table

if TYPE_CHECKING:
    from sampan.api.objects import Service
    from sampan.cli.rollout import Deployment, Replica
    from sampan.client.connection import Connection

TITLES = ("SERVICE", "REPLICA", "NODE", "STATE", "AGE", "RESTARTS", "PORTS")
_GOOD, _BAD = {"ready"}, {"crashing", "image pull failed", "unhealthy", "no node", "Failed"}


def ps(file: Files = None, project: ProjectName = "", kubeconfig: Kubeconfig = None) -> None:
    """List an application's replicas: node, state, age, restarts, ports; or those of all."""
    run(_ps(connect(kubeconfig), project, file))


async def _ps(connection: "Connection", project: str, files: list[Path] | None) -> None:
    from sampan.api import kinds  # noqa: PLC0415 - slow imports
    from sampan.api.objects import Service  # noqa: PLC0415
    from sampan.cli.rollout import STACK, Deployment, Replica  # noqa: PLC0415
    from sampan.client.http import HttpClient  # noqa: PLC0415

    async with HttpClient(connection) as client:
        if project or files:
            stacks = [await stack_name(client, project, files)]
        elif not (stacks := await list_stacks(client)):
            fail("no application runs on the cluster", hint="bring one up: sampan up -f FILE")
        for stack in stacks:
            kinds_ = (kinds.DEPLOYMENTS, kinds.PODS, kinds.SERVICES)
            found = [(await client.list(kind, stack, labels=STACK)).items for kind in kinds_]
            if len(stacks) > 1:
                out.print(f"[bold]{stack}[/]")
            deployments, replicas = map(Deployment.of, found[0]), map(Replica.of, found[1])
            _show(list(deployments), list(replicas), list(map(Service.of, found[2])))


def _show(
    deployments: "Sequence[Deployment]",
    replicas: "Sequence[Replica]",
    services: "Sequence[Service]",
) -> None:
    from sampan.cli.rollout import states  # noqa: PLC0415

    now = datetime.now(UTC)
    ports = {each.metadata.name: published(each.metadata.name, services) for each in deployments}
    rows = [row(replica, ports.get(replica.service, ""), now) for replica in in_order(replicas)]
    table(TITLES, rows)
    names = sorted(each.metadata.name for each in deployments)
    totals = states(names, deployments, replicas)
    out.print(", ".join(f"{state.name} {state.ready}/{state.wanted}" for state in totals))


def in_order(replicas: "Iterable[Replica]") -> "list[Replica]":
    return sorted(replicas, key=lambda each: (each.service, each.metadata.name))


def row(replica: "Replica", ports: str, now: datetime) -> tuple[str, ...]:
    state = replica.state
    colour = "green" if state in _GOOD else "red" if state in _BAD else "yellow"
    return (
        escape(replica.service),
        replica.metadata.name,
        replica.spec.node_name or "-",
        f"[{colour}]{escape(state)}[/]",
        age(replica.created, now),
        str(replica.restarts),
        ports or "-",
    )


def age(since: datetime | None, now: datetime) -> str:
    """Write how long ago: `42s`, `7m`, `3h`, `12d`."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for unit, length, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds // length}{unit}"
    return f"{seconds // 86400}d"


def published(name: str, services: "Iterable[Service]") -> str:
    """The ports of a service as the nodes answer them: `8080->80/tcp`."""
    from sampan.cli.rollout import SERVICE  # noqa: PLC0415

    texts = []
    for service in services:
        if service.metadata.labels.get(SERVICE) == name and service.spec.type != "ClusterIP":
            for port in service.spec.ports:
                outer = port.port if service.spec.type == "LoadBalancer" else port.node_port
                texts.append(f"{outer}->{port.target_port}/{port.protocol.lower()}")
    return ", ".join(texts)
