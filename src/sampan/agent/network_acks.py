"""Who still sends where: nodes say how far their packets follow the API, and Pods wait for that.

A node's word is an annotation of its Lease: the newest revision of EndpointSlices that its kernel
acts on. It is written when endpoints have left, and now and then, not with each change. Who has a
Pod to stop follows the Leases for as long as he waits, so that nothing is watched in quiet times.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

from sampan.agent.node import LEASE_NAMESPACE
from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.objects import EndpointSlice, Lease, Node, Object
from sampan.client.cache import Cache, Delta
from sampan.client.interface import Client
from sampan.net import conntrack

APPLIED: Final = "sampan.io/applied-endpoints"
"""The annotation of a node's Lease."""
SAID_AGAIN: Final = 10.0
"""Seconds; Leases live in the server's memory, and may be lost with it."""
RETRY: Final = 0.2
PATIENCE: Final = 2.0
"""Seconds that a Pod waits for nodes that do not say, and then for its clients."""

LOOK_AGAIN: Final = 0.1

Unfinished = Callable[[str], Awaitable[int]]
"""How many connections to an address are not done yet."""

log = logging.getLogger(__name__)


async def connections(address: str) -> int:
    """Ask this node's kernel: what goes to its Pods passes here, wherever it comes from."""
    return await asyncio.to_thread(conntrack.unfinished, address)


def ready_addresses(piece: EndpointSlice | None) -> set[str]:
    """Where a Service's traffic goes, apart from what goes to Pods that are on their way out."""
    if piece is None:
        return set()
    return {
        address
        for endpoint in piece.endpoints
        if endpoint.conditions.ready and not endpoint.conditions.terminating
        for address in endpoint.addresses
    }


def left(delta: Delta[Any]) -> set[str]:
    """The addresses to which a slice's change ends the traffic."""
    if delta.view is not EndpointSlice:
        return set()
    return ready_addresses(delta.old) - ready_addresses(delta.new)


def revision_of(delta: Delta[EndpointSlice]) -> int:
    """From which revision on a node knows of *delta*."""
    if delta.new is not None:
        return int(delta.new.metadata.resource_version or 0)
    return int(delta.latest.metadata.resource_version or 0) + 1


class Acknowledger:
    """Tells the others how far this node is."""

    def __init__(self, client: Client, node: str) -> None:
        self._client, self._node = client, node
        self._applied = 0
        self._news = asyncio.Event()

    def applied(self, revision: int) -> None:
        """Say soon that this node acts on all that happened up to *revision*."""
        self._applied = max(self._applied, revision)
        self._news.set()

    async def run(self) -> None:
        await self._news.wait()
        while True:
            self._news.clear()
            patch = {"metadata": {"annotations": {APPLIED: str(self._applied)}}}
            try:
                await self._client.patch(kinds.LEASES, self._node, patch, LEASE_NAMESPACE)
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("what this node has applied is not told: %s", error)
                await asyncio.sleep(RETRY)
                self._news.set()
            try:
                async with asyncio.timeout(SAID_AGAIN):
                    await self._news.wait()
            except TimeoutError:
                continue


class Everybody:
    """Knows how far the nodes are, while somebody wants to know it."""

    def __init__(self, client: Client, neighbours: Cache) -> None:
        self._client, self._neighbours = client, neighbours
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._applied: dict[str, int] = {}
        self._known = False
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Follow the nodes' words whenever `have_applied` waits for them, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
            except (ApiError, OSError, TimeoutError) as error:
                log.info("what the nodes have applied is not known: %s", error)
                await asyncio.sleep(RETRY)

    async def have_applied(self, revision: int, *, within: float = PATIENCE) -> bool:
        """Wait until every ready node acts on *revision*; False if that takes too long.

        A node that never said anything has no data plane of ours, and is not waited for.
        """
        self._waiting += 1
        self._wanted.set()
        try:
            async with asyncio.timeout(within):
                while not self._known or self._behind(revision):
                    await self._moved.wait()
        except TimeoutError:
            late = ", ".join(self._behind(revision)) or "the server"
            log.warning("not heard in time of who stopped sending: %s", late)
            return False
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()
        return True

    def _behind(self, revision: int) -> list[str]:
        ready = (n.metadata.name for n in self._neighbours.all(Node) if n.ready)
        return [name for name in ready if self._applied.get(name, revision) < revision]

    async def _follow(self) -> None:
        page = await self._client.list(kinds.LEASES, LEASE_NAMESPACE)
        self._applied = {}
        for lease in page.items:
            self._note(lease)
        self._known = True
        self._stir()
        watch = self._client.watch(kinds.LEASES, LEASE_NAMESPACE, since=page.revision)
        try:
            async with aclosing(watch) as events:
                async for event in events:  # heartbeats are among them: some come every second
                    if not self._waiting:
                        return
                    if event.type in {"ADDED", "MODIFIED"}:
                        self._note(event.object)
                        self._stir()
        finally:
            self._known = False

    def _note(self, lease: Object) -> None:
        meta = Lease.of(lease).metadata
        said = meta.annotations.get(APPLIED, "")
        if said.isdecimal():
            self._applied[meta.name] = int(said)

    def _stir(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Farewells:
    """Whether anybody may still send to a Pod."""

    def __init__(self, client: Client, neighbours: Cache, unfinished: Unfinished) -> None:
        self._neighbours = neighbours
        self._unfinished = unfinished
        self._everybody = Everybody(client, neighbours)
        self._pending: Counter[str] = Counter()

    async def run(self) -> None:
        await self._everybody.run()

    def sent_to(self, uid: str, namespace: str, address: str) -> bool:
        """Whether some node, as far as is known, sends to this Pod."""
        slices: Iterable[EndpointSlice] = self._neighbours.all(EndpointSlice, namespace)
        return bool(self._pending[uid]) or any(address in ready_addresses(s) for s in slices)

    async def wait(self, uid: str, address: str, delta: Delta[EndpointSlice]) -> None:
        """Wait until every node knows that *delta* ended the traffic, and what was sent is done."""
        self._pending[uid] += 1
        try:
            await self._everybody.have_applied(revision_of(delta))
            async with asyncio.timeout(PATIENCE):
                while await self._unfinished(address):  # noqa: ASYNC110 - only the kernel knows
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            log.info("%s has connections that do not end", address)
        except OSError as error:
            log.warning("connections to %s cannot be looked at: %s", address, error)
        finally:
            self._pending[uid] -= 1
            if not self._pending[uid]:
                del self._pending[uid]
