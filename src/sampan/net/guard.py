"""The table that keeps NetworkPolicies: a chain for each way of being guarded, sets for who may.

Every packet is looked at, not only the first of a connection, so that a policy ends what it does
not allow. Packets of the answering direction are judged by the same sets with both ends swapped.
The node itself reaches its Pods and is reached by them whatever policies say, as Kubernetes wants
it; so probes work, and the DNS server, which is on the node.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from sampan.net.policy import Allowed, Box, Guard, Range

TABLE: Final = "ip sampan-guard"
GONE: Final = f"add table {TABLE}\ndelete table {TABLE}\n"

_PAIRS: Final = "type ipv4_addr . ipv4_addr"
_VERDICTS: Final = "type ipv4_addr : verdict"
_ADDRESSES: Final = "type ipv4_addr; flags interval"
_PLACES: Final = "type ipv4_addr . inet_proto . inet_service; flags interval"
_CHECKS: Final = {"arriving": ("saddr", "daddr"), "leaving": ("daddr", "saddr")}
"""Where the other end stands in a packet of the calling and of the answering direction."""


def table(guards: Mapping[str, Guard]) -> str:
    """The commands that make the table what it must be, whatever it was; none guarded: no table."""
    if not guards:
        return GONE
    numbers: dict[Allowed, int] = {}
    judged: dict[str, dict[str, int]] = {"arriving": {}, "leaving": {}}
    for address, guard in sorted(guards.items()):
        for way, allowed in (("arriving", guard.ingress), ("leaving", guard.egress)):
            if allowed is not None:
                judged[way][address] = numbers.setdefault(allowed, len(numbers))
    lines = [_set("selves", _PAIRS, (f"{address} . {address}" for address in sorted(guards)))]
    for allowed, number in numbers.items():
        lines += _sets(number, allowed)
    lines.append(_CUT)
    for way, by_address in judged.items():
        for number in sorted(set(by_address.values())):
            lines += _chains(way, number)
        for suffix in ("", "_back"):
            jumps = (f"{a} : jump {way}{suffix}{number}" for a, number in by_address.items())
            lines.append(_set(f"{way}{suffix}", _VERDICTS, jumps).replace("set", "map", 1))
    return f"{GONE}table {TABLE} {{\n" + "\n".join([*lines, _HOOK]) + "\n}\n"


def _sets(number: int, allowed: Allowed) -> Iterator[str]:
    yield _set(f"any{number}", _ADDRESSES, (_span(b.addresses) for b in allowed if not b.protocol))
    yield _set(f"some{number}", _PLACES, (_place(box) for box in allowed if box.protocol))


def _place(box: Box) -> str:
    first, last = box.ports
    ports = f"{first}-{last}" if first != last else str(first)
    return f"{_span(box.addresses)} . {box.protocol.lower()} . {ports}"


def _span(addresses: Range) -> str:
    first, last = map(str, map(IPv4Address, addresses))
    return f"{first}-{last}" if first != last else first


def _set(name: str, kind: str, elements: Iterable[str]) -> str:
    text = ", ".join(elements)
    inside = f" elements = {{ {text} }};" if text else ""
    return f"set {name} {{ {kind};{inside} }}"


def _chains(way: str, number: int) -> Iterator[str]:
    for suffix, end, port in zip(("", "_back"), _CHECKS[way], ("dport", "sport"), strict=True):
        yield f"""chain {way}{suffix}{number} {{
    ip {end} @any{number} return
    ip {end} . meta l4proto . th {port} @some{number} return
    goto cut
}}"""


_CUT: Final = """chain cut {
    ct state established meta l4proto tcp reject with tcp reset
    drop
}"""
_HOOK: Final = """chain back {
    ip daddr vmap @leaving_back
    ip saddr vmap @arriving_back
}
chain guard {
    type filter hook forward priority filter - 5; policy accept;
    ct state related meta l4proto icmp accept
    ip saddr . ip daddr @selves accept
    ct direction reply goto back
    ip saddr vmap @leaving
    ip daddr vmap @arriving
}"""
