"""Jobs, CronJobs, StatefulSets and DaemonSets on a whole cluster, over minutes and lost nodes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.testing.cluster import Cluster, cluster
from sampan.testing.runtime import Behaviour

IMAGES = {
    "app": Behaviour(obeys_after=0.5),
    "task": Behaviour(runs_for=5.0),
    "stubborn": Behaviour(obeys_after=1000.0),
    "broken": Behaviour(runs_for=1.0, exit_code=3),
}


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, images=IMAGES) as running:
        yield running


def pod_spec(image: str, **more: Any) -> Object:
    container = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}
    return {"automountServiceAccountToken": False, "containers": [container], **more}


def job(name: str = "work", image: str = "task", **spec: Any) -> Object:
    template = {"spec": pod_spec(image, restartPolicy="Never")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def workload(kind: str, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec("app")}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


async def ended(running: Cluster, name: str = "work", *, within: float = 600) -> Object:
    """Wait until a Job is over, and return its status."""

    async def over() -> Object:
        found = await running.find(kinds.JOBS, name) or {}
        status: Object = found.get("status") or {}
        return status if {"Complete", "Failed"} & set(conditions(status)) else {}

    return await running.until(over, within=within)


def conditions(status: Object) -> list[str]:
    return [c["type"] for c in status.get("conditions") or () if c["status"] == "True"]


async def ready(running: Cluster, number: int, within: float = 60) -> list[Object]:
    async def enough() -> list[Object]:
        found = list(await running.ready_pods("app=web"))
        return found if len(found) == number else []

    return await running.until(enough, within=within)


async def test_a_job_works_through_its_completions(three: Cluster) -> None:
    await three.create(job(parallelism=3, completions=7))
    status = await ended(three)
    assert (status["succeeded"], conditions(status)) == (7, ["SuccessCriteriaMet", "Complete"])
    pods = await three.pods("job-name=work")
    assert [pod["status"]["phase"] for pod in pods] == ["Succeeded"] * 7
    assert not any(pod["metadata"].get("finalizers") for pod in pods)


async def test_a_job_outlives_its_node(three: Cluster) -> None:
    await three.create(job(parallelism=3, completions=6, completionMode="Indexed"))

    async def started() -> list[Object]:
        return [p for p in await three.pods() if p["status"]["phase"] == "Running"]

    victim = (await three.until(started))[0]["spec"]["nodeName"]
    three.lose(victim)
    status = await ended(three)
    assert status["completedIndexes"] == "0-5"
    assert status["failed"] >= 1


async def test_a_job_that_waits_for_the_failed_replaces_none_that_still_stops(
    three: Cluster,
) -> None:
    await three.create(job(image="stubborn", podReplacementPolicy="Failed"))
    first = await three.until(lambda: running_pods(three, 1))
    name = first[0]["metadata"]["name"]
    await three.client.delete(kinds.PODS, name, "default")
    second = await three.until(lambda: other_pods(three, name), within=90)
    assert len(second) == 1
    found = await three.find(kinds.JOBS, "work")
    assert found
    assert found["status"]["failed"] == 1
    assert await three.find(kinds.PODS, name) is None


async def running_pods(three: Cluster, number: int) -> list[Object]:
    found = [p for p in await three.pods() if p["status"]["phase"] == "Running"]
    return found if len(found) == number else []


async def other_pods(three: Cluster, name: str) -> list[Object]:
    return [p for p in await running_pods(three, 1) if p["metadata"]["name"] != name]


async def test_tries_that_fail_are_spaced_out_and_end(three: Cluster) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await three.create(job(image="broken", backoffLimit=2))
    status = await ended(three)
    assert (status["failed"], conditions(status)) == (3, ["FailureTarget", "Failed"])
    assert 30 < loop.time() - begun < 45, "ten seconds, then twenty"


async def test_a_cron_job_runs_every_minute_and_keeps_three(three: Cluster) -> None:
    template = {"spec": job()["spec"]}
    await three.create(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "tick"},
            "spec": {"schedule": "* * * * *", "jobTemplate": template},
        }
    )
    seen: set[str] = set()
    for _ in range(600):
        jobs = (await three.client.list(kinds.JOBS, "default")).items
        seen |= {found["metadata"]["name"] for found in jobs}
        assert len(jobs) <= 4
        await asyncio.sleep(1)
    minutes = sorted(int(name.removeprefix("tick-")) for name in seen)
    assert len(minutes) >= 9
    assert minutes == list(range(minutes[0], minutes[0] + len(minutes)))
    found = await three.find(kinds.CRON_JOBS, "tick")
    assert found
    assert found["status"]["lastSuccessfulTime"] > found["status"]["lastScheduleTime"]


async def test_a_lost_node_never_makes_two_pods_of_one_name(three: Cluster) -> None:
    await three.create(workload("StatefulSet", replicas=3, serviceName="web"))
    pods = await ready(three, 3)
    assert [pod["metadata"]["name"] for pod in pods] == ["web-0", "web-1", "web-2"]
    victim = pods[1]["spec"]["nodeName"]
    three.lose(victim)
    await asyncio.sleep(60)
    [stuck] = [p for p in await three.pods("app=web") if p["metadata"]["name"] == "web-1"]
    assert stuck["metadata"]["uid"] == pods[1]["metadata"]["uid"]
    assert stuck["metadata"]["deletionTimestamp"]
    three.bring_back(victim)
    again = await ready(three, 3)
    assert again[1]["metadata"]["uid"] != pods[1]["metadata"]["uid"]


async def test_a_daemon_set_follows_the_nodes_and_rolls_one_by_one(three: Cluster) -> None:
    await three.create(workload("DaemonSet"))
    pods = await ready(three, 3)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-1", "node-2", "node-3"}
    patch = {"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}}
    await three.client.patch(kinds.DAEMON_SETS, "web", patch, "default")
    fewest = await fewest_ready(three, lambda status: status.get("updatedNumberScheduled") == 3)
    assert fewest == 2
    after = await ready(three, 3)
    assert {pod["metadata"]["annotations"]["release"] for pod in after} == {"2"}


async def fewest_ready(three: Cluster, done: Callable[[Object], bool]) -> int:
    fewest = 3
    while True:
        found = await three.find(kinds.DAEMON_SETS, "web")
        assert found
        fewest = min(fewest, len(await three.ready_pods("app=web")))
        if found["status"]["observedGeneration"] > 1 and done(found["status"]):
            return fewest
        await asyncio.sleep(0.02)


async def test_a_cordoned_node_still_gets_its_daemon(three: Cluster) -> None:
    await three.client.patch(kinds.NODES, "node-3", {"spec": {"unschedulable": True}})
    await three.create(workload("DaemonSet"))
    pods = await ready(three, 3)
    assert "node-3" in {pod["spec"]["nodeName"] for pod in pods}


async def test_a_suspended_job_starts_when_it_is_resumed(three: Cluster) -> None:
    await three.create(job(suspend=True, activeDeadlineSeconds=60))
    await asyncio.sleep(100)
    assert await three.pods() == []
    await three.client.patch(kinds.JOBS, "work", {"spec": {"suspend": False}}, "default")
    status = await ended(three)
    assert conditions(status) == ["SuccessCriteriaMet", "Complete"]
