"""A day's work on a whole cluster, in virtual time: drains, bad releases, new configurations."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sampan.api import kinds
from sampan.api.errors import NotFound, TooManyRequests
from sampan.api.objects import Object
from sampan.controllers.views_policy import BUDGETS
from sampan.testing.cluster import Cluster, cluster
from tests.testing.test_cluster import ready, web

GUARDED = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "web"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
}


@asynccontextmanager
async def fewest_ready(running: Cluster) -> AsyncIterator[list[int]]:
    """Count ready replicas all the while; the list's last number is the smallest."""
    seen = [len(await running.ready_pods("app=web"))]

    async def count() -> None:
        while True:
            seen.append(min(seen[-1], len(await running.ready_pods("app=web"))))
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        yield seen
        counting.cancel()


async def drain(running: Cluster, node: str) -> None:
    """Cordon and evict as `kubectl drain` does: ask again while the answer is 429."""
    await running.client.patch(kinds.NODES, node, {"spec": {"unschedulable": True}})
    async with asyncio.timeout(60):
        for pod in await running.pods():
            if pod["spec"].get("nodeName") == node:
                await evict(running, pod["metadata"]["name"])


async def evict(running: Cluster, name: str) -> None:
    eviction = {"metadata": {"name": name, "namespace": "default"}}
    while True:
        try:
            await running.client.create(kinds.PODS, eviction, subresource="eviction")
        except NotFound:
            return
        except TooManyRequests as told:
            await asyncio.sleep(told.retry_after or 5)
        else:
            return


async def test_draining_each_node_in_turn_never_leaves_a_single_replica_unserved(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, takes=0.2) as running:
        await running.create(web(1), GUARDED)
        await ready(running, 1)
        await running.until(lambda: budget_knows(running))
        async with fewest_ready(running) as counts:
            for node in ("node-1", "node-2", "node-3"):
                await drain(running, node)
                left = [p for p in await running.pods("app=web") if is_on(p, node)]
                assert left == []
                await running.client.patch(kinds.NODES, node, {"spec": {"unschedulable": None}})
        assert counts[-1] == 1
        assert len(await ready(running, 1)) == 1


def is_on(pod: Object, node: str) -> bool:
    return bool(pod["spec"].get("nodeName") == node)


async def budget_knows(running: Cluster) -> bool:
    found = await running.find(BUDGETS, "web")
    return bool(found and (found.get("status") or {}).get("currentHealthy"))


async def test_what_has_nowhere_to_go_is_evicted_in_the_end_unless_a_budget_protects_it(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, nodes=1) as running:
        await running.create(web(1))
        [pod] = await ready(running, 1)
        name = pod["metadata"]["name"]
        begun = asyncio.get_running_loop().time()
        await running.client.patch(kinds.NODES, "node-1", {"spec": {"unschedulable": True}})
        await asyncio.wait_for(evict(running, name), 90)
        assert 55 < asyncio.get_running_loop().time() - begun < 70


async def test_a_refusal_names_the_node_that_is_missing(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=1) as running:
        await running.create(web(1), GUARDED)
        [pod] = await ready(running, 1)
        name = pod["metadata"]["name"]
        await running.client.patch(kinds.NODES, "node-1", {"spec": {"unschedulable": True}})
        said = set()
        eviction = {"metadata": {"name": name, "namespace": "default"}}
        for _ in range(90):
            try:
                await running.client.create(kinds.PODS, eviction, subresource="eviction")
            except TooManyRequests as told:
                said.add(str(told))
            await asyncio.sleep(1)
        assert any("starts first" in text and "node(s) were unschedulable" in text for text in said)
        assert any("disruption budget" in text and "has no node" in text for text in said)
        assert len(await running.ready_pods("app=web")) == 1


def single(name: str) -> Object:
    made = web(1)
    labels = {"app": "web", "single": name}
    template = made["spec"]["template"]
    spec = {
        **made["spec"],
        "selector": {"matchLabels": labels},
        "template": {**template, "metadata": {"labels": labels}},
    }
    return {**made, "metadata": {"name": name}, "spec": spec}


async def spread(running: Cluster) -> Counter[str]:
    return Counter(pod["spec"]["nodeName"] for pod in await running.ready_pods("app=web"))


@pytest.mark.parametrize("singles", [False, True])
async def test_load_moves_back_to_a_node_that_returns_and_nothing_is_missing_meanwhile(
    tmp_path: Path, *, singles: bool
) -> None:
    async with cluster(tmp_path, takes=0.1) as running:
        await running.create(*(map(single, "abcdefghijkl") if singles else [web(12)]))
        await ready(running, 12)
        running.lose("node-2")

        async def on_two() -> bool:
            return dict(await spread(running)) == {"node-1": 6, "node-3": 6}

        await running.until(on_two, within=60)
        running.bring_back("node-2")

        async def even() -> bool:
            return set((await spread(running)).values()) == {4} and len(await spread(running)) == 3

        async with fewest_ready(running) as counts:
            await running.until(even, within=120)
            await asyncio.sleep(60)
        assert counts[-1] == 12
        assert await even()
        names = {pod["metadata"]["name"] for pod in await running.pods("app=web")}
        await asyncio.sleep(240)
        assert {pod["metadata"]["name"] for pod in await running.pods("app=web")} == names
