"""Names outside the cluster: ask the servers that the machine itself would ask."""

import asyncio
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sampan.net.answers import Answers
from sampan.net.zone import read, wire

RESOLV_CONF: Final = Path("/etc/resolv.conf")
BEHIND_STUB: Final = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved writes the real servers; it may not listen in a node's own namespace."""
PORT: Final = 53
PATIENCE: Final = 1.5
"""Seconds for one server to answer; a client gives up after five."""
FAILURES: Final = 3
"""After so many failures in a row a server is left alone for a while."""
LEFT_ALONE: Final = 5.0


class Unanswered(Exception):
    """No server answered, or there is none."""


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, query: bytes) -> None:
        self._id = query[:2]
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        if data[:2] == self._id and not self.future.done():
            self.future.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(exc)


class Upstream:
    """Asks *servers*, or those of /etc/resolv.conf as it is at the moment, in their order.

    *stubs* has domains with servers of their own; of several that fit the longest counts.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        never: str = "",
        stubs: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._fixed, self._never = tuple(servers), never
        self._stubs = {wire(domain): tuple(asked) for domain, asked in (stubs or {}).items()}
        self._failures: dict[str, int] = {}
        self._resting: dict[str, float] = {}
        self._read: tuple[float, tuple[str, ...]] = (0.0, ())
        self._answers = Answers(time.monotonic)

    async def ask(self, query: bytes, *, stream: bool = False) -> bytes:
        """Return an answer to *query*, under the query's own id; raise Unanswered."""
        try:
            return await self._answers.get(
                query, lambda: self._first(query, stream=stream), stream=stream
            )
        except ConnectionAbortedError as error:  # who asked first has gone
            raise Unanswered from error

    async def _first(self, query: bytes, *, stream: bool) -> bytes:
        """Ask one server after the other."""
        for server in self._servers(query):
            own_id = secrets.token_bytes(2)
            try:
                async with asyncio.timeout(PATIENCE):
                    exchange = _by_stream if stream else _by_datagram
                    answer = await exchange(server, own_id + query[2:])
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._failed(server)
                continue
            self._failures.pop(server, None)
            return query[:2] + answer[2:]
        raise Unanswered

    def _servers(self, query: bytes) -> list[str]:
        now = asyncio.get_running_loop().time()
        known = self._of_domain(query) or self._fixed or self._configured()
        return [s for s in known if s != self._never and self._resting.get(s, 0) <= now]

    def _of_domain(self, query: bytes) -> tuple[str, ...]:
        question = read(query)
        if question is None:
            return ()
        name = question.name
        while len(name) > 1:
            if servers := self._stubs.get(name):
                return servers
            name = name[1 + name[0] :]
        return ()

    def _failed(self, server: str) -> None:
        failures = self._failures[server] = self._failures.get(server, 0) + 1
        if failures >= FAILURES:
            self._resting[server] = asyncio.get_running_loop().time() + LEFT_ALONE

    def _configured(self) -> tuple[str, ...]:
        try:
            changed = RESOLV_CONF.stat().st_mtime
            if changed != self._read[0]:
                self._read = changed, _of_this_machine()
        except OSError:
            return ()
        return self._read[1]


def _of_this_machine() -> tuple[str, ...]:
    servers = _nameservers(RESOLV_CONF.read_text())
    if all(server.startswith("127.") for server in servers) and BEHIND_STUB.exists():
        return _nameservers(BEHIND_STUB.read_text())
    return servers


def _nameservers(text: str) -> tuple[str, ...]:
    lines = (line.split() for line in text.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


async def _by_datagram(server: str, query: bytes) -> bytes:
    """A socket of its own for each query: its port is one more thing that a forger must guess."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Answer(query), remote_addr=(server, PORT), family=family
    )
    try:
        transport.sendto(query)
        return await protocol.future
    finally:
        transport.close()


async def _by_stream(server: str, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, PORT)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    finally:
        writer.close()
