import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import Forbidden
from sampan.api.objects import Node, Object, Pod
from sampan.controllers import replicaset
from sampan.controllers.plan import CheckAgain, Create, Delete, Failure, Patch, RecordEvent
from sampan.controllers.views import ReplicaSet
from tests.controllers.cluster import labelled, running, start, until, world
from tests.controllers.memory_api import EPOCH, MemoryApi

ONLY = (replicaset.CONTROLLER,)


def a_set(replicas: int, **spec: Any) -> ReplicaSet:
    raw = labelled("ReplicaSet", "web", replicas=replicas, **spec)
    raw["metadata"] |= {"uid": "rs", "resourceVersion": "1", "generation": 1}
    return ReplicaSet.of(raw)


def a_pod(
    name: str,
    *,
    node: str = "n1",
    phase: str = "Running",
    ready: bool = True,
    deleting: bool = False,
    age: int = 100,
    **more: Any,
) -> Pod:
    at = (EPOCH - timedelta(seconds=age)).isoformat()
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs"}
    meta = {
        "name": name,
        "namespace": "default",
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": at,
        "labels": {"app": "web"},
        "ownerReferences": [{**owner, "controller": True}],
        **({"deletionTimestamp": at} if deleting else {}),
        **more,
    }
    status = {"phase": phase, "conditions": [condition]}
    return Pod.of({"metadata": meta, "spec": {"nodeName": node}, "status": status})


def plan(rs: ReplicaSet, *objects: Any, **given_: Any) -> list[Any]:
    return list(replicaset.reconcile(rs, world(rs, *objects, **given_)))


@given(
    st.integers(0, 12),
    st.lists(
        st.tuples(
            st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    ),
)
def test_a_plan_always_makes_the_live_pods_as_many_as_asked(
    replicas: int, states: list[tuple[str, bool, bool]]
) -> None:
    pods = [
        a_pod(f"p{n}", phase=phase, ready=ready, deleting=deleting)
        for n, (phase, ready, deleting) in enumerate(states)
    ]
    live = {pod.metadata.name for pod in pods if pod.live}
    actions = plan(a_set(replicas), *pods)
    created = sum(isinstance(action, Create) for action in actions)
    deleted = {action.obj.metadata.name for action in actions if isinstance(action, Delete)}
    assert deleted <= live
    assert len(live) + created - len(deleted) == replicas
    assert not (created and deleted)


def test_the_least_useful_pods_go_first() -> None:
    pods = [
        a_pod("old-ready", age=10_000),
        a_pod("young-ready", age=10),
        a_pod("cheap", annotations={replicaset.DELETION_COST: "-1"}),
        a_pod("unready", ready=False),
        a_pod("pending", phase="Pending", ready=False),
        a_pod("unplaced", node="", phase="Pending", ready=False),
    ]
    ranked = replicaset.cheapest_first(pods, pods, EPOCH)
    names = [pod.metadata.name for pod in ranked]
    assert names == ["unplaced", "pending", "unready", "cheap", "young-ready", "old-ready"]


def test_pods_that_share_a_node_go_before_pods_that_do_not() -> None:
    pods = [a_pod("alone", node="n2"), a_pod("a", node="n1"), a_pod("b", node="n1")]
    first = replicaset.cheapest_first(pods, pods, EPOCH)[0]
    assert first.spec.node_name == "n1"


def test_a_pod_on_a_silent_node_does_not_count_as_ready() -> None:
    silent = Node.of(
        {
            "metadata": {"name": "n1", "resourceVersion": "1"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        }
    )
    (patch,) = plan(a_set(2), a_pod("a", node="n1"), a_pod("b", node="n2"), silent)
    assert patch.patch["status"]["readyReplicas"] == 1
    assert patch.patch["status"]["replicas"] == 2


def test_a_pod_is_available_only_after_min_ready_seconds() -> None:
    rs = a_set(1, minReadySeconds=30)
    report, again = plan(rs, a_pod("a", age=10))
    assert "availableReplicas" not in report.patch["status"]
    assert again == CheckAgain(20)
    (report,) = plan(rs, a_pod("a", age=31))
    assert report.patch["status"]["availableReplicas"] == 1


def test_a_refusal_is_reported_once_with_its_message() -> None:
    rs = a_set(1)
    refused = Failure(Create(kinds.PODS, {}), Forbidden("quota exceeded"))
    actions = plan(rs, failure=refused)
    (event,) = [action for action in actions if isinstance(action, RecordEvent)]
    assert (event.reason, event.message) == ("FailedCreate", "Error creating: quota exceeded")
    (patch,) = [action for action in actions if isinstance(action, Patch)]
    (condition,) = patch.patch["status"]["conditions"]
    assert (condition["type"], condition["message"]) == ("ReplicaFailure", "quota exceeded")


async def test_a_set_adopts_orphans_and_releases_strays() -> None:
    api = MemoryApi()
    orphan: Object = {
        "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}},
        "spec": {},
    }
    await start(api, await api.create(kinds.PODS, orphan))
    await api.create(kinds.REPLICA_SETS, labelled("ReplicaSet", "web", replicas=2))

    def owned() -> set[str]:
        return {
            p["metadata"]["name"]
            for p in api.of(kinds.PODS)
            if p["metadata"].get("ownerReferences")
        }

    async with running(api, ONLY):
        await until(lambda: len(owned()) == 2)
        assert "orphan" in owned()
        relabel = {"metadata": {"labels": {"app": "debug"}}}
        await api.patch(kinds.PODS, "orphan", relabel, "default")
        await until(lambda: "orphan" not in owned() and len(owned()) == 2)
    assert len(api.of(kinds.PODS)) == 3


async def test_a_pod_that_ends_or_is_deleted_is_replaced() -> None:
    api = MemoryApi()
    await api.create(kinds.REPLICA_SETS, labelled("ReplicaSet", "web", replicas=2))

    def live() -> list[Object]:
        return [p for p in api.of(kinds.PODS) if (p.get("status") or {}).get("phase") != "Failed"]

    async with running(api, ONLY):
        await until(lambda: len(live()) == 2)
        first, second = (p["metadata"]["name"] for p in live())
        await api.patch(kinds.PODS, first, {"status": {"phase": "Failed"}}, "default")
        await api.delete(kinds.PODS, second, "default")
        await until(lambda: len(live()) == 2 and second not in str(live()))
        await asyncio.sleep(5)
    assert len(live()) == 2
