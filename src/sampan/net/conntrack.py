"""What the kernel remembers of connections: which are unfinished, and UDP flows to be forgotten.

The kernel remembers where a flow goes for as long as its client goes on sending, so a UDP client
would talk to a dead Pod for ever. TCP needs none of this: its client gets a reset and dials again.
"""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

from sampan.net.compile import Target
from sampan.net.netlink import NLM_DUMP, Netlink, attribute, attributes, nested

_NETFILTER: Final = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_ORIGINAL, _REPLY = 1, 2
_IP, _PROTOCOL = 1, 2
_SOURCE, _DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_HEAD: Final = struct.pack(">BBH", socket.AF_INET, 0, 0)
_PROTOCOL_INFO, _TIMEOUT, _FILTER = 4, 7, 25
_BY_REPLY_SOURCE: Final = nested(_FILTER, attribute(1, 0), attribute(2, 1 << 0))
_TCP, _TCP_STATE = 1, 1
_SYN_SENT, _SYN_RECEIVED, _ESTABLISHED = 1, 2, 3
_LIFETIMES: Final = Path("/proc/sys/net/netfilter")
QUIET: Final = 1
"""An open connection on which nothing moved for more than so many seconds waits for no answer."""
ASKS_AGAIN: Final = 2
"""Seconds after which a client repeats a first packet that nobody answered, and some more."""

Front = tuple[str, int]
"""A frontend's address, or "" for any of this node, and port."""


class Flow(NamedTuple):
    tuple: bytes
    """The flow's own words for itself, by which it can be deleted."""
    called: Target
    """Where its first packet was sent."""
    answered_by: Target

    @property
    def led(self) -> bool:
        """Whether it was translated on its way."""
        return self.called != self.answered_by


def forget(gone: AbstractSet[Target], fresh: AbstractSet[Front]) -> int:
    """Delete the UDP flows to *gone* endpoints and those to *fresh* frontends that go elsewhere.

    Returns how many there were. Blocks: not for the event loop.
    """
    if not gone and not fresh:
        return 0
    return _delete(lambda flow: flow.answered_by in gone or (not flow.led and _calls(flow, fresh)))


def settle(targets: AbstractSet[Target], fronts: AbstractSet[Front]) -> int:
    """Delete the UDP flows to *fronts* that lead to none of *targets*, or nowhere.

    For the beginning, when nobody knows what happened before. Blocks: not for the event loop.
    """
    if not fronts:
        return 0
    return _delete(lambda flow: _calls(flow, fronts) and flow.answered_by not in targets)


def _delete(condemned: Callable[[Flow], bool]) -> int:
    with Netlink(_NETFILTER) as netlink:
        flows = [flow for flow in _flows(netlink) if condemned(flow)]
        for flow in flows:
            body = _HEAD + nested(_ORIGINAL, flow.tuple)
            netlink.change(_DELETE, body, tolerate=(errno.ENOENT,))
    return len(flows)


def _calls(flow: Flow, fronts: AbstractSet[Front]) -> bool:
    return (flow.called.address, flow.called.port) in fronts or ("", flow.called.port) in fronts


def _flows(netlink: Netlink) -> Iterator[Flow]:
    for _, body in netlink.ask(_GET, _HEAD, NLM_DUMP):
        found = dict(attributes(body[4:]))
        original, reply = found.get(_ORIGINAL, b""), found.get(_REPLY, b"")
        if _protocol(original) == socket.IPPROTO_UDP:
            yield Flow(original, _end(original, far=True), _end(reply, far=False))


def _protocol(flow: bytes) -> int:
    inner = dict(attributes(dict(attributes(flow)).get(_PROTOCOL, b"")))
    return inner.get(_NUMBER, b"\0")[0]


def _end(flow: bytes, *, far: bool) -> Target:
    parts = dict(attributes(flow))
    addresses, ports = dict(attributes(parts[_IP])), dict(attributes(parts[_PROTOCOL]))
    address = addresses[_DESTINATION if far else _SOURCE]
    port = ports[_DESTINATION_PORT if far else _SOURCE_PORT]
    return Target(socket.inet_ntoa(address), int.from_bytes(port[:2], "big"))


def unfinished(address: str) -> int:
    """Count TCP connections to *address* that are being made, or on which something moves.

    The kernel gives a connection so many seconds to live at each of its packets; what is left of
    them says how long ago the last one was. Blocks, for as long as it takes to walk the table.
    """
    far = nested(_REPLY, nested(_IP, attribute(_SOURCE, socket.inet_aton(address))))
    with Netlink(_NETFILTER) as netlink:
        found = [
            dict(attributes(body[4:]))
            for _, body in netlink.ask(_GET, _HEAD + far + _BY_REPLY_SOURCE, NLM_DUMP)
        ]
    lives = {state: _lifetime(name) for state, name in _OPEN.items()}
    unanswered = _lifetime("unacknowledged")
    return sum(_moves(connection, lives, unanswered) for connection in found)


_OPEN: Final = {
    _SYN_SENT: "syn_sent",
    _SYN_RECEIVED: "syn_recv",
    _ESTABLISHED: "established",
}


def _lifetime(state: str) -> int:
    return int((_LIFETIMES / f"nf_conntrack_tcp_timeout_{state}").read_text())


def _moves(connection: dict[int, bytes], lives: dict[int, int], unanswered: int) -> bool:
    info = dict(attributes(dict(attributes(connection.get(_PROTOCOL_INFO, b""))).get(_TCP, b"")))
    state = info.get(_TCP_STATE, b"\0")[0]
    if state not in lives:
        return False
    left = int.from_bytes(connection.get(_TIMEOUT, b""), "big")
    if state == _ESTABLISHED:
        return left <= unanswered or lives[state] - left <= QUIET
    return lives[state] - left <= ASKS_AGAIN
