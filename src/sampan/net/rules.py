"""The node's netfilter table: a constant number of rules, and maps that hold all that varies.

How a packet finds its endpoint. `vips` and `ports` say which group serves its address and port:
a number, put into the connection's mark. `groups` says how that group chooses: a jump to the chain
that picks one of N at random, or by the client's address. The choice is put into the mark's upper
bits, and `endpoints` says for the whole mark where to go. The mark is cleared before the packet
leaves the hook, so that nobody else ever sees it.

    mark:  31..26 page   25..20 slot   19 sticky   18..0 group

A group of up to 64 endpoints has one slot for each. More are spread over pages of 64 slots, at
least four for each endpoint, so that their shares differ by a quarter at most. Sticky groups
always have 64 slots (or 64 pages), each given to one endpoint by rendezvous hashing: every node
agrees without talking, and a change moves only the clients of what changed.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import shake_128
from ipaddress import IPv4Network
from typing import Final

from sampan.net.compile import NodeFacts, Target

TABLE: Final = "ip sampan"
VXLAN: Final = "sampan-vx0"

SLOTS: Final = 64
PAGES: Final = (8, 16, 32, 64)
MOST_TARGETS: Final = SLOTS * SLOTS
STICKY_BIT: Final = 1 << 19
MOST_GROUPS: Final = STICKY_BIT - 1
_SLOT_SHIFT: Final = 20
_PAGE_SHIFT: Final = 26
_SEEDS: Final = (0x73616D70, 0x616E2E2E)
"""Of the hashes that choose a sticky slot and page; the same on every node."""

FORWARDED: Final = 0x53FFFFFF
"""The mark of packets from outside that another node's Pod is to get, with their own address."""
RETURNED: Final = 0x53000000
"""The mark of their answers; the lower half is the number of the peer to which they go."""

MAPS: Final = {
    "vips": "ipv4_addr . inet_proto . inet_service : mark",
    "ports": "inet_proto . inet_service : mark",
    "outside_vips": "ipv4_addr . inet_proto . inet_service : mark",
    "outside_ports": "inet_proto . inet_service : mark",
    "groups": "mark : verdict",
    "endpoints": "mark : ipv4_addr . inet_service",
    "returns": "ether_addr : mark",
}
SETS: Final = {
    "refused_vips": "ipv4_addr . inet_proto . inet_service",
    "refused_ports": "inet_proto . inet_service",
    "dropped_vips": "ipv4_addr . inet_proto . inet_service",
    "dropped_ports": "inet_proto . inet_service",
    "nodes": "ipv4_addr",
    "fenced_vips": "ipv4_addr . inet_proto . inet_service",
    "sources": "ipv4_addr . inet_proto . inet_service . ipv4_addr; flags interval",
}


def choice(count: int, *, sticky: bool) -> str:
    """Name the chain that chooses among *count* targets."""
    if sticky:
        return "sticky" if count <= SLOTS else "sticky_page"
    return f"pick{count}" if count <= SLOTS else f"page{_pages(count)}"


def slots(targets: Sequence[Target], *, sticky: bool) -> Iterator[tuple[int, Target]]:
    """Say which target each slot leads to, as the upper bits of the mark."""
    targets = targets[:MOST_TARGETS]
    if sticky:
        yield from enumerate_slots(_rendezvous(targets))
    elif len(targets) <= SLOTS:
        yield from enumerate_slots(targets)
    else:
        size = _pages(len(targets)) * SLOTS
        yield from enumerate_slots([targets[i % len(targets)] for i in range(size)])


def enumerate_slots(chosen: Sequence[Target]) -> Iterator[tuple[int, Target]]:
    for number, target in enumerate(chosen):
        page, slot = divmod(number, SLOTS)
        yield page << _PAGE_SHIFT | slot << _SLOT_SHIFT, target


def _pages(count: int) -> int:
    return next((pages for pages in PAGES if pages * SLOTS >= 4 * count), PAGES[-1])


def _rendezvous(targets: Sequence[Target]) -> list[Target]:
    """Give each slot to the target that wants it most, by a hash of both."""
    size = SLOTS if len(targets) <= SLOTS else MOST_TARGETS
    wishes = [shake_128(f"{t.address}:{t.port}".encode()).digest(4 * size) for t in targets]
    return [
        max(zip(wishes, targets, strict=True), key=lambda pair: pair[0][4 * i : 4 * i + 4])[1]
        for i in range(size)
    ]


@cache
def base(node: NodeFacts) -> str:
    """The table without elements: it depends on the node only."""
    maps = [f"map {name} {{ type {kind}; }}" for name, kind in MAPS.items()]
    sets = [f"set {name} {{ type {kind}; }}" for name, kind in SETS.items()]
    hooks = (_translating(node), _refusing(node), _masquerading(node))
    lines = [*maps, *sets, _hairpins(node.pod_cidr), *_choosing(), *hooks]
    return f"table {TABLE} {{\n" + "\n".join(lines) + "\n}\n"


def _hairpins(pods: IPv4Network) -> str:
    """Each Pod address of this node twice: two fields of a packet can be compared no other way."""
    pairs = ", ".join(f"{address} . {address}" for address in pods.hosts())
    return f"set hairpins {{ type ipv4_addr . ipv4_addr; elements = {{ {pairs} }}; }}"


def _choosing() -> Iterator[str]:
    protocols = "meta l4proto { tcp, udp, sctp }"
    yield _chain("translate", f"{protocols} dnat ip addr . port to ct mark map @endpoints")
    for slot in range(SLOTS):
        mark = f"ct mark set ct mark or {slot << _SLOT_SHIFT:#x}"
        yield _chain(f"slot{slot}", f"{mark} goto translate")
    yield _chain("pick1", "goto translate")
    for count in range(2, SLOTS + 1):
        yield _chain(f"pick{count}", f"numgen random mod {count} {_jumps('slot', count)}")
    by_client = f"jhash ip saddr mod {SLOTS} seed"
    yield _chain("sticky", f"{by_client} {_SEEDS[0]:#x} {_jumps('slot', SLOTS)}")
    yield _chain("turn", f"ct mark & {STICKY_BIT:#x} == 0 goto pick{SLOTS}", "goto sticky")
    for page in range(SLOTS):
        mark = f"ct mark set ct mark or {page << _PAGE_SHIFT:#x}"
        yield _chain(f"open{page}", f"{mark} goto turn")
    for count in PAGES:
        yield _chain(f"page{count}", f"numgen random mod {count} {_jumps('open', count)}")
    yield _chain("sticky_page", f"{by_client} {_SEEDS[1]:#x} {_jumps('open', SLOTS)}")


def _jumps(chains: str, count: int) -> str:
    return f"vmap {{ {', '.join(f'{i} : goto {chains}{i}' for i in range(count))} }}"


def _chain(name: str, *lines: str) -> str:
    body = "\n".join(lines)
    return f"chain {name} {{\n{body}\n}}"


def _elsewhere(node: NodeFacts) -> str:
    """Addresses of Pods on other nodes."""
    return f"{node.cluster_cidr} ip daddr != {node.pod_cidr}"


_TO_VIP: Final = "ip daddr . meta l4proto . th dport"
_TO_NODE: Final = "fib daddr type local ip daddr != 127.0.0.0/8"
_PORT: Final = "meta l4proto . th dport"


def _translating(node: NodeFacts) -> str:
    """From the hooks that may translate to the maps; the mark is cleared right behind."""
    chosen = "ct mark vmap @groups"
    clear = "ct state new ct status dnat ct mark set 0"
    return f"""
chain services {{
    ct mark set {_TO_VIP} map @vips {chosen}
    {_TO_NODE} ct mark set {_PORT} map @ports {chosen}
}}
chain outside {{
    {_TO_VIP} @fenced_vips {_TO_VIP} . ip saddr != @sources drop
    ct mark set {_TO_VIP} map @outside_vips {chosen}
    {_TO_VIP} @dropped_vips drop
    {_TO_NODE} ct mark set {_PORT} map @outside_ports {chosen}
    {_TO_NODE} {_PORT} @dropped_ports drop
}}
chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip saddr != {node.cluster_cidr} jump outside
    jump services
}}
chain locally {{
    type nat hook output priority -100; policy accept;
    jump services
}}
chain prerouting_clear {{
    type filter hook prerouting priority -99; policy accept;
    {clear}
    ip saddr != {node.cluster_cidr} jump keep_address
    ct mark & {0xFFFFFFFF ^ 0xFFFF:#x} == {RETURNED:#x} ct direction reply meta mark set ct mark
}}
chain keep_address {{
    ct direction reply return
    iifname "{VXLAN}" ct state new ct mark set ether saddr map @returns
    ct status dnat ip daddr {_elsewhere(node)} ip saddr != @nodes meta mark set {FORWARDED:#x}
}}
chain locally_clear {{
    type filter hook output priority -99; policy accept;
    {clear}
}}"""


def _refusing(node: NodeFacts) -> str:
    """Tell callers at once where nobody serves.

    ICMP errors from the DNS address are kept back: while the server restarts, a resolver that
    hears nothing asks again and gets an answer; one that is refused gives up.
    """
    unserved = "ct state new jump unserved"
    return f"""
chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp port-unreachable
}}
chain unserved {{
    {_TO_VIP} @refused_vips goto refuse
    {_TO_NODE} {_PORT} @refused_ports goto refuse
    ip daddr {node.service_cidr} ip daddr != {node.dns_ip} goto refuse
}}
chain input {{
    type filter hook input priority filter; policy accept;
    {unserved}
}}
chain forward {{
    type filter hook forward priority filter; policy accept;
    {unserved}
}}
chain output {{
    type filter hook output priority filter; policy accept;
    ip saddr {node.dns_ip} icmp type destination-unreachable drop
    {unserved}
}}"""


def _masquerading(node: NodeFacts) -> str:
    pods = node.cluster_cidr
    return f"""
chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr . ip daddr @hairpins ct status dnat masquerade fully-random
    ip saddr {pods} ip daddr != {pods} masquerade fully-random
    ip saddr {pods} return
    meta mark {FORWARDED:#x} return
    oifname "{VXLAN}" masquerade fully-random
    ct status dnat ip daddr != {node.pod_cidr} fib saddr type != local masquerade fully-random
}}
chain unmark {{
    type filter hook postrouting priority srcnat + 1; policy accept;
    meta mark & {0xFF000000:#x} == {RETURNED:#x} meta mark set 0
}}"""
