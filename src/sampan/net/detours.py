"""Rules that send marked packets by other tables of routes than the main one.

`ip rule show` lists them; ours carry protocol 83, as our routes do.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from sampan.net.links import PEERS
from sampan.net.netlink import (
    EXISTS,
    NLM_CREATE,
    NLM_DUMP,
    NLM_EXCL,
    Netlink,
    attribute,
    attributes,
)

_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_PRIORITY, _MARK, _TABLE, _MASK, _PROTOCOL = 6, 10, 15, 16, 21
_TO_TABLE: Final = 1
_HEAD: Final = struct.Struct("=BBBBBBBBI")
_EVERY_BIT: Final = 0xFFFFFFFF
ORDER: Final = 8300
"""Our rules' preference: behind the local table, before the main one."""


class Detour(NamedTuple):
    mark: int
    table: int


def set_detours(netlink: Netlink, wanted: frozenset[Detour]) -> None:
    """Have these rules of ours and no others."""
    held = set(_held(netlink))
    for detour in wanted - held:
        netlink.change(_NEWRULE, _body(detour), NLM_CREATE | NLM_EXCL, tolerate=EXISTS)
    for detour in held - wanted:
        netlink.change(_DELRULE, _body(detour), tolerate=(errno.ENOENT,))


def _held(netlink: Netlink) -> Iterator[Detour]:
    head = _HEAD.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for _, body in netlink.ask(_GETRULE, head, NLM_DUMP):
        found = dict(attributes(body[_HEAD.size :]))
        if found.get(_PROTOCOL) == bytes([PEERS]):
            yield Detour(_number(found[_MARK]), _number(found[_TABLE]))


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _body(detour: Detour) -> bytes:
    return b"".join(
        [
            _HEAD.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0),
            attribute(_PRIORITY, ORDER),
            attribute(_MARK, detour.mark),
            attribute(_MASK, _EVERY_BIT),
            attribute(_TABLE, detour.table),
            attribute(_PROTOCOL, bytes([PEERS])),
        ]
    )
