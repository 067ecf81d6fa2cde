"""Admission on a whole cluster: what is refused comes later, and nothing else is held up."""

from pathlib import Path

from sampan.api import kinds
from sampan.api.kinds import BY_GVK
from sampan.api.objects import Object
from sampan.testing.cluster import Cluster, cluster

QUOTAS = BY_GVK["v1", "ResourceQuota"]


def deployment(replicas: int) -> Object:
    container = {"name": "main", "image": "app", "imagePullPolicy": "IfNotPresent"}
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"automountServiceAccountToken": False, "containers": [container]},
            },
        },
    }


async def used(running: Cluster) -> str:
    quota = await running.find(QUOTAS, "q") or {}
    return str(quota["status"]["used"]["pods"])


async def test_replicas_beyond_a_quota_start_when_it_is_raised(tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    async with cluster(tmp_path) as running:
        await running.create({**quota, "spec": {"hard": {"pods": "2"}}}, deployment(3))
        await running.until(lambda: ready(running, 2))

        async def told() -> bool:
            found = await running.find(kinds.DEPLOYMENTS, "web") or {}
            conditions = found["status"].get("conditions") or ()
            return any(
                c["type"] == "ReplicaFailure" and "exceeded quota: q" in c["message"]
                for c in conditions
            )

        await running.until(told)
        assert await used(running) == "2"
        raised = {"spec": {"hard": {"pods": "3"}}}
        await running.client.patch(QUOTAS, "q", raised, "default")
        await running.until(lambda: ready(running, 3), within=300)
        assert await used(running) == "3"
        await running.client.delete(kinds.DEPLOYMENTS, "web", "default")

        async def nothing_used() -> bool:
            return await used(running) == "0"

        await running.until(nothing_used)


async def ready(running: Cluster, number: int) -> bool:
    return len(await running.ready_pods("app=web")) == number


async def test_a_namespace_with_a_quota_can_be_deleted(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=1) as running:
        await running.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
        meta = {"namespace": "n", "name": "q"}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta}
        await running.create({**quota, "spec": {"hard": {"pods": "2", "secrets": "9"}}})
        await running.client.delete(kinds.NAMESPACES, "n")

        async def gone() -> bool:
            return await running.find(kinds.NAMESPACES, "n") is None

        await running.until(gone, within=120)
