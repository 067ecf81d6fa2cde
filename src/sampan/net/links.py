"""Links, addresses, routes and neighbours as one would say them, in rtnetlink's words.

Every function is idempotent: to add what is there or to remove what is not is no error.
"""

import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final, NamedTuple

from sampan.net.netlink import (
    ABSENT,
    EXISTS,
    NLM_CREATE,
    NLM_DUMP,
    NLM_EXCL,
    NLM_REPLACE,
    Netlink,
    attribute,
    attributes,
    nested,
)

PEERS, GROUND = 83, 84
"""Routing protocol numbers that mark our routes (`ip route show proto 83`): those to other nodes'
Pods, and those that a node needs by itself."""
STATIC: Final = 4
"""Marks routes that an administrator would have made."""

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 16, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_VXLAN_ID, _VXLAN_LINK, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT = 1, 2, 4, 7, 15
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_NDA_DST, _NDA_LLADDR = 1, 2

_UP: Final = 1
_UNICAST, _UNREACHABLE = 1, 7
MAIN: Final = 254
_ELSEWHERE: Final = 0
"""In a route's head: the table's number is too large for it, and follows as an attribute."""
_ONLINK: Final = 4
_PERMANENT: Final = 0x80
_NTF_SELF: Final = 0x02
_SCOPE_LINK: Final = 253
SCOPE_HOST: Final = 254
_OPERATIONAL: Final = b"\6"

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


class Route(NamedTuple):
    """Where packets to *to* go: a device, and the neighbour there if it is not *to* itself.

    Without a device they go nowhere, and their sender is told.
    """

    to: IPv4Network
    device: str = ""
    via: IPv4Address | None = None
    source: IPv4Address | None = None
    onlink: bool = False
    table: int = MAIN


class Neighbour(NamedTuple):
    """A link address on a device: of an IP address, or (in an fdb) behind a remote VTEP."""

    address: IPv4Address
    mac: str


def mac_of(address: IPv4Address | str, prefix: str = "0a:58") -> str:
    """Derive a link address from an IP address: whoever gets the address later has the same."""
    return prefix + "".join(f":{byte:02x}" for byte in IPv4Address(address).packed)


def index(name: str) -> int:
    """A device's number; 0 if there is none of this name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def add_bridge(netlink: Netlink, name: str, *, mac: str, mtu: int = 0) -> None:
    _add(netlink, name, "bridge", mac=mac, mtu=mtu)


def add_vxlan(
    netlink: Netlink, name: str, *, vni: int, port: int, local: IPv4Address, device: str, mtu: int
) -> None:
    """Add a VXLAN device that learns nothing; its link address is derived from *local*."""
    data = [
        attribute(_VXLAN_ID, vni),
        attribute(_VXLAN_LINK, index(device)),
        attribute(_VXLAN_LOCAL, local.packed),
        attribute(_VXLAN_LEARNING, b"\0"),
        attribute(_VXLAN_PORT, struct.pack(">H", port)),
    ]
    _add(netlink, name, "vxlan", *data, mac=mac_of(local), mtu=mtu)


def add_veth(netlink: Netlink, name: str, *, peer: str, peer_namespace: int, peer_mac: str) -> None:
    """Add a veth pair, one end here, the other in the namespace of the open file given."""
    far_end = [
        attribute(_IFLA_IFNAME, peer),
        attribute(_IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", ""))),
        attribute(_IFLA_NET_NS_FD, peer_namespace),
    ]
    data = nested(_VETH_PEER, _LINK.pack(0, 0, 0, 0, 0), *far_end)
    _add(netlink, name, "veth", data)


def _add(netlink: Netlink, name: str, kind: str, *data: bytes, mac: str = "", mtu: int = 0) -> None:
    about = [attribute(_IFLA_IFNAME, name)]
    if mac:
        about.append(attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))))
    if mtu:
        about.append(attribute(_IFLA_MTU, mtu))
    info = [attribute(_INFO_KIND, kind), *([nested(_INFO_DATA, *data)] if data else [])]
    body = b"".join([_LINK.pack(0, 0, 0, 0, 0), *about, nested(_IFLA_LINKINFO, *info)])
    netlink.change(_NEWLINK, body, NLM_CREATE | NLM_EXCL, tolerate=EXISTS)


def remove_link(netlink: Netlink, name: str) -> None:
    """Remove a device; the kernel takes some 20 ms for it."""
    if number := index(name):
        netlink.change(_DELLINK, _LINK.pack(0, 0, number, 0, 0), tolerate=ABSENT)


def set_link(
    netlink: Netlink, name: str, *, up: bool | None = None, master: str = "", mtu: int = 0
) -> None:
    """Switch a device on or off, plug it into a bridge, set its MTU."""
    changes = attribute(_IFLA_MASTER, index(master)) if master else b""
    changes += attribute(_IFLA_MTU, mtu) if mtu else b""
    head = _LINK.pack(0, 0, index(name), _UP if up else 0, 0 if up is None else _UP)
    netlink.change(_NEWLINK, head + changes)


def mtu_of(netlink: Netlink, name: str) -> int:
    [(_, body)] = netlink.ask(_GETLINK, _LINK.pack(0, 0, index(name), 0, 0))
    found = dict(attributes(body[_LINK.size :]))
    return int.from_bytes(found[_IFLA_MTU], "little")


def vxlan_local(netlink: Netlink, name: str) -> IPv4Address | None:
    """The address from which a VXLAN device sends; None if there is no such device."""
    if not (number := index(name)):
        return None
    [(_, body)] = netlink.ask(_GETLINK, _LINK.pack(0, 0, number, 0, 0))
    info = dict(attributes(dict(attributes(body[_LINK.size :])).get(_IFLA_LINKINFO, b"")))
    data = dict(attributes(info.get(_INFO_DATA, b"")))
    return IPv4Address(data[_VXLAN_LOCAL]) if _VXLAN_LOCAL in data else None


def is_carrying(netlink: Netlink, name: str) -> bool:
    """Say whether a device sends: it is on, plugged in, and the kernel has noticed."""
    [(_, body)] = netlink.ask(_GETLINK, _LINK.pack(0, 0, index(name), 0, 0))
    return dict(attributes(body[_LINK.size :])).get(_IFLA_OPERSTATE) == _OPERATIONAL


def add_address(netlink: Netlink, name: str, address: IPv4Interface, *, scope: int = 0) -> None:
    netlink.change(_NEWADDR, _address(name, address, scope), NLM_CREATE | NLM_EXCL, tolerate=EXISTS)


def set_addresses(netlink: Netlink, name: str, wanted: Collection[IPv4Interface]) -> None:
    """Give a device these addresses and no others."""
    held = {address for device, address in addresses(netlink) if device == name}
    for address in wanted:
        if address not in held:
            add_address(netlink, name, address)
    for address in held.difference(wanted):
        remove_address(netlink, name, address)


def remove_address(netlink: Netlink, name: str, address: IPv4Interface) -> None:
    netlink.change(_DELADDR, _address(name, address, 0), tolerate=ABSENT)


def addresses(netlink: Netlink) -> Iterator[tuple[str, IPv4Interface]]:
    """Every IPv4 address of this namespace, and its device."""
    names = dict(socket.if_nameindex())
    head = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
    for _, body in netlink.ask(_GETADDR, head, NLM_DUMP):
        _, length, _, _, number = _ADDRESS.unpack_from(body)
        found = dict(attributes(body[_ADDRESS.size :]))
        if _IFA_LOCAL in found and number in names:
            yield names[number], IPv4Interface((found[_IFA_LOCAL], length))


def _address(name: str, address: IPv4Interface, scope: int) -> bytes:
    head = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, scope, index(name))
    packed = address.ip.packed
    return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def set_route(netlink: Netlink, route: Route, mark: int) -> None:
    """Add a route, or replace the one to the same place; `routes` finds it by its *mark*."""
    netlink.change(_NEWROUTE, _route(route, mark), NLM_CREATE | NLM_REPLACE)


def remove_route(netlink: Netlink, route: Route, mark: int) -> None:
    netlink.change(_DELROUTE, _route(route, mark), tolerate=ABSENT)


def _route(route: Route, mark: int) -> bytes:
    scope = 0 if route.via or not route.device else _SCOPE_LINK
    kind = _UNICAST if route.device else _UNREACHABLE
    flags = _ONLINK if route.onlink else 0
    table = route.table if route.table <= MAIN else _ELSEWHERE
    head = _ROUTE.pack(socket.AF_INET, route.to.prefixlen, 0, 0, table, mark, scope, kind, flags)
    parts = [head, attribute(_RTA_TABLE, route.table)]
    if route.device:
        parts.append(attribute(_RTA_OIF, index(route.device)))
    if route.to.prefixlen:
        parts.append(attribute(_RTA_DST, route.to.network_address.packed))
    if route.via:
        parts.append(attribute(_RTA_GATEWAY, route.via.packed))
    if route.source:
        parts.append(attribute(_RTA_PREFSRC, route.source.packed))
    return b"".join(parts)


def routes(netlink: Netlink, mark: int) -> Iterator[Route]:
    """Every route in any table that carries *mark*."""
    names = dict(socket.if_nameindex())
    head = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for _, body in netlink.ask(_GETROUTE, head, NLM_DUMP):
        _, length, _, _, _, protocol, _, _, flags = _ROUTE.unpack_from(body)
        if protocol != mark:
            continue
        found = dict(attributes(body[_ROUTE.size :]))
        yield Route(
            IPv4Network((found.get(_RTA_DST, bytes(4)), length)),
            names.get(int.from_bytes(found.get(_RTA_OIF, b""), "little"), ""),
            IPv4Address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None,
            IPv4Address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
            bool(flags & _ONLINK),
            int.from_bytes(found[_RTA_TABLE], "little"),
        )


def route_to(netlink: Netlink, address: IPv4Address) -> Route | None:
    """How the kernel would send to *address* now; None if it cannot."""
    head = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    try:
        [(_, body)] = netlink.ask(_GETROUTE, head + attribute(_RTA_DST, address.packed))
    except OSError:
        return None
    found = dict(attributes(body[_ROUTE.size :]))
    via = IPv4Address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
    device = socket.if_indextoname(int.from_bytes(found[_RTA_OIF], "little"))
    return Route(IPv4Network(address), device, via)


def set_neighbour(netlink: Netlink, device: str, neighbour: Neighbour) -> None:
    """Fix the link address of an IP address on *device*, for good."""
    body = _neighbour(socket.AF_INET, device, 0, neighbour)
    netlink.change(_NEWNEIGH, body, NLM_CREATE | NLM_REPLACE)


def set_forwarding(netlink: Netlink, device: str, vtep: Neighbour) -> None:
    """Tell a VXLAN device behind which address a link address is."""
    body = _neighbour(socket.AF_BRIDGE, device, _NTF_SELF, vtep)
    netlink.change(_NEWNEIGH, body, NLM_CREATE | NLM_REPLACE)


def remove_neighbour(netlink: Netlink, device: str, neighbour: Neighbour) -> None:
    netlink.change(_DELNEIGH, _neighbour(socket.AF_INET, device, 0, neighbour), tolerate=ABSENT)


def remove_forwarding(netlink: Netlink, device: str, vtep: Neighbour) -> None:
    body = _neighbour(socket.AF_BRIDGE, device, _NTF_SELF, vtep)
    netlink.change(_DELNEIGH, body, tolerate=ABSENT)


def _neighbour(family: int, device: str, flags: int, neighbour: Neighbour) -> bytes:
    head = _NEIGHBOUR.pack(family, index(device), _PERMANENT, flags, 0)
    mac = bytes.fromhex(neighbour.mac.replace(":", ""))
    return head + attribute(_NDA_DST, neighbour.address.packed) + attribute(_NDA_LLADDR, mac)


def neighbours(netlink: Netlink, device: str) -> set[Neighbour]:
    """The permanent neighbours on *device*."""
    return set(_neighbours(netlink, device, socket.AF_INET))


def forwarding(netlink: Netlink, device: str) -> set[Neighbour]:
    """Behind which addresses a VXLAN device sees which link addresses."""
    return set(_neighbours(netlink, device, socket.AF_BRIDGE))


def _neighbours(netlink: Netlink, device: str, family: int) -> Iterator[Neighbour]:
    number = index(device)
    head = _NEIGHBOUR.pack(family, 0, 0, 0, 0)
    for _, body in netlink.ask(_GETNEIGH, head, NLM_DUMP):
        _, at, state, _, _ = _NEIGHBOUR.unpack_from(body)
        if at != number or not state & _PERMANENT:
            continue
        found = dict(attributes(body[_NEIGHBOUR.size :]))
        if _NDA_DST in found and _NDA_LLADDR in found:
            yield Neighbour(IPv4Address(found[_NDA_DST]), found[_NDA_LLADDR].hex(":"))
