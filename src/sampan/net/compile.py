"""What a node must do with packets for one Service, said without a word of netfilter.

A Service, or a Pod with host ports, is compiled by itself into a Part: which addresses and ports
answer, and which endpoints stand behind each. `rules` turns Parts into map elements. So a change
to one Service costs the work for one, whatever the number of the others.
"""

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Network, collapse_addresses
from typing import Final, NamedTuple

from sampan.api.objects import Endpoint, EndpointSlice, Pod, Service, ServicePort

ANY: Final = "0.0.0.0"
ADDRESSES: Final = "sampan.io/addresses"
"""A Service's annotation: the only addresses of nodes at which its node ports answer."""
CLOSE: Final = frozenset({"PreferSameNode", "PreferSameZone", "PreferClose"})
PROTOCOLS: Final = frozenset({"TCP", "UDP", "SCTP"})


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the rules of a node depend on besides Services."""

    name: str
    pod_cidr: IPv4Network
    cluster_cidr: IPv4Network
    service_cidr: IPv4Network
    dns_ip: str


class Target(NamedTuple):
    address: str
    port: int


class From(StrEnum):
    ANYWHERE = "anywhere"
    OUTSIDE = "outside"
    """Not from a Pod, and not from this node itself."""


class Frontend(NamedTuple):
    """Where a Service answers; no *address* means each address of this node."""

    address: str
    protocol: str
    port: int
    clients: From = From.ANYWHERE
    sources: tuple[str, ...] | None = None
    """The only networks outside from which calls are taken."""


class Otherwise(StrEnum):
    """What becomes of packets to a frontend that nobody stands behind."""

    REJECT = "reject"
    DROP = "drop"
    """As a load balancer in front expects of a node that has no endpoint of its own."""


@dataclass(frozen=True, slots=True)
class Group:
    """Frontends that share their targets. *sticky*: a client stays with its target."""

    name: str
    frontends: tuple[Frontend, ...]
    targets: tuple[Target, ...]
    sticky: bool = False
    otherwise: Otherwise = Otherwise.REJECT


Part = tuple[Group, ...]


def compile_service(
    service: Service, slices: Iterable[EndpointSlice], node: NodeFacts, zone: str = ""
) -> Part:
    """Say what *node*, which is in *zone*, does for one Service; *slices* are those of it."""
    if service.spec.headless or service.spec.type == "ExternalName" or service.metadata.deleting:
        return ()
    ours = [part for part in slices if part.address_type == "IPv4"]
    groups = (
        group
        for port in service.spec.ports
        if port.protocol in PROTOCOLS
        for group in _groups(service, port, ours, node, zone)
    )
    return tuple(group for group in groups if group.frontends)


def _groups(
    service: Service,
    port: ServicePort,
    slices: Sequence[EndpointSlice],
    node: NodeFacts,
    zone: str,
) -> Iterator[Group]:
    """One group for all of a port's frontends, or several where policies tell them apart."""
    spec = service.spec
    everywhere = _preferred(spec.traffic_distribution, port, slices, node.name, zone)
    here = targets(port, slices, node.name)
    inside = [Frontend(a, port.protocol, port.port) for a in _cluster_ips(service, node)]
    outside = list(_external(service, port))
    sticky = spec.session_affinity == "ClientIP"

    def group(name: str, frontends: list[Frontend], chosen: tuple[Target, ...]) -> Group:
        return Group(f"{port.protocol}/{port.port}/{name}", tuple(frontends), chosen, sticky)

    if spec.internal_traffic_policy == "Local":
        yield group("internal", inside, here)
    else:
        outside = inside + outside
    yield group("cluster", outside, everywhere)
    if spec.external_traffic_policy == "Local" and everywhere:
        local = [f._replace(clients=From.OUTSIDE) for f in _external(service, port)]
        yield Group(
            f"{port.protocol}/{port.port}/local", tuple(local), here, sticky, Otherwise.DROP
        )


def _cluster_ips(service: Service, node: NodeFacts) -> list[str]:
    """The Service's own addresses, but never the one that the node's DNS server listens on."""
    spec = service.spec
    addresses = dict.fromkeys([spec.cluster_ip, *spec.cluster_ips])
    return [a for a in addresses if is_ipv4(a) and a != node.dns_ip]


def _external(service: Service, port: ServicePort) -> Iterator[Frontend]:
    ingress = service.status.load_balancer.get("ingress") or []
    balanced = [i.get("ip", "") for i in ingress if i.get("ipMode", "VIP") == "VIP"]
    for address in dict.fromkeys([*service.spec.external_ips, *balanced]):
        if is_ipv4(address):
            fence = _sources(service) if address in balanced else None
            yield Frontend(address, port.protocol, port.port, sources=fence)
    if port.node_port:
        for address in _listening(service):
            yield Frontend(address, port.protocol, port.node_port)


def _listening(service: Service) -> list[str]:
    """Where node ports answer: at the addresses that are asked for, or at all of the node."""
    asked = service.metadata.annotations.get(ADDRESSES)
    if asked is None:
        return [""]
    return [a for a in dict.fromkeys(map(str.strip, asked.split(","))) if is_ipv4(a)]


def _sources(service: Service) -> tuple[str, ...] | None:
    ranges = service.spec.load_balancer_source_ranges
    if not ranges:
        return None
    networks = (network for text in ranges if (network := _network(text)))
    return tuple(map(str, collapse_addresses(networks)))


def _network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text.strip(), strict=False)
    except (AddressValueError, ValueError):
        return None


def _preferred(
    wish: str, port: ServicePort, slices: Sequence[EndpointSlice], node: str, zone: str
) -> tuple[Target, ...]:
    """The endpoints that serve *port*; the nearest that are ready, if the Service wants that."""
    if wish in CLOSE:
        ready = [(e, n) for e, n in _endpoints(port, slices) if e.conditions.ready]
        near = [Target(e.addresses[0], n) for e, n in ready if e.node_name == node]
        if wish != "PreferSameNode" or not near:
            near = [Target(e.addresses[0], n) for e, n in ready if zone and e.zone == zone]
        if near:
            return tuple(sorted(set(near)))
    return targets(port, slices)


def targets(
    port: ServicePort, slices: Iterable[EndpointSlice], node: str = ""
) -> tuple[Target, ...]:
    """The endpoints that serve *port*, on *node* if one is given.

    When no endpoint is ready, those that end but still serve take what comes (a rolling update of
    a single replica loses nothing that way).
    """
    ready, leaving = set(), set()
    for endpoint, number in _endpoints(port, slices):
        if node and endpoint.node_name != node:
            continue
        if endpoint.conditions.ready:
            ready.add(Target(endpoint.addresses[0], number))
        elif endpoint.conditions.serving and endpoint.conditions.terminating:
            leaving.add(Target(endpoint.addresses[0], number))
    return tuple(sorted(ready or leaving))


def _endpoints(
    port: ServicePort, slices: Iterable[EndpointSlice]
) -> Iterator[tuple[Endpoint, int]]:
    for part in slices:
        for offered in part.ports:
            if (offered.name, offered.protocol) == (port.name, port.protocol) and is_port(
                offered.port
            ):
                yield from ((e, offered.port) for e in part.endpoints if is_ipv4(*e.addresses[:1]))


def compile_host_ports(pod: Pod) -> Part:
    """Say which ports of its node lead to a Pod of this node."""
    if pod.spec.host_network or not is_ipv4(pod.status.pod_ip) or pod.finished:
        return ()
    return tuple(
        Group(
            f"{port.protocol}/{port.host_ip}:{port.host_port}",
            (Frontend(_any(port.host_ip), port.protocol, port.host_port),),
            (Target(pod.status.pod_ip, port.container_port),),
        )
        for container in pod.spec.containers
        for port in container.ports
        if port.host_port and port.protocol in PROTOCOLS
        if is_ipv4(port.host_ip or ANY)
    )


def _any(host_ip: str) -> str:
    return "" if host_ip == ANY else host_ip


@lru_cache(maxsize=1 << 16)
def is_ipv4(address: str = "") -> bool:
    """Whatever passes is safe to write into a command; users may write anything into objects."""
    try:
        socket.inet_pton(socket.AF_INET, address)
    except (OSError, UnicodeEncodeError, ValueError):
        return False
    return True


def is_port(number: int) -> bool:
    return 0 < number < 1 << 16
