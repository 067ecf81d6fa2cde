"""The network examined from this node: every Service resolved and dialled, the kernel compared.

What the kernel holds and should not, or lacks, is given to it anew; all else is told, for a person
to look at.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, Final

import orjson
from msgspec import Struct

from sampan.agent.network import NodeNetwork
from sampan.agent.streams.stream import Params, Stream
from sampan.api.objects import EndpointSlice, Service
from sampan.net import inspection

AT_ONCE: Final = 64
MOST_TOLD: Final = 100


class Finding(Struct, frozen=True):
    subject: str
    problem: str


class Verdict(Struct, frozen=True):
    services: int
    names: int
    dialled: int
    repaired: int
    findings: list[Finding]


async def serve_check(network: NodeNetwork, _params: Params, stream: Stream) -> None:
    """The tunnel's verb `check-network`: one text frame, a Verdict."""
    await stream.accept()
    await stream.send(orjson.dumps(_plain(await examine(network))).decode())


def _plain(verdict: Verdict) -> dict[str, Any]:
    found = [{"subject": f.subject, "problem": f.problem} for f in verdict.findings[:MOST_TOLD]]
    return {
        "services": verdict.services,
        "names": verdict.names,
        "dialled": verdict.dialled,
        "repaired": verdict.repaired,
        "findings": found,
    }


async def examine(network: NodeNetwork) -> Verdict:
    """Look at everything once; entries of the kernel that are not as they must be are repaired."""
    services = [s for s in network.cluster.all(Service) if s.spec.type != "ExternalName"]
    stale = await network.compare()
    gate = asyncio.Semaphore(AT_ONCE)

    async def passing(work: Awaitable[str]) -> str:
        async with gate:
            return await work

    async with asyncio.TaskGroup() as group:
        names = {s.metadata.key: group.create_task(passing(_name(network, s))) for s in services}
        dials = {
            f"{service.metadata.key} {address}:{port}": group.create_task(
                passing(inspection.dial(address, port))
            )
            for service in services
            for address, port in _front(network, service)
        }
    findings = [Finding(entry, "the kernel was not as it must be; repaired") for entry in stale]
    for subject, task in (*names.items(), *dials.items()):
        if problem := task.result():
            findings.append(Finding(subject, problem))
    return Verdict(len(services), len(names), len(dials), len(stale), findings)


def _front(network: NodeNetwork, service: Service) -> Iterator[tuple[str, int]]:
    """Where a Service that somebody serves can be dialled."""
    address = service.spec.cluster_ip
    if service.spec.headless or not address or not _ready(network, service):
        return
    for port in service.spec.ports:
        if port.protocol == "TCP" and address != network.dns_ip:
            yield address, port.port


def _ready(network: NodeNetwork, service: Service) -> set[str]:
    slices = network.cluster.by(EndpointSlice, "service", service.metadata.key)
    return {
        address
        for piece in slices
        if piece.address_type == "IPv4"
        for endpoint in piece.endpoints
        if endpoint.conditions.ready
        for address in endpoint.addresses[:1]
    }


async def _name(network: NodeNetwork, service: Service) -> str:
    """Say what is wrong with the answer to a Service's name, or ""."""
    meta, spec = service.metadata, service.spec
    name = f"{meta.name}.{meta.namespace}.svc.{network.domain}"
    try:
        found = await inspection.resolve(name, network.dns_ip)
    except TimeoutError:
        return f"{name}: the name server does not answer"
    except OSError as error:
        return f"{name}: the name server cannot be asked: {error.strerror or error}"
    wanted = _ready(network, service) if spec.headless else {spec.cluster_ip}
    if found == wanted:
        return ""
    return f"{name} resolves to {_listed(found)} and not to {_listed(wanted)}"


def _listed(addresses: set[str]) -> str:
    return ", ".join(sorted(addresses)) or "nothing"
