"""The node's DNS server: answers the cluster's names itself and passes on all others."""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from typing import Final

from sampan.net.upstream import Unanswered, Upstream
from sampan.net.zone import SERVFAIL, Elsewhere, Zone, reply

PORT: Final = 53
_BATCH: Final = 64
"""Queries read in one turn of the event loop."""
_MOST_PENDING: Final = 1000
_IDLE: Final = 10.0
"""Seconds after which a silent TCP client is let go."""


class DnsServer:
    """Listens as soon as it exists; queries wait in the sockets until `run` begins."""

    def __init__(self, zone: Zone, upstream: Upstream, address: str, *, port: int = PORT) -> None:
        self._zone, self._upstream = zone, upstream
        self._pending = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        try:
            self._udp.bind((address, port))
            self.address: tuple[str, int] = self._udp.getsockname()
            self._tcp = socket.create_server(self.address)
        except OSError as error:
            self._udp.close()
            what = f"cannot listen for DNS on {address} port {port}: {error.strerror}"
            raise OSError(error.errno, what) from error

    def close(self) -> None:
        self._udp.close()
        self._tcp.close()

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            loop.add_reader(self._udp, self._readable, group)
            server = await asyncio.start_server(self._serve_stream, sock=self._tcp)
            try:
                await server.serve_forever()
            finally:
                loop.remove_reader(self._udp)
                self.close()

    def _readable(self, group: asyncio.TaskGroup) -> None:
        for _ in range(_BATCH):
            try:
                query, client = self._udp.recvfrom(4096)
            except OSError:
                return
            answer = self._zone.answer(query)
            if isinstance(answer, bytes):
                self._send(answer, client)
            elif self._pending < _MOST_PENDING:
                group.create_task(self._send_later(answer, client))
            else:
                self._send(reply(answer.question, code=SERVFAIL), client)

    def _send(self, answer: bytes, client: tuple[str, int]) -> None:
        try:
            if answer:
                self._udp.sendto(answer, client)
        except OSError:
            return  # the client asks again; its node may just be going

    async def _send_later(self, elsewhere: Elsewhere, client: tuple[str, int]) -> None:
        self._send(await self._ask(elsewhere, stream=False), client)

    async def _serve_stream(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(size)
                answer = self._zone.answer(query, stream=True)
                if isinstance(answer, Elsewhere):
                    answer = await self._ask(answer, stream=True)
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _ask(self, elsewhere: Elsewhere, *, stream: bool) -> bytes:
        question = elsewhere.question
        query = question.query
        if elsewhere.alias:
            query = query[:12] + elsewhere.name + query[12 + len(question.name) :]
        self._pending += 1
        try:
            answer = await self._upstream.ask(query, stream=stream)
        except Unanswered:
            return reply(question, code=SERVFAIL)
        finally:
            self._pending -= 1
        return _behind_alias(elsewhere, answer) if elsewhere.alias else answer


def _behind_alias(elsewhere: Elsewhere, answer: bytes) -> bytes:
    """Answer with the alias and with what *answer* says of the name that it stands for."""
    from dnslib import DNSError, DNSRecord  # noqa: PLC0415 - few need it, and it takes a while

    try:
        found = DNSRecord.parse(answer)
    except DNSError:
        return reply(elsewhere.question, code=SERVFAIL)
    named = (_packed(record) for record in found.rr)
    return reply(elsewhere.question, [elsewhere.alias, *named], code=found.header.rcode)


def _packed(record: object) -> bytes:
    """A record by itself, without pointers into a message that it is no longer part of."""
    from dnslib import DNSBuffer  # noqa: PLC0415

    buffer = DNSBuffer()
    record.pack(buffer)  # type: ignore[attr-defined]
    return bytes(buffer.data)
