"""The DNS server on loopback, and a server above it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import getpid
from pathlib import Path
from typing import Protocol, cast

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from sampan.net import upstream as upstream_module
from sampan.net.dns import DnsServer
from sampan.net.upstream import Unanswered, Upstream
from tests.net.test_zone import ZONE, said


class Packed(Protocol):
    def pack(self) -> bytes | bytearray: ...


Answer = Callable[[DNSRecord], Packed | None]
OWN = f"127.{getpid() >> 8 & 255}.{getpid() & 255}.9"
"""No other process takes a port of it between the one for UDP and the one for TCP."""
WEB, OUT = "web.default.svc.cluster.local", "out.default.svc.cluster.local"


class Above(asyncio.DatagramProtocol):
    """A server for the rest of the world, as simple as can be."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.asked = answer, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if answer := self.answer(DNSRecord.parse(data)):
            self.transport.sendto(answer.pack(), addr)


def world(query: DNSRecord) -> DNSRecord:
    answer = query.reply()
    answer.add_answer(RR(query.q.qname, QTYPE.A, ttl=60, rdata=A("192.0.2.1")))
    return answer


@asynccontextmanager
async def above(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Above]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Above(answer), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(upstream_module, "PORT", port)
    try:
        yield protocol
    finally:
        transport.close()


@asynccontextmanager
async def running(upstream: Upstream) -> AsyncIterator[tuple[str, int]]:
    server = DnsServer(ZONE, upstream, OWN, port=0)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(server.run())
        yield server.address
        work.cancel()


async def by_udp(server: tuple[str, int], name: str, kind: str = "A") -> DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(server)
        query = DNSRecord.question(name, kind)
        await loop.sock_sendall(client, bytes(query.pack()))
        async with asyncio.timeout(5):
            answer = DNSRecord.parse(await loop.sock_recv(client, 4096))
    assert answer.header.id == query.header.id
    return answer


async def by_tcp(server: tuple[str, int], *names: str) -> list[DNSRecord]:
    reader, writer = await asyncio.open_connection(*server)
    answers = []
    for name in names:
        query = bytes(DNSRecord.question(name).pack())
        writer.write(len(query).to_bytes(2, "big") + query)
        size = int.from_bytes(await reader.readexactly(2), "big")
        answers.append(DNSRecord.parse(await reader.readexactly(size)))
    writer.close()
    await writer.wait_closed()
    return answers


async def test_cluster_names_are_answered_over_udp_and_tcp() -> None:
    async with running(Upstream(["127.0.0.1"])) as server:
        assert said(await by_udp(server, WEB)) == {"10.43.0.80"}
        for answer in await by_tcp(server, WEB, WEB):
            assert said(answer) == {"10.43.0.80"}


async def test_other_names_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with above(world, monkeypatch), running(Upstream(["127.0.0.1"])) as server:
        assert said(await by_udp(server, "www.example.org")) == {"192.0.2.1"}


async def test_an_external_name_is_followed_to_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with above(world, monkeypatch), running(Upstream(["127.0.0.1"])) as server:
        answer = await by_udp(server, OUT)
        assert [(str(r.rname), str(r.rdata)) for r in answer.rr] == [
            (f"{OUT}.", "www.example.org."),
            ("www.example.org.", "192.0.2.1"),
        ]


class Broken:
    """An answer that breaks off in the middle."""

    def __init__(self, query: DNSRecord) -> None:
        self.query = query

    def pack(self) -> bytes:
        return bytes(world(self.query).pack())[:-3]


async def test_a_broken_answer_from_above_upsets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with above(Broken, monkeypatch), running(Upstream(["127.0.0.1"])) as server:
        assert (await by_udp(server, OUT)).header.rcode == RCODE.SERVFAIL
        assert said(await by_udp(server, WEB)) == {"10.43.0.80"}


async def test_without_a_server_above_other_names_fail_at_once() -> None:
    async with running(Upstream(["127.0.0.9"], never="127.0.0.9")) as server:
        async with asyncio.timeout(1):
            answer = await by_udp(server, "www.example.org")
        assert answer.header.rcode == RCODE.SERVFAIL


async def test_the_next_server_is_asked_when_one_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with above(world, monkeypatch):
        query = bytes(DNSRecord.question("www.example.org").pack())
        answer = await Upstream(["127.0.0.2", "127.0.0.1"]).ask(query)
        assert said(DNSRecord.parse(answer)) == {"192.0.2.1"}


async def test_a_silent_server_is_soon_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "PATIENCE", 0.1)
    async with above(lambda _: None, monkeypatch) as silent:
        upstream = Upstream(["127.0.0.1"])
        for _ in range(10):
            with pytest.raises(Unanswered):
                await upstream.ask(bytes(DNSRecord.question("www.example.org").pack()))
        assert 0 < silent.asked <= upstream_module.FAILURES


@pytest.mark.parametrize(
    ("configured", "behind", "asked"),
    [
        ("nameserver 127.0.0.1\n", None, True),
        ("search a\nnameserver 127.0.0.53\n", "nameserver 127.0.0.1\n", True),
        ("# nameserver 127.0.0.1\n", None, False),
    ],
)
async def test_the_machines_own_servers_are_asked_and_those_behind_a_local_stub(
    configured: str,
    behind: str | None,
    *,
    asked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, stub = tmp_path / "resolv.conf", tmp_path / "behind"
    own.write_text(configured)
    if behind:
        stub.write_text(behind)
    monkeypatch.setattr(upstream_module, "RESOLV_CONF", own)
    monkeypatch.setattr(upstream_module, "BEHIND_STUB", stub)
    async with above(world, monkeypatch) as server, running(Upstream()) as address:
        await by_udp(address, "www.example.org")
        assert bool(server.asked) == asked


async def test_a_taken_port_is_named() -> None:
    first = DnsServer(ZONE, Upstream(), "127.0.0.1", port=0)
    try:
        with pytest.raises(OSError, match=f"127.0.0.1 port {first.address[1]}"):
            DnsServer(ZONE, Upstream(), "127.0.0.1", port=first.address[1])
    finally:
        first.close()


async def test_a_domain_with_servers_of_its_own_is_asked_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with above(world, monkeypatch) as asked:
        stubs = {"corp.example": ("127.0.0.1",), "a.corp.example": ("127.0.0.2",)}
        upstream = Upstream(["127.0.0.2"], stubs=stubs)
        async with running(upstream) as server:
            for name in ("corp.example", "db.b.Corp.example"):
                assert said(await by_udp(server, name)) == {"192.0.2.1"}
            for name in ("x.a.corp.example", "notcorp.example"):
                assert (await by_udp(server, name)).header.rcode == RCODE.SERVFAIL
        assert asked.asked == 2
