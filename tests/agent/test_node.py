"""The Node object and the Lease, in virtual time over an API in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.machine import Headroom, Machine
from sampan.agent.node import LEASE_NAMESPACE, NodeAgent, keep_lease
from sampan.agent.registration import Image, Report, label_patch, new_node, status_patch
from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import Object
from sampan.client.interface import PatchType
from sampan.testing.clock import VirtualTimeLoop
from tests.controllers.memory_api import MemoryApi, merged

GIB = 1 << 30
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)
MACHINE = Machine(
    cpus=4,
    memory=8 * GIB,
    disk=100 * GIB,
    architecture="amd64",
    kernel="6.1.0",
    os_image="Debian GNU/Linux 12 (bookworm)",
    machine_id="m",
    system_uuid="s",
    boot_id="b",
)
PLENTY = Headroom(memory=4 * GIB, disk=50 * GIB, pids=30000)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        node_name="n1",
        node_ip="192.0.2.7",
        server="https://192.0.2.1:6443",
        data_dir=tmp_path,
        run_dir=tmp_path,
        ca=tmp_path,
        certificate=tmp_path,
        key=tmp_path,
        labels={"disk": "fast"},
        max_pods=50,
    )


def report(**changes: Any) -> Report:
    usual = Report(
        machine=MACHINE, headroom=PLENTY, runtime="containerd://1.6.20", images=(), problem=""
    )
    return msgspec.structs.replace(usual, **changes)


def applied(node: Object, patch: Object | None) -> Object:
    changed = merged(node, {"status": patch or {}}, strategic=True)
    assert isinstance(changed, dict)
    return changed


def conditions(node: Object) -> dict[str, Object]:
    return {c["type"]: c for c in node["status"]["conditions"]}


# What the object says


def test_a_new_node_tells_what_it_is_and_has(config: AgentConfig) -> None:
    node = new_node(config, report(), NOW)
    assert node["metadata"]["labels"] == {
        "kubernetes.io/hostname": "n1",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "disk": "fast",
    }
    status = node["status"]
    assert {"type": "InternalIP", "address": "192.0.2.7"} in status["addresses"]
    assert status["capacity"] == {
        "cpu": "4",
        "memory": "8388608Ki",
        "ephemeral-storage": "104857600Ki",
        "pods": "50",
    }
    assert status["allocatable"]["memory"] == "8286208Ki"
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.37.0-sampan")
    assert conditions(node)["Ready"]["status"] == "True"


def test_a_node_that_says_all_this_already_is_left_alone(config: AgentConfig) -> None:
    told = report(images=[Image(("docker.io/library/web:1",), 5)])
    node = new_node(config, told, NOW)
    assert status_patch(config, node, told, LATER) is None
    assert label_patch(config, node, told) is None


def test_times_of_conditions_change_only_with_them(config: AgentConfig) -> None:
    node = new_node(config, report(problem="the network is down"), NOW)
    patch = status_patch(config, node, report(problem="the network is gone"), LATER)
    assert patch is not None
    assert [c["type"] for c in patch["conditions"]] == ["Ready"]
    assert patch["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert patch["conditions"][0]["lastHeartbeatTime"] == "2026-01-01T00:00:05Z"
    better = status_patch(config, applied(node, patch), report(), LATER)
    assert better is not None
    assert better["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:05Z"


@pytest.mark.parametrize(
    ("left", "condition"),
    [
        ({"memory": 10 << 20}, "MemoryPressure"),
        ({"disk": GIB}, "DiskPressure"),
        ({"pids": 10}, "PIDPressure"),
    ],
)
def test_what_runs_out_is_a_pressure(
    config: AgentConfig, left: dict[str, int], condition: str
) -> None:
    scarce = msgspec.structs.replace(PLENTY, **left)
    node = new_node(config, report(headroom=scarce), NOW)
    pressing = {t for t, c in conditions(node).items() if c["status"] == "True"} - {"Ready"}
    assert pressing == {condition}


def test_an_agent_that_just_started_does_not_call_its_node_unready(config: AgentConfig) -> None:
    node = new_node(config, report(), NOW)
    assert status_patch(config, node, report(problem=None), LATER) is None
    assert conditions(new_node(config, report(problem=None), NOW))["Ready"]["status"] == "False"


def test_the_largest_images_are_listed(config: AgentConfig) -> None:
    images = [Image((f"i{size}",), size) for size in range(80)]
    listed = new_node(config, report(images=images), NOW)["status"]["images"]
    assert [image["sizeBytes"] for image in listed] == list(range(79, 29, -1))


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    machine, left = Machine.read(tmp_path), Headroom.read(tmp_path)
    assert machine.cpus >= 1
    assert 0 < left.memory < machine.memory
    assert 0 < left.disk < machine.disk
    assert left.pids > 0


# The agent's work


class Network:
    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.failure: Exception | None = None

    async def prepare(self, pod_cidr: str) -> None:
        if self.failure:
            raise self.failure
        self.prepared.append(pod_cidr)


@asynccontextmanager
async def at_work(
    config: AgentConfig, api: MemoryApi, network: Network
) -> AsyncIterator[NodeAgent]:
    agent = NodeAgent(config, api, network.prepare, now=api.now)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(agent.run())
        yield agent
        running.cancel()


async def until(condition: Callable[[], Any], *, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.01)


def node_of(api: MemoryApi) -> Object | None:
    return next(iter(api.of(kinds.NODES)), None)


def ready(api: MemoryApi) -> str:
    node = node_of(api)
    return str(conditions(node)["Ready"]["status"]) if node else ""


async def give_range(api: MemoryApi, cidr: str) -> None:
    await api.patch(kinds.NODES, "n1", {"spec": {"podCIDR": cidr}})


async def test_a_node_is_ready_when_its_network_and_runtime_are(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    async with at_work(config, api, network) as agent:
        await until(lambda: ready(api) == "False")
        await give_range(api, "10.42.3.0/24")
        await until(lambda: network.prepared == ["10.42.3.0/24"])
        assert ready(api) == "False"
        agent.runtime_answers("containerd://1.6.20")
        await until(lambda: ready(api) == "True")
    node = node_of(api)
    assert node
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20"


async def test_a_network_that_fails_is_why_the_node_is_not_ready(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    network.failure = RuntimeError("no VXLAN in this kernel")
    async with at_work(config, api, network) as agent:
        agent.runtime_answers("containerd://1")
        await until(lambda: node_of(api))
        await give_range(api, "10.42.3.0/24")
        await until(lambda: "no VXLAN" in str(node_of(api)))
        network.failure = None
        await until(lambda: ready(api) == "True")
    assert network.prepared == ["10.42.3.0/24"]


async def test_a_deleted_node_registers_again_and_takes_its_new_range(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    async with at_work(config, api, network) as agent:
        agent.runtime_answers("containerd://1")
        for cidr in ("10.42.3.0/24", "10.42.9.0/24"):
            await until(lambda: node_of(api))
            await give_range(api, cidr)
            await until(lambda: ready(api) == "True")
            await api.delete(kinds.NODES, "n1")
        await until(lambda: node_of(api))
    assert network.prepared == ["10.42.3.0/24", "10.42.9.0/24"]


async def test_a_node_called_unknown_says_at_once_that_it_is_ready(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    async with at_work(config, api, network) as agent:
        agent.runtime_answers("containerd://1")
        await until(lambda: node_of(api))
        await give_range(api, "10.42.3.0/24")
        await until(lambda: ready(api) == "True")
        await api.patch(
            kinds.NODES,
            "n1",
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "x"}]}},
            subresource="status",
            how=PatchType.STRATEGIC,
        )
        await until(lambda: ready(api) == "True", seconds=1)


async def test_nothing_is_written_while_nothing_changes(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    async with at_work(config, api, network) as agent:
        agent.runtime_answers("containerd://1")
        await until(lambda: node_of(api))
        await give_range(api, "10.42.3.0/24")
        await until(lambda: ready(api) == "True")
        written = len(api.log)
        await asyncio.sleep(3600)
        assert len(api.log) - written < 5, "an hour of heartbeats must not be an hour of writes"


async def test_an_api_that_fails_is_tried_again(config: AgentConfig) -> None:
    api, network = MemoryApi(), Network()
    api.fault = lambda _verb, _kind: ServiceUnavailable("not now")
    async with at_work(config, api, network) as agent:
        agent.runtime_answers("containerd://1")
        await asyncio.sleep(30)
        assert node_of(api) is None
        api.fault = lambda _verb, _kind: None
        await until(lambda: node_of(api), seconds=5)


# The lease


def renewals(api: MemoryApi) -> int:
    return sum(kind is kinds.LEASES for _, kind, _ in api.log)


@asynccontextmanager
async def renewing(api: MemoryApi, *, jitter: float = 1.0) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        lease = group.create_task(keep_lease(api, "n1", 1.0, now=api.now, jitter=lambda: jitter))
        yield
        lease.cancel()


async def test_the_lease_is_made_and_renewed_every_second() -> None:
    api = MemoryApi()
    async with renewing(api):
        await asyncio.sleep(60.5)
    (lease,) = api.of(kinds.LEASES, LEASE_NAMESPACE)
    assert lease["spec"]["holderIdentity"] == "n1"
    assert lease["spec"]["renewTime"].startswith("2026-01-01T00:01:00")
    assert renewals(api) == 61


async def test_jitter_only_shortens_the_pause() -> None:
    api = MemoryApi()
    async with renewing(api, jitter=0.0):
        await asyncio.sleep(9.05)
    assert renewals(api) == 11


async def test_a_server_that_comes_back_hears_of_the_node_at_once() -> None:
    api = MemoryApi()
    api.fault = lambda _verb, _kind: ServiceUnavailable("restarting")
    async with renewing(api):
        await asyncio.sleep(5)
        api.fault = lambda _verb, _kind: None
        await until(lambda: renewals(api) == 1, seconds=0.3)


class Hanging(MemoryApi):
    hangs = True

    async def patch(self, *args: Any, **named: Any) -> Object:
        if self.hangs:
            await asyncio.sleep(3600)
        return await super().patch(*args, **named)


async def test_a_request_that_hangs_is_given_up() -> None:
    api = Hanging()
    async with renewing(api):
        await asyncio.sleep(5)
        api.hangs = False
        await until(lambda: renewals(api) > 0, seconds=2)
