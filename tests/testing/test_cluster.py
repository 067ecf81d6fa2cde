"""The main job in one process and virtual time: spread, roll, heal, survive a node."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.scheduler.place import Placer
from sampan.testing.cluster import Cluster, cluster


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as running:
        yield running


def web(replicas: int, **spec: Any) -> Object:
    container = {"name": "main", "image": "app", "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"automountServiceAccountToken": False, "containers": [container]},
            },
            **spec,
        },
    }


async def ready(running: Cluster, number: int) -> list[Object]:
    async def enough() -> list[Object]:
        found = list(await running.ready_pods("app=web"))
        return found if len(found) == number else []

    return await running.until(enough)


async def rolled_out(running: Cluster) -> bool:
    found = await running.find(kinds.DEPLOYMENTS, "web")
    assert found
    status, wanted = found.get("status") or {}, found["spec"]["replicas"]
    counts = [status.get(k, 0) for k in ("replicas", "updatedReplicas", "availableReplicas")]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and counts == [wanted] * 3
    )


async def test_six_replicas_run_two_by_two_on_three_nodes(three: Cluster) -> None:
    await three.create(web(6))
    pods = await ready(three, 6)
    per_node = Counter(pod["spec"]["nodeName"] for pod in pods)
    assert per_node == {"node-1": 2, "node-2": 2, "node-3": 2}
    assert len({pod["status"]["podIP"] for pod in pods}) == 6
    assert len(three.runtime("node-1").runs("main")) == 2


async def test_a_deployment_rolls_to_new_pods(three: Cluster) -> None:
    await three.create(web(6))
    before = {pod["metadata"]["name"] for pod in await ready(three, 6)}
    annotations = {"release": "2"}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    await three.client.patch(kinds.DEPLOYMENTS, "web", patch, "default")
    await three.until(lambda: rolled_out(three), within=120)
    after = await ready(three, 6)
    assert not before & {pod["metadata"]["name"] for pod in after}
    assert sorted(Counter(pod["spec"]["nodeName"] for pod in after).values()) == [2, 2, 2]


async def test_a_deleted_pod_is_replaced_where_it_was(three: Cluster) -> None:
    await three.create(web(3))
    victim = (await ready(three, 3))[0]
    name = victim["metadata"]["name"]
    await three.client.delete(kinds.PODS, name, "default")

    async def replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in await three.pods("app=web")}
        return len(names) == 3 and name not in names

    await three.until(replaced, within=60)
    assert len({pod["spec"]["nodeName"] for pod in await ready(three, 3)}) == 3


async def test_the_pods_of_a_silent_node_run_elsewhere_within_ten_seconds(three: Cluster) -> None:
    await three.create(web(6))
    await ready(three, 6)
    three.lose("node-2")

    async def elsewhere() -> bool:
        found = await three.ready_pods("app=web")
        return len(found) == 6 and all(p["spec"]["nodeName"] != "node-2" for p in found)

    await three.until(elsewhere, within=10)
    per_node = Counter(pod["spec"]["nodeName"] for pod in await three.ready_pods("app=web"))
    assert per_node == {"node-1": 3, "node-3": 3}


async def test_a_node_that_comes_back_stops_what_was_replaced(three: Cluster) -> None:
    await three.create(web(3))
    await ready(three, 3)
    three.lose("node-2")

    async def replaced() -> bool:
        found = await three.ready_pods("app=web")
        return len(found) == 3 and all(p["spec"]["nodeName"] != "node-2" for p in found)

    await three.until(replaced)
    assert any(run.running for run in three.runtime("node-2").runs("main"))
    three.bring_back("node-2")

    async def stopped() -> bool:
        return not any(run.running for run in three.runtime("node-2").runs("main"))

    await three.until(stopped, within=60)
    assert len(await three.ready_pods("app=web")) == 3


async def test_a_container_that_ends_is_started_again(three: Cluster) -> None:
    await three.create(web(1))
    [pod] = await ready(three, 1)
    runtime = three.runtime(pod["spec"]["nodeName"])
    runtime.end(runtime.runs("main")[0].id, exit_code=1)

    async def restarted() -> bool:
        [again] = await three.pods("app=web")
        status = again["status"]["containerStatuses"][0]
        return bool(status["restartCount"] == 1 and status["ready"])

    await three.until(restarted, within=60)


async def test_a_pod_that_fits_nowhere_says_why_and_runs_when_it_does(three: Cluster) -> None:
    for number in (1, 2, 3):
        patch = {"spec": {"unschedulable": True}}
        await three.client.patch(kinds.NODES, f"node-{number}", patch)
    await three.create(web(1))

    async def refused() -> str:
        [pod] = await three.pods("app=web") or [{}]
        conditions = (pod.get("status") or {}).get("conditions") or ()
        return next((str(c["message"]) for c in conditions if c["type"] == "PodScheduled"), "")

    text = await three.until(refused)
    assert text.startswith("0/3 nodes are available: ")
    assert "unschedulable" in text
    await three.client.patch(kinds.NODES, "node-3", {"spec": {"unschedulable": False}})
    [pod] = await ready(three, 1)
    assert pod["spec"]["nodeName"] == "node-3"


async def test_a_service_names_the_ready_pods(three: Cluster) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    await three.create(service, web(3))
    addresses = {pod["status"]["podIP"] for pod in await ready(three, 3)}

    async def endpoints() -> set[str]:
        slices = (await three.client.list(kinds.ENDPOINT_SLICES, "default")).items
        return {
            address
            for each in slices
            if each["metadata"]["labels"].get("kubernetes.io/service-name") == "web"
            for endpoint in each["endpoints"]
            for address in endpoint["addresses"]
        }

    async def complete() -> bool:
        return await endpoints() == addresses

    await three.until(complete)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})])
async def test_the_same_cluster_runs_in_real_time(
    anyio_backend: tuple[str, Any], tmp_path: Path
) -> None:
    async with cluster(tmp_path, takes=0.001) as running:
        await running.create(web(6))
        pods = await ready(running, 6)
    assert sorted(Counter(pod["spec"]["nodeName"] for pod in pods).values()) == [2, 2, 2]


async def test_a_burst_on_slow_machines_is_spread_evenly(tmp_path: Path) -> None:
    async with cluster(tmp_path, takes=0.2) as running:
        await running.create(web(30))
        pods = await ready(running, 30)
    assert Counter(p["spec"]["nodeName"] for p in pods) == {
        "node-1": 10,
        "node-2": 10,
        "node-3": 10,
    }


async def test_a_roll_never_has_fewer_pods_ready_than_it_promised(three: Cluster) -> None:
    await three.create(web(6, strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}))
    await ready(three, 6)
    annotations = {"release": "2"}
    patch = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    await three.client.patch(kinds.DEPLOYMENTS, "web", patch, "default")
    least, most = 6, 6

    async def done() -> bool:
        nonlocal least, most
        least = min(least, len(await three.ready_pods("app=web")))
        alive = [p for p in await three.pods("app=web") if "deletionTimestamp" not in p["metadata"]]
        most = max(most, len(alive))
        return await rolled_out(three)

    await three.until(done, within=120)
    assert (least >= 5, most <= 8) == (True, True), (least, most)


async def test_a_test_that_fails_is_told_what_failed_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with cluster(tmp_path, nodes=1) as running:
            await running.until(running.pods, within=1)


async def test_a_part_that_breaks_breaks_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Placer, _pods: Any) -> Any:
        raise ZeroDivisionError

    async def use_it() -> None:
        async with cluster(tmp_path, nodes=1) as running:
            monkeypatch.setattr(Placer, "place", broken)
            await running.create(web(1))
            await ready(running, 1)

    with pytest.raises(ExceptionGroup) as raised:
        await use_it()
    assert raised.group_contains(ZeroDivisionError)
