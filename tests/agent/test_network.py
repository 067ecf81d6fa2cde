# ruff: noqa: ARG002 - the signatures are those of the Client protocol
"""The loop around a node's network: what the API says reaches the kernel, soon and for good."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from os import geteuid, getpid
from pathlib import Path
from typing import Any

import pytest
from dnslib import RCODE, DNSRecord

from sampan.agent import network
from sampan.agent.config import AgentConfig
from sampan.agent.network import NodeNetwork
from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.client.interface import Listing, WatchEvent
from sampan.net.kernel import Ground
from sampan.net.nft import NftError
from sampan.net.overlay import Peer
from sampan.net.program import Change, Elements, Program
from tests.controllers.memory_api import MemoryApi

pytestmark = pytest.mark.skipif(geteuid() != 0, reason="DNS listens on port 53: needs root")
DNS = f"127.{getpid() >> 8 & 255}.{getpid() & 255}.53"
NAME = "web.default.svc.cluster.local"


class FakeKernel:
    """Remembers what it was told, and refuses when asked to."""

    def __init__(self) -> None:
        self.laid: list[Ground] = []
        self.peers: list[Peer] = []
        self.loaded: list[str] = []
        self.applied: list[Change] = []
        self.guarded: list[str] = []
        self.program: Program | None = None
        self.holds: Callable[[], Elements] = dict
        self.refusals = 0
        self.spoiled = False

    def lay(self, ground: Ground, program: Program) -> int:
        self.laid.append(ground)
        assert program.whole()
        return 1450

    def reach(self, peers: Iterable[Peer]) -> None:
        self.peers = list(peers)

    def load(self, program: Program) -> None:
        self._refuse()
        self.program = program
        self.loaded.append(program.whole())
        self.spoiled = False

    def apply(self, change: Change) -> None:
        self._refuse()
        self.applied.append(change)

    def guard(self, table: str) -> None:
        self.guarded.append(table)

    def held(self) -> Elements:
        return self.holds()

    def touched(self) -> bool:
        return self.spoiled

    def cleanup(self, ground: Ground) -> None:
        self.laid.remove(ground)

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NftError("no")

    def knows(self, text: str) -> bool:
        said = [*self.loaded, *(change.commands() for change in self.applied)]
        return any(text in words for words in said)


class Api(MemoryApi):
    """Can go away: lists fail, and watches fall silent."""

    away = False

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        if self.away:
            raise ServiceUnavailable("away")
        return await super().list(kind, namespace, labels=labels, fields=fields)

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        async for event in super().watch(kind, namespace, since=since):
            if self.away:
                raise ServiceUnavailable("away")
            yield event


class Bed:
    def __init__(self, directory: Path) -> None:
        self.api, self.kernel = Api(), FakeKernel()
        self.config = AgentConfig(
            node_name="node-1",
            node_ip="192.0.2.1",
            server="https://192.0.2.9:6443",
            data_dir=directory / "data",
            run_dir=directory / "run",
            ca=directory,
            certificate=directory,
            key=directory,
            dns_ip=DNS,
            upstream_dns=(DNS,),
        )
        self.network = NodeNetwork(self.config, self.api, self.kernel)

    async def add_service(self, name: str = "web", address: str = "10.43.0.80") -> None:
        spec = {"clusterIP": address, "ports": [{"port": 80, "protocol": "TCP"}]}
        meta = {"name": name, "namespace": "default"}
        await self.api.create(kinds.SERVICES, {"metadata": meta, "spec": spec})

    async def add_endpoint(self, address: str, service: str = "web") -> None:
        labels = {"kubernetes.io/service-name": service}
        meta = {"generateName": f"{service}-", "namespace": "default", "labels": labels}
        part = {
            "metadata": meta,
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }
        await self.api.create(kinds.ENDPOINT_SLICES, part)


@asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[None]:
    await bed.network.prepare("10.42.1.0/24")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(bed.network.run())
        try:
            await until(lambda: bool(bed.kernel.loaded))
            yield
        finally:
            work.cancel()


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition at all
            await asyncio.sleep(0.001)


async def resolve(name: str = NAME) -> DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((DNS, 53))
        await loop.sock_sendall(client, bytes(DNSRecord.question(name).pack()))
        async with asyncio.timeout(5):
            return DNSRecord.parse(await loop.sock_recv(client, 4096))


async def test_an_endpoint_that_appears_is_soon_in_the_kernel(bed: Bed) -> None:
    await bed.add_service()
    async with running(bed):
        began = asyncio.get_running_loop().time()
        await bed.add_endpoint("10.42.2.5")
        await until(lambda: bed.kernel.knows("10.42.2.5 . 8080"))
        assert asyncio.get_running_loop().time() - began < 0.5
        assert bed.network.statistics().services == 1


async def test_changes_that_come_together_are_one_transaction(bed: Bed) -> None:
    async with running(bed):
        for number in range(1, 30):
            await bed.add_service(f"s{number}", f"10.43.1.{number}")
        await until(lambda: bed.kernel.knows("10.43.1.29 . tcp . 80"))
        assert len(bed.kernel.applied) <= 3


async def test_names_resolve_and_unknown_ones_are_denied(bed: Bed) -> None:
    await bed.add_service()
    async with running(bed):
        assert [str(r.rdata) for r in (await resolve()).rr] == ["10.43.0.80"]
        assert (await resolve("no.default.svc.cluster.local")).header.rcode == RCODE.NXDOMAIN


async def test_a_refused_change_is_followed_by_loading_everything(bed: Bed) -> None:
    async with running(bed):
        bed.kernel.refusals = 1
        before = len(bed.kernel.loaded)
        await bed.add_service()
        await bed.add_endpoint("10.42.2.5")
        await until(lambda: len(bed.kernel.loaded) > before)
        assert "10.42.2.5 . 8080" in bed.kernel.loaded[-1]


async def test_a_kernel_that_goes_on_refusing_is_asked_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "RETRY", 0.01)
    bed.kernel.refusals = 3
    await bed.add_service()
    async with running(bed):
        assert bed.kernel.knows("10.43.0.80 . tcp . 80")
        assert bed.kernel.refusals == 0


async def test_rules_that_somebody_else_changed_are_put_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "VERIFY", 0.02)
    async with running(bed):
        before = len(bed.kernel.loaded)
        bed.kernel.spoiled = True
        await until(lambda: len(bed.kernel.loaded) > before)
        assert bed.network.statistics().repairs == 1


async def test_ways_to_other_nodes_are_kept_and_not_to_itself(bed: Bed) -> None:
    async def add_node(number: int) -> None:
        addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
        node: Object = {
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": f"10.42.{number}.0/24"},
            "status": {"addresses": addresses},
        }
        await bed.api.create(kinds.NODES, node)

    await add_node(1)
    async with running(bed):
        assert bed.kernel.peers == []
        await add_node(2)
        far = Peer(IPv4Address("192.0.2.2"), IPv4Network("10.42.2.0/24"))
        await until(lambda: bed.kernel.peers == [far])
        await bed.api.delete(kinds.NODES, "node-2")
        await until(lambda: bed.kernel.peers == [])


async def test_while_the_server_is_away_all_goes_on_and_later_it_catches_up(bed: Bed) -> None:
    await bed.add_service()
    async with running(bed):
        bed.api.away = True
        await bed.add_endpoint("10.42.2.5")
        assert [str(r.rdata) for r in (await resolve()).rr] == ["10.43.0.80"]
        assert not bed.kernel.knows("10.42.2.5")
        bed.api.away = False
        await until(lambda: bed.kernel.knows("10.42.2.5 . 8080"))


async def test_an_agent_that_starts_without_a_server_denies_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "NAMES_WAIT", 0.01)
    bed.api.away = True
    await bed.network.prepare("10.42.1.0/24")
    async with asyncio.TaskGroup() as group:
        work = group.create_task(bed.network.run())
        assert (await resolve()).header.rcode == RCODE.SERVFAIL
        assert bed.kernel.loaded == []
        work.cancel()


async def test_it_can_run_again_after_it_was_stopped(bed: Bed) -> None:
    await bed.add_service()
    for _ in range(2):
        async with running(bed):
            assert (await resolve()).header.rcode == RCODE.NOERROR


async def test_a_host_port_of_a_pod_here_is_opened_and_closed(bed: Bed) -> None:
    container = {"name": "c", "ports": [{"containerPort": 80, "hostPort": 8088}]}
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "node-1", "containers": [container]},
        "status": {"phase": "Running", "podIP": "10.42.1.7"},
    }
    async with running(bed):
        made = await bed.api.create(kinds.PODS, pod)
        await until(lambda: bed.kernel.knows("10.42.1.7 . 80"))
        bed.api.gone(kinds.PODS, made)
        await until(lambda: bed.kernel.knows("delete element ip sampan ports { tcp . 8088 }"))


async def test_the_cni_configuration_gives_pods_this_nodes_range(bed: Bed) -> None:
    async with running(bed):
        [file] = bed.config.cni_conf_dir.iterdir()
        [cable] = json.loads(file.read_text())["plugins"]
        assert cable["ipam"]["ranges"] == [[{"subnet": "10.42.1.0/24", "gateway": "10.42.1.1"}]]
        assert (cable["type"], cable["mtu"]) == ("ptp", 1450)


async def test_a_node_with_a_new_range_loads_everything_anew(bed: Bed) -> None:
    await bed.add_service()
    await bed.add_endpoint("10.42.2.5")
    async with running(bed):
        await bed.network.prepare("10.42.99.0/24")
        await until(lambda: "10.42.99.7 . 10.42.99.7" in bed.kernel.loaded[-1])
        assert "10.42.2.5 . 8080" in bed.kernel.loaded[-1]
