"""SPDY/3.1 framing, the server's side: bytes in, events out; and frames to send as bytes.

Kubernetes' clients carry port-forwarding in it to this day, inside a WebSocket. Nothing here does
I/O. Source: SPDY Protocol, draft 3.1.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base "
    "content-encoding content-language content-length content-location content-md5 "
    "content-range content-type date etag expect expires from host if-match if-modified-since "
    "if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
)
_VALUES: Final = (
    "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL: Final = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 "
    b"Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 "
    b"Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, "
    b"Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    b"application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    b"gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _block(text: str) -> bytes:
    return len(text).to_bytes(4, "big") + text.encode()


DICTIONARY: Final = b"".join(map(_block, (*_NAMES.split(), *_VALUES))) + _TAIL

_VERSION: Final = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _WINDOW_UPDATE = 1, 2, 3, 6, 7, 9
_HEADERS: Final = 8
_FIN: Final = 1
_CONTROL: Final = 0x80
_HEADER_SIZE: Final = 8
_LONGEST_FRAME: Final = 1 << 20
_LONGEST_HEADERS: Final = 64 << 10
_MOST_HEADERS: Final = 100
_CHUNK: Final = 1 << 16

REFUSED: Final = 3
CANCEL: Final = 5


class ProtocolError(Exception):
    """The other side does not speak SPDY/3.1; the connection is of no more use."""


class Opened(Struct, frozen=True):
    stream: int
    headers: dict[str, str]
    fin: bool = False


class Data(Struct, frozen=True):
    stream: int
    data: bytes
    fin: bool = False


class Reset(Struct, frozen=True):
    stream: int


class Ping(Struct, frozen=True):
    number: int


class GoneAway(Struct, frozen=True):
    """The other side opens no more streams."""


Event = Opened | Data | Reset | Ping | GoneAway


class Framing:
    """The state of one connection: the header compressors, and bytes that are no frame yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._unpack = zlib.decompressobj(zdict=DICTIONARY)
        self._pack = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Event]:
        """Return what *data* completes; raise ProtocolError for what is no SPDY."""
        self._buffer += data
        return list(self._events())

    def _events(self) -> Iterator[Event]:
        while len(self._buffer) >= _HEADER_SIZE:
            head = bytes(self._buffer[:_HEADER_SIZE])
            length = int.from_bytes(head[5:8], "big")
            if length > _LONGEST_FRAME:
                raise ProtocolError(f"a frame of {length} bytes is too long")
            end = _HEADER_SIZE + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER_SIZE:end])
            del self._buffer[:end]
            event = self._event(head, body)
            if event is not None:
                yield event

    def _event(self, head: bytes, body: bytes) -> Event | None:
        fin = bool(head[4] & _FIN)
        if not head[0] & _CONTROL:
            return Data(_number(head), body, fin)
        version, kind = int.from_bytes(head[:2], "big") & 0x7FFF, int.from_bytes(head[2:4], "big")
        if version != _VERSION:
            raise ProtocolError(f"version {version} is spoken, not {_VERSION}")
        match kind:
            case 1:  # SYN_STREAM
                if len(body) < 10:  # noqa: PLR2004 - two streams, priority, slot
                    raise ProtocolError("a SYN_STREAM is too short")
                return Opened(_number(body), self._headers(body[10:]), fin)
            case 2 | 8:  # SYN_REPLY, HEADERS: of interest only to the shared compressor
                self._headers(body[4:])
            case 3:
                return Reset(_number(body))
            case 6:
                return Ping(_number(body))
            case 7:
                return GoneAway()
        return None

    def _headers(self, packed: bytes) -> dict[str, str]:
        try:
            block = self._unpack.decompress(packed, _LONGEST_HEADERS)
        except zlib.error as error:
            raise ProtocolError(f"a header block cannot be unpacked: {error}") from error
        if self._unpack.unconsumed_tail:
            raise ProtocolError("a header block is too long")
        return dict(_pairs(block))

    def _control(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        head = (0x8000 | _VERSION).to_bytes(2, "big") + kind.to_bytes(2, "big")
        return head + bytes((flags,)) + len(body).to_bytes(3, "big") + body

    def _packed(self, headers: Mapping[str, str]) -> bytes:
        pairs = b"".join(_block(name) + _block(value) for name, value in headers.items())
        block = len(headers).to_bytes(4, "big") + pairs
        return self._pack.compress(block) + self._pack.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        body = stream.to_bytes(4, "big") + bytes(6) + self._packed(headers)
        return self._control(_SYN_STREAM, body, _FIN if fin else 0)

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        return self._control(_SYN_REPLY, stream.to_bytes(4, "big") + self._packed(headers or {}))

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> bytes:
        """Write *data* as frames of at most 64 KiB, the last of which may end the stream."""
        chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)] or [b""]
        frames = [
            stream.to_bytes(4, "big")
            + bytes((_FIN if fin and last else 0,))
            + len(chunk).to_bytes(3, "big")
            + chunk
            for last, chunk in ((i == len(chunks) - 1, c) for i, c in enumerate(chunks))
        ]
        return b"".join(frames)

    def reset(self, stream: int, status: int) -> bytes:
        return self._control(_RST_STREAM, stream.to_bytes(4, "big") + status.to_bytes(4, "big"))

    def ping(self, number: int) -> bytes:
        return self._control(_PING, number.to_bytes(4, "big"))

    def go_away(self, last_stream: int) -> bytes:
        return self._control(_GOAWAY, last_stream.to_bytes(4, "big") + bytes(4))

    def received(self, stream: int, size: int) -> bytes:
        """Give the window back: *size* bytes of *stream* were taken, and of the connection."""
        delta = size.to_bytes(4, "big")
        return self._control(_WINDOW_UPDATE, stream.to_bytes(4, "big") + delta) + self._control(
            _WINDOW_UPDATE, bytes(4) + delta
        )


def _number(body: bytes) -> int:
    if len(body) < 4:  # noqa: PLR2004 - 32 bits
        raise ProtocolError("a frame is too short")
    return int.from_bytes(body[:4], "big") & 0x7FFFFFFF


def _pairs(block: bytes) -> Iterator[tuple[str, str]]:
    reader = _Reader(block)
    count = reader.number()
    if count > _MOST_HEADERS:
        raise ProtocolError(f"{count} headers are too many")
    for _ in range(count):
        name = reader.text()
        yield name.lower(), reader.text()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ProtocolError("a header block ends early")
        self._at += size
        return taken

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def text(self) -> str:
        return self._take(self.number()).decode("latin-1")
