"""What the kernel really holds, and what a name really leads to: for checks, not for work."""

import asyncio
import re
import socket
from collections.abc import Iterator
from typing import Final

from sampan.net import nft
from sampan.net.dns import PORT
from sampan.net.program import Elements
from sampan.net.rules import MAPS, SETS, TABLE

_ELEMENTS: Final = re.compile(r"elements = \{(.*?)\}", re.DOTALL)
_MARK: Final = re.compile(r"\b0x[0-9a-f]{8}\b")
_PATIENCE: Final = 2.0


def held() -> Elements:
    """Read all elements of our table, in the words of `Program.elements`. Blocks."""
    found: Elements = {}
    for kind, names in (("map", MAPS), ("set", SETS)):
        for name in names:
            text = nft.run(f"list {kind} {TABLE} {name}")
            for key, value in _listed(text, kind):
                found[name, key] = value
    return found


def plain(elements: Elements) -> Elements:
    """The same elements written as the kernel writes them."""
    return {(name, key.removesuffix("/32")): value for (name, key), value in elements.items()}


def _listed(text: str, kind: str) -> Iterator[tuple[str, str]]:
    match = _ELEMENTS.search(text)
    for element in match[1].split(",") if match else ():
        said = _MARK.sub(lambda mark: f"{int(mark[0], 16):#x}", " ".join(element.split()))
        if kind == "set":
            yield said, ""
        else:
            key, _, value = said.rpartition(" : ")
            yield key, value


async def resolve(name: str, server: str) -> set[str]:
    """Ask *server* for the IPv4 addresses of *name*; none if it denies it, OSError if silent."""
    from dnslib import QTYPE, DNSRecord  # noqa: PLC0415 - few need it, and it takes a while

    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((server, PORT))
        await loop.sock_sendall(asking, bytes(DNSRecord.question(name).pack()))
        async with asyncio.timeout(_PATIENCE):
            answer = DNSRecord.parse(await loop.sock_recv(asking, 4096))
    if answer.header.tc:
        return await _resolve_long(name, server)
    return {str(record.rdata) for record in answer.rr if record.rtype == QTYPE.A}


async def _resolve_long(name: str, server: str) -> set[str]:
    from dnslib import QTYPE, DNSRecord  # noqa: PLC0415

    query = bytes(DNSRecord.question(name).pack())
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(server, PORT)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = DNSRecord.parse(await reader.readexactly(size))
        finally:
            writer.close()
    return {str(record.rdata) for record in answer.rr if record.rtype == QTYPE.A}


async def dial(address: str, port: int) -> str:
    """Open and close a connection; say why that was not possible, or ""."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer within {_PATIENCE:g} s (does a NetworkPolicy deny it to nodes?)"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return ""
