"""Just enough rtnetlink to set up links, addresses, routes and neighbours.

A request is a header, a fixed struct and attributes; the kernel answers with an error number. The
whole of pyroute2 would do the same, at a quarter of a second of import and 11 MB a process, which
is more than all the rest of a small agent's start.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

NLM_REQUEST: Final = 0x1
NLM_ACK: Final = 0x4
NLM_DUMP: Final = 0x300
NLM_REPLACE: Final = 0x100
NLM_EXCL: Final = 0x200
NLM_CREATE: Final = 0x400
NLM_APPEND: Final = 0x800

_NESTED: Final = 0x8000
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = 2
_DONE: Final = 3
_MULTI: Final = 0x2
_RECEIVE: Final = 1 << 20

Message = tuple[int, bytes]
"""A message's type and its body."""


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """Encode one attribute; texts end in NUL, numbers are 32 bits of the host's order."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Take attributes apart; flags in their types are dropped."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[offset + _ATTRIBUTE.size : offset + length]
        offset += length + (-length % 4)


class Netlink:
    """One socket to the kernel, in the network namespace of the thread that opens it."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def change(
        self, kind: int, body: bytes, flags: int = 0, *, tolerate: Sequence[int] = ()
    ) -> bool:
        """Ask for a change; False if the kernel refused it with one of the errors in *tolerate*.

        Raises OSError for any other refusal.
        """
        self._send(kind, body, NLM_REQUEST | NLM_ACK | flags)
        try:
            for _ in self._answers():
                pass
        except OSError as error:
            if error.errno in tolerate:
                return False
            raise
        return True

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """Ask for one object, or with NLM_DUMP for all of a kind."""
        wants_ack = 0 if flags & NLM_DUMP else NLM_ACK
        self._send(kind, body, NLM_REQUEST | wants_ack | flags)
        return list(self._answers())

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, kind, flags, self._sequence, 0) + body)

    def _answers(self) -> Iterator[Message]:
        """Yield what answers the last request, until its acknowledgement or its end."""
        while True:
            data = self._socket.recv(_RECEIVE)
            offset = 0
            while offset < len(data):
                size, kind, _flags, sequence, _ = _HEADER.unpack_from(data, offset)
                body = data[offset + _HEADER.size : offset + size]
                offset += size + (-size % 4)
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, f"{os.strerror(code)} (netlink)")
                    return
                yield kind, body


EXISTS: Final = (errno.EEXIST,)
ABSENT: Final = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)
