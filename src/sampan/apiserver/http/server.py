"""The API server's shell: sockets and TLS, and the parts of the HTTP surface put together."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from sampan.apiserver.http.authn import Authenticator
from sampan.apiserver.http.callouts import Callouts
from sampan.apiserver.http.connection import Connections
from sampan.apiserver.http.finishing import Finisher
from sampan.apiserver.http.handler import Handler
from sampan.apiserver.http.images import Images
from sampan.apiserver.http.info import Info
from sampan.apiserver.http.joining import ClusterFacts, Joining
from sampan.apiserver.http.metrics import Metrics
from sampan.apiserver.http.nodes import Nodes
from sampan.apiserver.http.policies import Policies
from sampan.apiserver.http.portforward import PortForward
from sampan.apiserver.http.proxy import Proxy
from sampan.apiserver.http.resources import Resources
from sampan.apiserver.http.restriction import NodeRestriction
from sampan.apiserver.http.special import Special
from sampan.apiserver.http.stats import NodeStats, WithMetrics
from sampan.apiserver.http.streams import Streams
from sampan.apiserver.http.watches import Watches
from sampan.apiserver.images import Archives
from sampan.apiserver.interface import Registry
from sampan.apiserver.pki import Pki
from sampan.apiserver.tokens import Tokens
from sampan.apiserver.tunnel import Tunnels

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
_HANDSHAKE_WITHIN: Final = 10.0
_FINISHED_WITHIN: Final = 3.0
_BACKLOG: Final = 1024


class CannotListen(Exception):
    """An address and port cannot be listened on; the text names them and says why."""


class ApiServerSettings(Struct, frozen=True, kw_only=True):
    """*advertise* is the `host:port` that discovery tells; port 0 lets the kernel choose."""

    data_dir: Path
    listen: tuple[str, ...] = ("0.0.0.0",)
    port: int = 6443
    advertise: str = ""
    cluster_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    dns_ip: str = "10.43.0.10"
    issuer: str = ISSUER


class ApiServer:
    def __init__(self, registry: Registry, pki: Pki, settings: ApiServerSettings) -> None:
        self._pki = pki
        self._registry = registry
        self._settings = settings
        self._tunnels = Tunnels()
        self._watches = Watches()
        self._policies = Policies(registry)
        self._metrics = Metrics()
        self._finisher = Finisher()
        self.stats = NodeStats(registry, self._tunnels)
        """What nodes and Pods use."""
        self._handler = self._assembled(registry)
        self._callouts = Callouts(registry, self._tunnels)
        registry.call_with(self._callouts)
        self.port = settings.port
        """The port that is listened on, once it is."""

    def _assembled(self, registry: Registry) -> Handler:
        settings = self._settings
        tokens = Tokens(self._pki.service_account_key, settings.issuer, registry)
        streams = Streams(registry, self._tunnels)
        images = Images(Archives(settings.data_dir / "images"), self._tunnels)
        facts = ClusterFacts(settings.cluster_cidr, settings.service_cidr, settings.dns_ip)
        restriction = NodeRestriction(registry)
        portforward = PortForward(streams, self._tunnels)
        proxy = Proxy(registry, self._tunnels)
        served = WithMetrics(registry.catalog)
        return Handler(
            authenticator=Authenticator(tokens, self._policies.current),
            policies=self._policies,
            restriction=restriction,
            resources=Resources(registry, self._watches, self._policies.current, self._finisher),
            special=Special(
                registry,
                self._policies,
                restriction,
                tokens,
                streams,
                portforward,
                proxy,
                self.stats,
            ),
            nodes=Nodes(self._tunnels, images),
            joining=Joining(self._pki, facts),
            info=Info(
                settings.advertise or f"127.0.0.1:{settings.port}",
                served,
                tokens,
                self._metrics,
                ready=lambda: self._policies.ready,
                gauges=self._gauges,
            ),
            metrics=self._metrics,
            find=served.find,
        )

    def _gauges(self) -> Mapping[str, float]:
        return {
            "sampan_open_watches": len(self._watches),
            "sampan_connected_nodes": len(self._tunnels.nodes()),
            "sampan_open_streams": len(self._tunnels),
        }

    def connected_nodes(self) -> list[str]:
        """The nodes whose agents keep a tunnel to this server."""
        return self._tunnels.nodes()

    def open_watches(self) -> int:
        return len(self._watches)

    def end_watches(self) -> None:
        """End all watches in good order; their clients ask again, of this server or another."""
        self._watches.close()

    def open_streams(self) -> int:
        """How many streams nodes were asked for and are not finished."""
        return len(self._tunnels)

    async def run(self) -> None:
        """Serve until cancelled; raise CannotListen if an address is not to be had."""
        async with self.serving():
            await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen, then serve while the context lasts; open watches end when it does."""
        await self._policies.load()
        connections = Connections(self._handler)
        servers = await self._listen(connections)
        try:
            async with (
                self._callouts.running(),
                self._finisher.running(),
                asyncio.TaskGroup() as group,
            ):
                followers = [
                    group.create_task(self._policies.follow(), name="policies"),
                    group.create_task(self._registry.follow(), name="definitions"),
                ]
                yield
                for follower in followers:
                    follower.cancel()
        finally:
            for server in servers:
                server.close()
            self._watches.close()
            await self._tunnels.close()
            connections.pre_shutdown()
            await connections.shutdown(_FINISHED_WITHIN)

    async def _listen(self, connections: Connections) -> list[asyncio.Server]:
        context = tls_context(self._pki)
        servers: list[asyncio.Server] = []
        try:
            for address in self._settings.listen:
                servers.append(await _bind(connections, address, self.port, context))
                self.port = servers[0].sockets[0].getsockname()[1]
        except OSError as error:
            for server in servers:
                server.close()
            raise CannotListen(
                f"cannot listen on {address} port {self.port}: {error.strerror or error}"
            ) from error
        return servers


async def _bind(
    connections: Connections, address: str, port: int, context: ssl.SSLContext
) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(
        connections,
        address,
        port,
        ssl=context,
        backlog=_BACKLOG,
        ssl_handshake_timeout=_HANDSHAKE_WITHIN,
        reuse_address=True,
    )


def tls_context(pki: Pki) -> ssl.SSLContext:
    """Serve with the cluster's certificate; clients may prove themselves by one of its CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*pki.serving_files)
    context.load_verify_locations(pki.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
