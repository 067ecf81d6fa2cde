"""How the Pods of other nodes are reached: plain routes to neighbours, VXLAN to all others.

Callers from outside keep their address on the way to another node's Pod. Such packets go through
the tunnel even to a neighbour, because there the Pod's node sees by the link address who sent them,
and sends the answers back the same way: it marks the connection with the peer's number, and for
each number there is a table with one route. Pure: peers and what the kernel says about the way to
them in, routes and neighbours out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sampan.net.detours import Detour
from sampan.net.links import Neighbour, Route, mac_of
from sampan.net.rules import FORWARDED, RETURNED, VXLAN

OVERHEAD: Final = 50
"""Bytes that VXLAN adds to a packet: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14."""
VNI: Final = 77
PORT: Final = 8472
FORWARDING: Final = 830_000
"""The table by which callers from outside get to other nodes' Pods."""
RETURNING: Final = FORWARDING + 1
"""The first of the tables, one a peer, by which answers to such callers get back."""
EVERYWHERE: Final = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Peer:
    address: IPv4Address
    pods: IPv4Network

    @property
    def number(self) -> int:
        """What tells this peer from all others, on every node and for as long as it exists."""
        return int(self.pods.network_address) >> (32 - self.pods.prefixlen) & 0xFFFF

    @property
    def mac(self) -> str:
        """The link address of its end of the tunnel."""
        return mac_of(self.address)


@dataclass(frozen=True, slots=True)
class Overlay:
    """All routes to other nodes' Pods; *neighbours* and *vteps* are those of the VXLAN device."""

    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    vteps: frozenset[Neighbour] = frozenset()
    detours: frozenset[Detour] = frozenset()


def plan(peers: Iterable[Peer], way_to: Callable[[IPv4Address], Route | None]) -> Overlay:
    """Route to each peer directly if it is on one of our links, through VXLAN otherwise.

    A tunnel's far end is addressed by the first address of its Pod range, which no Pod ever gets.
    """
    peers = list(peers)
    routes: set[Route] = set()
    detours = {Detour(FORWARDED, FORWARDING)} if peers else set()
    for peer in peers:
        way, end = way_to(peer.address), peer.pods.network_address
        tunnelled = Route(peer.pods, VXLAN, via=end, onlink=True)
        table = RETURNING + peer.number
        back = Route(EVERYWHERE, VXLAN, via=end, onlink=True, table=table)
        routes |= {tunnelled._replace(table=FORWARDING), back}
        detours.add(Detour(RETURNED | peer.number, table))
        if way and way.via is None:
            routes.add(Route(peer.pods, way.device, via=peer.address))
        else:
            routes.add(tunnelled)
    return Overlay(
        routes=frozenset(routes),
        neighbours=frozenset(Neighbour(p.pods.network_address, p.mac) for p in peers),
        vteps=frozenset(Neighbour(p.address, p.mac) for p in peers),
        detours=frozenset(detours),
    )
