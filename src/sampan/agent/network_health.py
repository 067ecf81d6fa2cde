"""Health check node ports: load balancers ask each node whether it has endpoints of a Service.

Of Services with `externalTrafficPolicy: Local`; any path is answered, with 200 while a ready
endpoint is on this node and 503 otherwise. The node listens at its own address only.
"""

import asyncio
import logging
from asyncio import StreamReader, StreamWriter
from functools import partial
from typing import Any, Final

import orjson

from sampan.api.objects import EndpointSlice, Service
from sampan.client.cache import Cache, Delta

PATIENCE: Final = 5.0
RETRY: Final = 5.0

log = logging.getLogger(__name__)


class HealthPorts:
    """*cluster* follows Services and their slices (index `service`), and is run by the caller."""

    def __init__(self, cluster: Cache, node: str, address: str) -> None:
        self._cluster, self._node, self._address = cluster, node, address
        self._open: dict[int, tuple[str, asyncio.Server]] = {}
        self._changed = asyncio.Event()
        cluster.subscribe(self._note)

    @property
    def listening(self) -> frozenset[int]:
        """The ports that are open."""
        return frozenset(self._open)

    async def run(self) -> None:
        """Listen where Services ask for it, until cancelled."""
        try:
            while True:
                self._changed.clear()
                all_open = await self._arrange()
                try:
                    async with asyncio.timeout(None if all_open else RETRY):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for _, server in self._open.values():
                server.close()
            self._open.clear()

    def _note(self, delta: Delta[Any]) -> None:
        if delta.view is Service and _port(delta.old) != _port(delta.new):
            self._changed.set()

    async def _arrange(self) -> bool:
        """Open and close what is to be; say whether all could be opened."""
        services = self._cluster.all(Service)
        wanted = {port: s.metadata.key for s in services if (port := _port(s))}
        for port, (key, server) in list(self._open.items()):
            if wanted.get(port) != key:
                server.close()
                del self._open[port]
        for port in wanted.keys() - self._open.keys():
            answer = partial(self._answer, wanted[port])
            try:
                server = await asyncio.start_server(answer, self._address, port)
            except OSError as error:
                log.warning("health checks of %s: port %d: %s", wanted[port], port, error)
                continue
            self._open[port] = wanted[port], server
        return wanted.keys() == self._open.keys()

    async def _answer(self, key: str, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._said(key))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    def _said(self, key: str) -> bytes:
        space, _, name = key.partition("/")
        here = {
            address
            for piece in self._cluster.by(EndpointSlice, "service", key)
            for endpoint in piece.endpoints
            if endpoint.node_name == self._node and endpoint.conditions.ready
            for address in endpoint.addresses[:1]
        }
        service = {"namespace": space, "name": name}
        body = orjson.dumps({"service": service, "localEndpoints": len(here)})
        status = "200 OK" if here else "503 Service Unavailable"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


def _port(service: Service | None) -> int:
    """Where health checks of *service* are answered; 0 if they are not."""
    if service is None or service.spec.type != "LoadBalancer" or service.metadata.deleting:
        return 0
    spec = service.spec
    return spec.health_check_node_port if spec.external_traffic_policy == "Local" else 0
