"""The port through which a node's network is set, and its Linux implementation.

Everything is set whole: `Linux` compares what is with what must be and changes the difference, so
that calling it twice, or after a crash in the middle, is harmless. All of it blocks; a node's
network shell calls it in a thread.
"""

import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final, Protocol

from sampan.net import conntrack, firewall, guard, inspection, links, nft, overlay
from sampan.net.detours import set_detours
from sampan.net.links import GROUND, PEERS, SCOPE_HOST, Route
from sampan.net.netlink import Netlink, attributes
from sampan.net.overlay import OVERHEAD, Overlay, Peer
from sampan.net.program import Change, Elements, Program
from sampan.net.rules import TABLE, VXLAN
from sampan.net.sysctl import forward_packets, send_no_redirects

_NETFILTER: Final = 12
_GET_GENERATION: Final = 10 << 8 | 16
_GENERATION_ID: Final = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """What a node's network stands on, before any Pod or Service."""

    address: IPv4Address
    pods: IPv4Network
    cluster: IPv4Network
    services: IPv4Network
    dns: IPv4Address


class Kernel(Protocol):
    def lay(self, ground: Ground, program: Program) -> int:
        """Make the tunnel, addresses, routes and rules; return the MTU that Pods must use.

        Rules that are there already stay: they serve until the first `load`.
        """

    def reach(self, peers: Iterable[Peer]) -> None:
        """Route to these nodes' Pods and to no others'."""

    def load(self, program: Program) -> None:
        """Replace the whole rule table."""

    def apply(self, change: Change) -> None:
        """Change elements of the rule table, or nothing if one of them is not as expected."""

    def guard(self, table: str) -> None:
        """Replace the table that keeps the policies, by the commands of `sampan.net.guard`."""

    def held(self) -> Elements:
        """Return all elements of the rule table, as `inspection` writes them."""

    def touched(self) -> bool:
        """Say whether anybody else changed any rules since we last did."""

    def cleanup(self, ground: Ground) -> None:
        """Remove everything that the others made; Pods' own links go with the Pods."""


class Linux:
    """The network namespace of the thread that calls."""

    def __init__(self) -> None:
        self._generation = 0
        self._rules = threading.Lock()
        """Held while rules change: what we change must not look like somebody else's doing."""

    def lay(self, ground: Ground, program: Program) -> int:
        forward_packets()
        with Netlink() as netlink:
            device = _device_of(netlink, ground.address)
            for name in ("lo", device):
                send_no_redirects(name)
            mtu = links.mtu_of(netlink, device) - OVERHEAD
            _add_tunnel(netlink, ground, device, mtu)
            links.add_address(netlink, "lo", IPv4Interface(ground.dns), scope=SCOPE_HOST)
            links.set_link(netlink, "lo", up=True)
            _set_routes(netlink, GROUND, _ways_of_its_own(ground))
        if f"table {TABLE}\n" not in nft.run("list tables ip"):
            self.load(program)
        return mtu

    def reach(self, peers: Iterable[Peer]) -> None:
        with Netlink() as netlink:
            wanted = overlay.plan(peers, lambda address: links.route_to(netlink, address))
            _set_overlay(netlink, wanted)

    def load(self, program: Program) -> None:
        with self._rules:
            nft.run(program.whole())
            firewall.admit(program.node.cluster_cidr)
            self._generation = _generation()
        conntrack.settle(*program.udp())

    def apply(self, change: Change) -> None:
        if change:
            self._change(change.commands())
        conntrack.forget(change.gone, change.fresh)

    def guard(self, table: str) -> None:
        self._change(table)

    def _change(self, commands: str) -> None:
        with self._rules:
            ours = not self.touched()
            nft.run(commands)
            if ours:
                self._generation = _generation()

    def held(self) -> Elements:
        return inspection.held()

    def touched(self) -> bool:
        return _generation() != self._generation

    def cleanup(self, ground: Ground) -> None:
        with Netlink() as netlink:
            _set_overlay(netlink, Overlay())
            _set_routes(netlink, GROUND, frozenset())
            links.remove_link(netlink, VXLAN)
            links.remove_address(netlink, "lo", IPv4Interface(ground.dns))
        firewall.dismiss(ground.cluster)
        nft.run(f"add table {TABLE}\ndelete table {TABLE}\n{guard.GONE}")


def _device_of(netlink: Netlink, address: IPv4Address) -> str:
    """The device that has the node's address."""
    for device, held in links.addresses(netlink):
        if held.ip == address:
            return device
    raise LookupError(
        f"no network device of this node has its address {address}; "
        "give one that it has: sampan agent --node-ip ADDRESS"
    )


def _add_tunnel(netlink: Netlink, ground: Ground, device: str, mtu: int) -> None:
    if links.vxlan_local(netlink, VXLAN) not in {None, ground.address}:
        links.remove_link(netlink, VXLAN)
    links.add_vxlan(
        netlink,
        VXLAN,
        vni=overlay.VNI,
        port=overlay.PORT,
        local=ground.address,
        device=device,
        mtu=mtu,
    )
    links.set_addresses(netlink, VXLAN, [IPv4Interface(ground.pods.network_address)])
    links.set_link(netlink, VXLAN, up=True, mtu=mtu)


def _ways_of_its_own(ground: Ground) -> frozenset[Route]:
    """The Service range has a way, so that packets to it get as far as the rules, from the node's
    address. The Pod range has none but for the Pods that live: others are known to be gone.
    """
    services = Route(ground.services, VXLAN, source=ground.address)
    return frozenset({services, Route(ground.pods)})


def _set_overlay(netlink: Netlink, wanted: Overlay) -> None:
    """Add what is missing before removing what is stale: no peer is ever without a way."""
    neighbours, vteps = links.neighbours(netlink, VXLAN), links.forwarding(netlink, VXLAN)
    for vtep in wanted.vteps - vteps:
        links.set_forwarding(netlink, VXLAN, vtep)
    for neighbour in wanted.neighbours - neighbours:
        links.set_neighbour(netlink, VXLAN, neighbour)
    _set_routes(netlink, PEERS, wanted.routes)
    set_detours(netlink, wanted.detours)
    for neighbour in neighbours - wanted.neighbours:
        links.remove_neighbour(netlink, VXLAN, neighbour)
    for vtep in vteps - wanted.vteps:
        links.remove_forwarding(netlink, VXLAN, vtep)


def _set_routes(netlink: Netlink, mark: int, wanted: frozenset[Route]) -> None:
    held = set(links.routes(netlink, mark))
    for route in wanted - held:
        links.set_route(netlink, route, mark)
    reached = {(route.to, route.table) for route in wanted}
    for route in held - wanted:
        if (route.to, route.table) not in reached:
            links.remove_route(netlink, route, mark)


def _generation() -> int:
    """The number of changes that anybody has made to this namespace's rules."""
    head = struct.pack(">BBH", socket.AF_UNSPEC, 0, 0)
    with Netlink(_NETFILTER) as netlink:
        for _, body in netlink.ask(_GET_GENERATION, head):
            found = dict(attributes(body[4:]))
            if _GENERATION_ID in found:
                return int.from_bytes(found[_GENERATION_ID], "big")
    return 0
