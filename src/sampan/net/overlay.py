"""How the Pods of other nodes are reached: plain routes to neighbours, VXLAN to all others.

Pure: peers and what the kernel says about the way to them in, routes and neighbours out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from sampan.net.links import Neighbour, Route, mac_of
from sampan.net.rules import VXLAN

OVERHEAD: Final = 50
"""Bytes that VXLAN adds to a packet: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14."""
VNI: Final = 77
PORT: Final = 8472


@dataclass(frozen=True, slots=True)
class Peer:
    address: IPv4Address
    pods: IPv4Network


@dataclass(frozen=True, slots=True)
class Overlay:
    """All routes to other nodes' Pods; *neighbours* and *vteps* are those of the VXLAN device."""

    routes: frozenset[Route] = frozenset()
    neighbours: frozenset[Neighbour] = frozenset()
    vteps: frozenset[Neighbour] = frozenset()


def plan(peers: Iterable[Peer], way_to: Callable[[IPv4Address], Route | None]) -> Overlay:
    """Route to each peer directly if it is on one of our links, through VXLAN otherwise.

    A tunnel's far end is addressed by the first address of its Pod range, which no Pod ever gets.
    """
    routes, neighbours, vteps = set(), set(), set()
    for peer in peers:
        way = way_to(peer.address)
        if way and way.via is None:
            routes.add(Route(peer.pods, way.device, via=peer.address))
            continue
        mac, end = mac_of(peer.address), peer.pods.network_address
        routes.add(Route(peer.pods, VXLAN, via=end, onlink=True))
        neighbours.add(Neighbour(end, mac))
        vteps.add(Neighbour(peer.address, mac))
    return Overlay(frozenset(routes), frozenset(neighbours), frozenset(vteps))
