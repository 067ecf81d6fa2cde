"""A node's network, kept as the API says: ways to other nodes, Services, names.

The deciding is in `sampan.net`; here is the loop around it. Whatever changes is noted by key;
a few milliseconds later all that was noted is compiled and given to the kernel in one transaction,
in a thread. While the server is away everything goes on as it last was.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from sampan.agent.config import AgentConfig
from sampan.agent.network_acks import Acknowledger, left
from sampan.agent.network_health import HealthPorts
from sampan.agent.network_policy import Policies
from sampan.api.objects import EndpointSlice, Node, Pod, Resource, Service
from sampan.client.cache import Cache, Delta, Interest
from sampan.client.interface import Client
from sampan.net import cni, inspection
from sampan.net.compile import NodeFacts, compile_host_ports, compile_service
from sampan.net.dns import DnsServer
from sampan.net.kernel import Ground, Kernel, Linux
from sampan.net.nft import NftError
from sampan.net.overlay import Peer
from sampan.net.policy import NetworkPolicy
from sampan.net.program import Program
from sampan.net.upstream import Upstream
from sampan.net.zone import Zone, service_records

SETTLE: Final = 0.003
"""Seconds in which further changes join the first: an update of many Pods is few transactions."""
VERIFY: Final = 10.0
"""Seconds after which the kernel is looked at when nothing changes."""
COMPARED_AGAIN: Final = 0.2
RETRY: Final = 1.0
ZONE: Final = "topology.kubernetes.io/zone"
NAMES_WAIT: Final = 1.0
"""Seconds that DNS queries wait for the first look at the cluster."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    services: int
    elements: int
    """Entries of the kernel's maps."""
    transactions: int
    last_seconds: float
    """How long the kernel took for the last one."""
    repairs: int
    """How often somebody else had changed our rules."""


class NodeNetwork:
    """`prepare` once the node has its Pod range, then `run` for good."""

    def __init__(self, config: AgentConfig, client: Client, kernel: Kernel | None = None) -> None:
        self._config = config
        self._kernel = kernel or Linux()
        self._cache = Cache(client, _interests(config.node_name))
        self._cache.subscribe(self._note)
        self._health = HealthPorts(self._cache, config.node_name, config.node_ip)
        self.policies = Policies(client, self._cache, self._kernel)
        self._acks = Acknowledger(client, config.node_name)
        self._somebody_left = True
        """Whether others wait to hear how far this node is."""
        self._dirty: set[str] = set()
        self._peers_changed = False
        self._reload = False
        """The kernel must be given everything, whatever it has."""
        self._wake = asyncio.Event()
        self._zone = Zone(
            config.cluster_domain,
            pods=IPv4Network(config.cluster_cidr),
            services=IPv4Network(config.service_cidr),
        )
        self._zone.complete = False
        self._program: Program | None = None
        self._dns: DnsServer | None = None
        self._transactions, self._repairs, self._last_seconds = 0, 0, 0.0

    @property
    def cluster(self) -> Cache:
        """What it follows of the cluster (Services, their endpoints, Nodes), for others to read."""
        return self._cache

    @property
    def dns_ip(self) -> str:
        return self._config.dns_ip

    @property
    def domain(self) -> str:
        return self._config.cluster_domain

    async def compare(self) -> list[str]:
        """Name the kernel's entries that are wrong, missing or too many, and have them put right.

        What changes meanwhile is not wrong: only what differs twice counts.
        """
        stale = await self._differing()
        if stale:
            await asyncio.sleep(COMPARED_AGAIN)
            stale &= await self._differing()
        if stale:
            log.warning("the kernel's rules differ in %d entries: loading them again", len(stale))
            self._repairs += 1
            self._reload = True
            self.policies.again()
            self._wake.set()
        return sorted(stale)

    async def _differing(self) -> set[str]:
        if self._program is None:
            return set()
        held = (await asyncio.to_thread(self._kernel.held)).items()
        wanted = inspection.plain(self._program.elements()).items()
        return {f"{name} {{ {key} }}" for (name, key), _ in held ^ wanted}

    async def prepare(self, pod_cidr: str) -> None:
        """Make what Pods need to be started: tunnel, routes, rules, DNS address, CNI configuration.

        What an earlier agent left goes on serving meanwhile. May be called again, also with another
        range after the Node was deleted and made anew.
        """
        config, pods = self._config, IPv4Network(pod_cidr)
        services = IPv4Network(config.service_cidr)
        cluster, dns = IPv4Network(config.cluster_cidr), IPv4Address(config.dns_ip)
        ground = Ground(IPv4Address(config.node_ip), pods, cluster, services, dns)
        program = Program(NodeFacts(config.node_name, pods, cluster, services, config.dns_ip))
        mtu = await asyncio.to_thread(self._kernel.lay, ground, program)
        leases = config.run_dir / "cni" / "leases"
        cni.write(config.cni_conf_dir, cni.configuration(pods, mtu=mtu, leases=leases))
        self._listen()
        if self._program is None or self._program.node != program.node:
            self._program = program
            self._reload = True
            self._dirty = self._everything()
            self._wake.set()

    async def run(self) -> None:
        """Follow the cluster until cancelled; the node must be prepared."""
        dns = self._listen()
        self._reload = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._cache.run(), name="network cache")
                group.create_task(self._serve_names(dns), name="dns")
                group.create_task(self._follow(), name="network rules")
                group.create_task(self.policies.run(), name="network policies")
                group.create_task(self._health.run(), name="health check ports")
                group.create_task(self._acks.run(), name="network acknowledgements")
        finally:
            dns.close()
            self._dns = None

    def _listen(self) -> DnsServer:
        if self._dns is None:
            config = self._config
            upstream = Upstream(config.upstream_dns, never=config.dns_ip, stubs=config.stub_domains)
            self._dns = DnsServer(self._zone, upstream, config.dns_ip)
        return self._dns

    def _everything(self) -> set[str]:
        services = {f"service/{s.metadata.key}" for s in self._cache.all(Service)}
        pods = self._cache.all(Pod)
        return services | {f"pod/{p.metadata.key}" for p in pods if _host_ports(p)}

    def statistics(self) -> NetworkStatistics:
        program = self._program
        return NetworkStatistics(
            services=len(self._zone.keys()),
            elements=len(program) if program else 0,
            transactions=self._transactions,
            last_seconds=self._last_seconds,
            repairs=self._repairs,
        )

    async def _serve_names(self, server: DnsServer) -> None:
        try:
            async with asyncio.timeout(NAMES_WAIT):
                await self._cache.synced()
        except TimeoutError:
            log.warning("no word from the server yet: DNS cannot answer for the cluster's names")
        await server.run()

    def _note(self, delta: Delta[Any]) -> None:
        meta = delta.latest.metadata
        if delta.view is Node:
            if _place(delta.old) == _place(delta.new):
                return
            if meta.name == self._config.node_name:  # its zone may be another
                self._dirty |= self._everything()
            self._peers_changed = True
        elif delta.view is EndpointSlice:
            slices = (part for part in (delta.old, delta.new) if part is not None)
            self._somebody_left = self._somebody_left or bool(left(delta))
            self._dirty.update(f"service/{key}" for part in slices for key in _service_of(part))
        elif delta.view is NetworkPolicy:
            return
        elif delta.view is Service:
            self._dirty.add(f"service/{meta.key}")
        elif _host_ports(delta.old) or _host_ports(delta.new):
            self._dirty.add(f"pod/{meta.key}")
        else:
            return
        self._wake.set()

    async def _follow(self) -> None:
        await self._cache.synced()
        self._wake.set()
        while True:
            try:
                async with asyncio.timeout(VERIFY):
                    await self._wake.wait()
            except TimeoutError:
                self._reload = await self._harmed()
                if not self._reload:
                    continue
                self.policies.again()
            await asyncio.sleep(SETTLE)
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Compile what changed and give it to the kernel; leave nothing half done for long."""
        program = self._program
        if program is None:
            raise RuntimeError("the network must be prepared before it runs")
        self._compile(program)
        peers, moved = self._peers(), self._peers_changed
        self._peers_changed = False
        program.know(peers)
        revision = self._cache.revision(EndpointSlice)
        tell, self._somebody_left = self._somebody_left, False
        self._zone.complete = True
        change, whole = program.take(), self._reload
        began = time.monotonic()
        try:
            if moved or whole:
                await asyncio.to_thread(self._kernel.reach, peers)
            if whole:
                self._reload = False
                await asyncio.to_thread(self._kernel.load, program)
            else:
                await asyncio.to_thread(self._kernel.apply, change)
        except (NftError, OSError) as error:
            log.warning("the kernel refused a change, so everything is loaded again: %s", error)
            self._reload = True
            self._somebody_left = self._somebody_left or tell
            self._wake.set()
            await asyncio.sleep(RETRY if whole else 0)
            return
        self._transactions += 1
        self._last_seconds = time.monotonic() - began
        if tell:
            self._acks.applied(revision)

    def _compile(self, program: Program) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, set()
        own = self._cache.get(Node, "", self._config.node_name)
        zone = own.metadata.labels.get(ZONE, "") if own else ""
        for key in dirty:
            kind, _, name = key.partition("/")
            space, _, name = name.partition("/")
            if kind == "pod":
                pod = self._cache.get(Pod, space, name)
                program.put(key, compile_host_ports(pod) if pod else ())
                continue
            service = self._cache.get(Service, space, name)
            slices = self._cache.by(EndpointSlice, "service", f"{space}/{name}")
            part = compile_service(service, slices, program.node, zone) if service else ()
            program.put(key, part)
            domain = self._config.cluster_domain
            self._zone.put(key, service_records(service, slices, domain) if service else ())

    async def _harmed(self) -> bool:
        """Put back ways that a link's fall took; say whether somebody else changed the rules."""
        try:
            await asyncio.to_thread(self._kernel.reach, self._peers())
            harmed = await asyncio.to_thread(self._kernel.touched)
        except OSError as error:
            log.warning("the network of this node could not be checked: %s", error)
            return False
        self._repairs += harmed
        return harmed

    def _peers(self) -> list[Peer]:
        others = (n for n in self._cache.all(Node) if n.metadata.name != self._config.node_name)
        return [
            Peer(IPv4Address(node.internal_ip), IPv4Network(node.spec.pod_cidr))
            for node in others
            if node.internal_ip and node.spec.pod_cidr and ":" not in node.internal_ip
        ]


def _interests(node: str) -> list[Interest]:
    return [
        Interest(Service, indexes={}),
        Interest(EndpointSlice, indexes={"service": _service_of}),
        Interest(Node, indexes={}),
        Interest(NetworkPolicy, indexes={}),
        Interest(Pod, fields=f"spec.nodeName={node}", indexes={}),
    ]


def _service_of(part: EndpointSlice) -> Iterable[str]:
    return (f"{part.metadata.namespace}/{part.service}",) if part.service else ()


def _place(node: Node | None) -> tuple[str, str, str] | None:
    if node is None:
        return None
    return node.internal_ip, node.spec.pod_cidr, node.metadata.labels.get(ZONE, "")


def _host_ports(pod: Resource | None) -> bool:
    if not isinstance(pod, Pod):
        return False
    return any(port.host_port for container in pod.spec.containers for port in container.ports)
