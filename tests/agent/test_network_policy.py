"""The loop that keeps NetworkPolicies: Pods are guarded before they can send anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.agent import network_policy
from sampan.agent.network_policy import Policies
from sampan.agent.spec import NodePod
from sampan.api import kinds
from sampan.api.objects import Object, Pod
from sampan.client.cache import Cache, Interest
from sampan.net.guard import GONE
from sampan.net.nft import NftError
from sampan.net.policy import NetworkPolicy
from sampan.testing.clock import VirtualTimeLoop
from tests.agent.test_network import FakeKernel
from tests.controllers.memory_api import MemoryApi


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Kernel(FakeKernel):
    """Takes its time, and may refuse."""

    refuses = 0

    @property
    def now(self) -> str:
        return self.guarded[-1] if self.guarded else ""

    def guard(self, table: str) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NftError("no")
        super().guard(table)


def pod(name: str, address: str = "", *, node: str = "n1", space: str = "default") -> Object:
    return {
        "metadata": {"name": name, "namespace": space, "uid": f"uid-{name}", "labels": {"n": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"podIP": address, "phase": "Running"},
    }


DENY: Object = {
    "metadata": {"name": "deny", "namespace": "default"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


class Bed:
    def __init__(self) -> None:
        self.api, self.kernel = MemoryApi(), Kernel()
        self.here = Cache(self.api, [Interest(Pod), Interest(NetworkPolicy)])
        self.policies = Policies(self.api, self.here, self.kernel)

    async def create(self, *objects: Object) -> None:
        for obj in objects:
            await self.api.create(kinds.PODS, obj)

    async def allow_nothing(self) -> None:
        await self.api.create(NetworkPolicy.KIND, DENY)

    async def start(self, name: str, address: str) -> None:
        await self.policies.connected(NodePod.of(pod(name)), address)


@asynccontextmanager
async def running() -> AsyncIterator[Bed]:
    bed = Bed()
    await bed.api.create(kinds.NAMESPACES, {"metadata": {"name": "default"}})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(bed.here.run()), group.create_task(bed.policies.run())]
        await bed.here.synced()
        try:
            yield bed
        finally:
            for task in tasks:
                task.cancel()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition at all
            await asyncio.sleep(0.001)


async def test_without_policies_nothing_is_followed_and_nobody_waits() -> None:
    async with running() as bed:
        await asyncio.sleep(1)
        assert bed.kernel.guarded == [GONE]
        await bed.start("p", "10.42.1.2")
        assert bed.kernel.guarded == [GONE]


async def test_a_policy_reaches_the_kernel_and_leaves_it_again() -> None:
    async with running() as bed:
        await bed.create(pod("p", "10.42.1.2"))
        await bed.allow_nothing()
        await until(lambda: "10.42.1.2" in bed.kernel.now)
        await bed.api.delete(NetworkPolicy.KIND, "deny", "default")
        await until(lambda: bed.kernel.now == GONE)


async def test_a_pod_is_guarded_when_its_wait_ends_though_the_api_shows_no_address_yet() -> None:
    async with running() as bed:
        await bed.allow_nothing()
        await bed.create(pod("p"))
        await bed.start("p", "10.42.1.2")
        assert "10.42.1.2 : jump leaving" in bed.kernel.now
        await bed.start("unseen", "10.42.1.3")
        assert "10.42.1.3 : jump leaving" in bed.kernel.now
        assert "10.42.1.2 : jump leaving" in bed.kernel.now


async def test_a_pod_waits_as_long_as_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_policy, "RETRY", 0.5)
    async with running() as bed:
        await bed.allow_nothing()
        await until(lambda: bed.here.all(NetworkPolicy))
        bed.kernel.refuses = 3
        await bed.start("p", "10.42.1.2")
        assert "10.42.1.2 : jump leaving" in bed.kernel.now
        assert asyncio.get_running_loop().time() >= 1.5


async def test_a_pod_that_is_gone_is_guarded_no_more() -> None:
    async with running() as bed:
        await bed.allow_nothing()
        await bed.create(pod("p", "10.42.1.2"), pod("q", "10.42.1.3"))
        await until(lambda: "10.42.1.2" in bed.kernel.now and "10.42.1.3" in bed.kernel.now)
        bed.api.gone(kinds.PODS, await bed.api.get(kinds.PODS, "p", "default"))
        await until(lambda: "10.42.1.2" not in bed.kernel.now)
        assert "10.42.1.3" in bed.kernel.now


async def test_a_peer_whose_labels_change_may_come_in() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"friend": "yes"}}}]}
    policy = {**DENY, "spec": {"podSelector": {"matchLabels": {"n": "p"}}, "ingress": [rule]}}
    async with running() as bed:
        await bed.create(pod("p", "10.42.1.2"), pod("q", "10.42.9.9", node="n2"))
        await bed.api.create(NetworkPolicy.KIND, policy)
        await until(lambda: "10.42.1.2" in bed.kernel.now)
        assert "10.42.9.9" not in bed.kernel.now
        labels = {"metadata": {"labels": {"friend": "yes"}}}
        await bed.api.patch(kinds.PODS, "q", labels, "default")
        await until(lambda: "elements = { 10.42.9.9 }" in bed.kernel.now)


async def test_rules_that_somebody_changed_are_given_again_and_others_are_not() -> None:
    async with running() as bed:
        await bed.create(pod("p", "10.42.1.2"))
        await bed.allow_nothing()
        await until(lambda: "10.42.1.2" in bed.kernel.now)
        before = len(bed.kernel.guarded)
        await bed.create(pod("other", "10.42.5.5", space="elsewhere"))
        await asyncio.sleep(1)
        assert len(bed.kernel.guarded) == before
        bed.policies.again()
        await until(lambda: len(bed.kernel.guarded) == before + 1)
