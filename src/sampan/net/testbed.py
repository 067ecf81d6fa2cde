"""Several nodes on one machine: network namespaces on a bridge, as machines on one switch.

The bridge has the first address of the subnet and stands for the outside world: the server runs
behind it, and with *egress* this machine takes the nodes' packets on to the rest of the world.
"""

import re
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from sampan.net import firewall, links, namespaces, nft
from sampan.net.links import STATIC, Route
from sampan.net.netlink import Netlink
from sampan.net.sysctl import forward_packets, write

_NOTICED_WITHIN = 2.0
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BORROWED = Path("/run/sampan/ip_forward.was-off")


def netns_path(name: str, node: str) -> Path:
    return namespaces.path(_namespace(name, node))


def create(name: str, *, subnet: str, nodes: int, egress: bool) -> None:
    """Make the network of cluster *name*, or whatever of it is missing or unplugged."""
    network = IPv4Network(subnet)
    gateway = network[1]
    with Netlink() as netlink:
        links.add_bridge(netlink, _bridge(name), mac=links.mac_of(gateway))
        links.add_address(netlink, _bridge(name), _on(network, gateway))
        links.set_link(netlink, _bridge(name), up=True)
        for number in range(1, nodes + 1):
            _create_node(netlink, name, number, network)
        cables = [_cable(name, number) for number in range(1, nodes + 1)]
        _wait_until(lambda: all(links.is_carrying(netlink, cable) for cable in cables))
    firewall.admit(_bridge(name))
    if egress:
        _open_egress(name, network)


def destroy(name: str) -> None:
    """Remove every trace of the network of cluster *name*."""
    with Netlink() as netlink:
        for _, device in socket.if_nameindex():
            if re.fullmatch(rf"{name}-\d+", device):
                links.remove_link(netlink, device)
        links.remove_link(netlink, _bridge(name))
    for file in namespaces.DIRECTORY.glob(_namespace(name, "node-*")):
        namespaces.delete(file.name)
    firewall.dismiss(_bridge(name))
    _close_egress(name)


def unplug(name: str, number: int) -> None:
    """Pull the cable of one node: it sees no carrier, and its packets go nowhere."""
    with Netlink() as netlink:
        links.set_link(netlink, _cable(name, number), up=False)


def _bridge(name: str) -> str:
    return f"sp-{name}"


def _cable(name: str, number: int) -> str:
    """The end of a node's veth pair that stays on this machine."""
    return f"{name}-{number}"


def _namespace(name: str, node: str) -> str:
    return f"sampan-{name}-{node}"


def _on(network: IPv4Network, address: IPv4Address) -> IPv4Interface:
    return IPv4Interface((address, network.prefixlen))


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the kernel has noticed new cables; a packet sent before is lost for a second."""
    deadline = time.monotonic() + _NOTICED_WITHIN
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def _create_node(netlink: Netlink, name: str, number: int, network: IPv4Network) -> None:
    namespace, cable = _namespace(name, f"node-{number}"), _cable(name, number)
    address = network[10 + number]
    namespaces.create(namespace)
    if not links.index(cable):
        with namespaces.path(namespace).open("rb") as file:
            links.add_veth(
                netlink,
                cable,
                peer="eth0",
                peer_namespace=file.fileno(),
                peer_mac=links.mac_of(address),
            )
    links.set_link(netlink, cable, up=True, master=_bridge(name))
    namespaces.run_in(namespace, lambda: _set_up_inside(network, address))


def _set_up_inside(network: IPv4Network, address: IPv4Address) -> None:
    with Netlink() as netlink:
        links.set_link(netlink, "lo", up=True)
        links.set_link(netlink, "eth0", up=True)
        links.add_address(netlink, "eth0", _on(network, address))
        default = Route(IPv4Network("0.0.0.0/0"), "eth0", via=network[1])
        links.set_route(netlink, default, STATIC)
    forward_packets()


def _open_egress(name: str, network: IPv4Network) -> None:
    """Masquerade what comes from the nodes and leaves them, in a table of our own."""
    table = f"table ip sampan-dev-{name}"
    nft.run(f"""
        add {table}
        delete {table}
        {table} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {network} ip daddr != {network} masquerade
            }}
        }}
    """)
    if _FORWARDING.read_text().strip() == "0":
        _BORROWED.parent.mkdir(parents=True, exist_ok=True)
        _BORROWED.touch()
        write(_FORWARDING, "1")


def _close_egress(name: str) -> None:
    """Remove the table; with the last one, forwarding is again as we found it."""
    tables = nft.run("list tables")
    if f"table ip sampan-dev-{name}\n" not in tables:
        return
    nft.run(f"delete table ip sampan-dev-{name}")
    if tables.count("sampan-dev-") == 1 and _BORROWED.exists():
        write(_FORWARDING, "0")
        _BORROWED.unlink()
