"""Ways to the Pods of other nodes: decided from what the kernel says, and set whole."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from sampan.net import links, namespaces
from sampan.net.links import GROUND, MAIN, PEERS, STATIC, Neighbour, Route
from sampan.net.netlink import Netlink
from sampan.net.overlay import EVERYWHERE, OVERHEAD, Overlay, Peer, plan
from sampan.net.rules import FORWARDED, RETURNED, VXLAN
from sampan.net.sysctl import forward_packets
from tests.net.lab import Lab, LabNode, ask, call, needs_root, service, slice_of

NEAR = Peer(IPv4Address("192.168.0.2"), IPv4Network("10.42.2.0/24"))
FAR = Peer(IPv4Address("203.0.113.3"), IPv4Network("10.42.3.0/24"))
ROUTER = IPv4Address("192.168.0.1")


def way_to(address: IPv4Address) -> Route | None:
    near = address in IPv4Network("192.168.0.0/24")
    return Route(IPv4Network(address), "eth0", None if near else ROUTER)


def test_a_peer_on_our_link_is_routed_to_directly() -> None:
    assert ordinary(plan([NEAR], way_to)) == {Route(NEAR.pods, "eth0", via=NEAR.address)}


def test_a_peer_behind_a_router_is_tunnelled_to() -> None:
    made = plan([FAR], way_to)
    end, mac = IPv4Address("10.42.3.0"), links.mac_of(FAR.address)
    assert ordinary(made) == {Route(FAR.pods, VXLAN, via=end, onlink=True)}
    assert made.neighbours == {Neighbour(end, mac)}
    assert made.vteps == {Neighbour(FAR.address, mac)}


def test_a_peer_that_cannot_be_reached_now_gets_a_tunnel_for_later() -> None:
    assert plan([FAR], lambda _: None) == plan([FAR], way_to)


def ordinary(made: Overlay) -> set[Route]:
    return {route for route in made.routes if route.table == MAIN}


def test_callers_from_outside_are_brought_through_the_tunnel_and_back() -> None:
    made = plan([NEAR, FAR], way_to)
    tables = {detour.mark: detour.table for detour in made.detours}
    forwarding = tables.pop(FORWARDED)
    there = {r.to for r in made.routes if r.table == forwarding}
    assert there == {NEAR.pods, FAR.pods}
    back = {r.table: (r.to, r.device, r.via) for r in made.routes}
    for peer in (NEAR, FAR):
        end = peer.pods.network_address
        assert back[tables[RETURNED | peer.number]] == (EVERYWHERE, VXLAN, end)
    assert len(tables) == 2


class Routed(Lab):
    """Two nodes on links of their own, and a router between them."""

    def build_routed(self) -> None:
        self.router = f"sampan-{self.name}-router"
        namespaces.create(self.router)
        self.exit.callback(namespaces.delete, self.router)
        namespaces.run_in(self.router, forward_packets)
        for number in (1, 2):
            self._add_node(number)
        namespaces.run_in(self.router, know_only_nodes)
        one, other = self.nodes
        one.reach(other)
        other.reach(one)

    def _add_node(self, number: int) -> None:
        network = IPv4Network(f"10.214.{number}.0/24")
        namespace = f"sampan-{self.name}-node-{number}"
        namespaces.create(namespace)
        self.exit.callback(namespaces.delete, namespace)

        def plug() -> None:
            cable = f"n{number}"
            with Netlink() as netlink, namespaces.path(namespace).open("rb") as file:
                links.add_veth(
                    netlink,
                    cable,
                    peer="eth0",
                    peer_namespace=file.fileno(),
                    peer_mac=links.mac_of(network[10]),
                )
                links.set_link(netlink, cable, up=True)
                links.add_address(netlink, cable, IPv4Interface((network[1], 24)))

        def dress() -> None:
            with Netlink() as netlink:
                links.set_link(netlink, "lo", up=True)
                links.set_link(netlink, "eth0", up=True)
                links.add_address(netlink, "eth0", IPv4Interface((network[10], 24)))
                default = Route(IPv4Network("0.0.0.0/0"), "eth0", via=network[1])
                links.set_route(netlink, default, STATIC)

        namespaces.run_in(self.router, plug)
        namespaces.run_in(namespace, dress)
        self.nodes.append(LabNode(f"node-{number}", namespace, network[10], number))


def know_only_nodes() -> None:
    """As routers of the world: packets from addresses that they have never heard of are dropped."""
    for device in ("all", "n1", "n2"):
        Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("1")


@pytest.fixture
def routed() -> Iterator[Routed]:
    lab = Routed()
    try:
        lab.build_routed()
        yield lab
    finally:
        lab.close()


@needs_root
def test_packets_cross_a_router_in_a_tunnel(routed: Routed) -> None:
    one, other = routed.nodes
    a, b = one.pod(2), other.pod(2)
    routed.answer(a, 8080, "a")
    routed.answer(b, 8080, "b")
    assert call(a, b.address, 8080) == ("b", a.address)
    assert call(b, a.address, 8080) == ("a", b.address)
    assert call(one, b.address, 8080)[0] == "b"
    assert ask(a, b.address, 8080, size=4000) == "b"
    for node in routed.nodes:
        node.serve(service("web", "10.43.0.80"), slice_of(b))
    assert call(a, "10.43.0.80", 80) == ("b", a.address)
    assert call(one, "10.43.0.80", 80)[0] == "b"


@needs_root
def test_a_caller_behind_the_router_keeps_its_address_on_the_way_to_another_nodes_pod(
    routed: Routed,
) -> None:
    one, other = routed.nodes
    b = other.pod(2)
    routed.answer(b, 8080, "b")
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    for node in routed.nodes:
        node.serve(service("web", "10.43.0.80", type="NodePort", ports=[port]), slice_of(b))
    outside = LabNode.__new__(LabNode)
    outside.namespace = routed.router
    assert call(outside, one.address, 30080) == ("b", "10.214.1.1")
    assert call(outside, other.address, 30080) == ("b", "10.214.2.1")


@needs_root
def test_full_packets_fit_into_the_tunnel(routed: Routed) -> None:
    one, other = routed.nodes
    assert one.mtu == other.mtu == 1500 - OVERHEAD
    a, b = one.pod(2), other.pod(2)
    routed.answer(b, 8080, "b")
    header = 28
    assert ask(a, b.address, 8080, size=one.mtu - header) == "b"


def detours() -> set[str]:
    shown = subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout
    return {line for line in shown.splitlines() if "fwmark" in line}


@needs_root
def test_setting_the_ways_again_changes_nothing_and_stale_ones_go(routed: Routed) -> None:
    one, other = routed.nodes

    def state() -> tuple[set[str], set[Neighbour], set[Neighbour]]:
        with Netlink() as netlink:
            routes = {str(r) for r in links.routes(netlink, PEERS)} | detours()
            return routes, links.neighbours(netlink, VXLAN), links.forwarding(netlink, VXLAN)

    before = one.do(state)
    assert all(before)
    one.reach(other)
    assert one.do(state) == before
    one.reach()
    assert one.do(state) == (set(), set(), set())


@needs_root
def test_laying_the_ground_again_is_harmless_and_cleanup_leaves_nothing(routed: Routed) -> None:
    [one, _] = routed.nodes

    def devices() -> set[str]:
        with Netlink() as netlink:
            held = {f"{name} {address}" for name, address in links.addresses(netlink)}
            routes = [*links.routes(netlink, PEERS), *links.routes(netlink, GROUND)]
            return held | {f"route {route}" for route in routes} | detours()

    laid = one.do(devices)
    assert one.do(lambda: one.kernel.lay(one.ground, one.program)) == one.mtu
    assert one.do(devices) == laid
    one.do(lambda: one.kernel.cleanup(one.ground))
    assert one.do(devices) == {"lo 127.0.0.1/8", f"eth0 {one.address}/24"}
    one.do(lambda: one.kernel.cleanup(one.ground))
    assert VXLAN not in str(one.do(socket.if_nameindex))


@needs_root
def test_a_node_that_got_another_address_or_range_has_no_rest_of_the_old(routed: Routed) -> None:
    [one, _] = routed.nodes
    old = one.ground
    moved = IPv4Address("10.214.1.77")

    def move() -> set[str]:
        with Netlink() as netlink:
            links.add_address(netlink, "eth0", IPv4Interface((moved, 24)))
        pods = IPv4Network("10.42.9.0/24")
        one.kernel.lay(replace(old, address=moved, pods=pods), one.program)
        with Netlink() as netlink:
            assert links.vxlan_local(netlink, VXLAN) == moved
            assert {r.to for r in links.routes(netlink, GROUND)} == {old.services, pods}
            return {str(held) for name, held in links.addresses(netlink) if name != "eth0"}

    assert one.do(move) == {"127.0.0.1/8", "10.43.0.10/32", "10.42.9.0/32"}


@needs_root
def test_a_node_whose_address_is_nowhere_is_told_so(routed: Routed) -> None:
    [one, _] = routed.nodes
    lost = replace(one.ground, address=IPv4Address("198.51.100.1"))
    with pytest.raises(LookupError, match=r"198\.51\.100\.1"):
        one.do(lambda: one.kernel.lay(lost, one.program))
