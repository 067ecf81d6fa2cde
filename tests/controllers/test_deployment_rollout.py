import asyncio
from typing import Any

from sampan.api import kinds
from sampan.api.errors import InternalError
from sampan.api.objects import Object
from sampan.controllers import deployment, replicaset
from tests.controllers.cluster import is_ready, running, until
from tests.controllers.memory_api import MemoryApi

BOTH = (deployment.CONTROLLER, replicaset.CONTROLLER)


def web(replicas: int = 3, image: str = "v1", **spec: Any) -> Object:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            **spec,
        },
    }


def status(api: MemoryApi) -> Object:
    held: Object = api.objects[kinds.DEPLOYMENTS]["default", "web"].get("status") or {}
    return held


def image_change(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}


def complete(api: MemoryApi, replicas: int) -> bool:
    s = status(api)
    return (
        all(s.get(k, 0) == replicas for k in ("replicas", "updatedReplicas", "availableReplicas"))
        and s.get("observedGeneration")
        == api.objects[kinds.DEPLOYMENTS]["default", "web"]["metadata"]["generation"]
    )


def images(api: MemoryApi) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in api.of(kinds.PODS)}


async def test_a_deployment_gets_its_pods_and_says_so() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web())
    async with running(api, BOTH):
        await until(lambda: complete(api, 3))
        await asyncio.sleep(1)
    held = status(api)
    conditions = {c["type"]: (c["status"], c["reason"]) for c in held["conditions"]}
    assert conditions == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    (rs,) = api.of(kinds.REPLICA_SETS)
    assert rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert {event["message"] for event in api.of(kinds.EVENTS)} >= {
        f"Scaled up replica set {rs['metadata']['name']} from 0 to 3"
    }
    assert len(api.of(kinds.PODS)) == 3


async def test_an_update_never_has_more_or_fewer_pods_than_its_strategy_allows() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(8))
    async with running(api, BOTH):
        await until(lambda: complete(api, 8))
        await api.patch(kinds.DEPLOYMENTS, "web", image_change("v2"), "default")

        def within_bounds() -> bool:
            live = [p for p in api.of(kinds.PODS) if not p["metadata"].get("deletionTimestamp")]
            assert len(live) <= 10
            assert sum(map(is_ready, live)) >= 6
            return complete(api, 8) and images(api) == {"v2"}

        await until(within_bounds)
    sets = {rs["spec"]["replicas"] for rs in api.of(kinds.REPLICA_SETS)}
    assert sets == {0, 8}


async def test_an_undo_brings_the_old_set_back_under_a_new_revision() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web())
    async with running(api, BOTH):
        await until(lambda: complete(api, 3))
        for image in ("v2", "v1"):
            await api.patch(kinds.DEPLOYMENTS, "web", image_change(image), "default")
            await until(lambda image=image: complete(api, 3) and images(api) == {image})  # type: ignore[misc]
    revisions = {
        rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs["metadata"]["annotations"]
        for rs in api.of(kinds.REPLICA_SETS)
    }
    assert revisions["v1"]["deployment.kubernetes.io/revision"] == "3"
    assert revisions["v1"]["deployment.kubernetes.io/revision-history"] == "1"
    assert revisions["v2"]["deployment.kubernetes.io/revision"] == "2"
    held = api.objects[kinds.DEPLOYMENTS]["default", "web"]
    assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_recreate_starts_nothing_new_before_the_last_old_pod_is_gone() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(strategy={"type": "Recreate"}))
    async with running(api, BOTH):
        await until(lambda: complete(api, 3))
        await api.patch(kinds.DEPLOYMENTS, "web", image_change("v2"), "default")

        def never_both() -> bool:
            assert len(images(api)) <= 1
            return images(api) == {"v2"} and complete(api, 3)

        await until(never_both)


async def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web())
    async with running(api, BOTH):
        await until(lambda: complete(api, 3))
        await api.patch(
            kinds.DEPLOYMENTS,
            "web",
            {"spec": {**image_change("v2")["spec"], "paused": True, "replicas": 5}},
            "default",
        )
        await until(lambda: status(api).get("availableReplicas") == 5)
        assert images(api) == {"v1"}
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"paused": False}}, "default")
        await until(lambda: complete(api, 5) and images(api) == {"v2"})


async def test_a_rollout_that_cannot_proceed_says_so_after_its_deadline() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(progressDeadlineSeconds=30))
    async with running(api, BOTH, agents=False):
        await until(
            lambda: any(
                c["reason"] == "ProgressDeadlineExceeded" and c["status"] == "False"
                for c in status(api).get("conditions", [])
            ),
            within=40,
        )


async def test_old_revisions_beyond_the_limit_are_deleted() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(1, revisionHistoryLimit=2))
    async with running(api, BOTH):
        for n in range(5):
            await api.patch(kinds.DEPLOYMENTS, "web", image_change(f"v{n}"), "default")
            await until(lambda n=n: complete(api, 1) and images(api) == {f"v{n}"})  # type: ignore[misc]
        await until(lambda: len(api.of(kinds.REPLICA_SETS)) == 3)


async def test_late_watches_and_failing_writes_never_make_a_pod_too_many() -> None:
    api = MemoryApi(lag=0.2)
    attempts = 0

    def every_third_fails(verb: str, kind: kinds.Kind) -> InternalError | None:
        nonlocal attempts
        attempts += 1
        return InternalError("no luck") if attempts % 3 == 0 else None

    api.fault = every_third_fails
    await api.create(kinds.DEPLOYMENTS, web(20))
    async with running(api, BOTH, agents=False):
        await until(lambda: len(api.of(kinds.PODS)) == 20)
        await asyncio.sleep(30)
    created = [entry for entry in api.log if entry[:2] == ("ADDED", kinds.PODS)]
    assert len(created) == 20
    assert len(api.of(kinds.REPLICA_SETS)) == 1


async def test_refused_pods_show_as_replica_failure_and_clear_when_they_are_let_in() -> None:
    api = MemoryApi()

    def refuse(verb: str, kind: kinds.Kind) -> InternalError | None:
        return InternalError("quota") if (verb, kind) == ("create", kinds.PODS) else None

    api.fault = refuse

    def failure() -> str:
        failed = (c for c in status(api).get("conditions", []) if c["type"] == "ReplicaFailure")
        return next((c["message"] for c in failed), "")

    await api.create(kinds.DEPLOYMENTS, web())
    async with running(api, BOTH):
        await until(lambda: failure() == "quota")
        api.fault = lambda _verb, _kind: None
        await until(lambda: complete(api, 3) and not failure(), within=200)
