"""Which replicas move to a node that joined, and which never do."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.marks import EVICTING
from sampan.api.objects import Node, Object, Pod, Resource
from sampan.api.time import timestamp
from sampan.controllers.plan import CheckAgain, Patch, RecordEvent, World
from sampan.controllers.rebalance import JOINED, MOVES_TO, moves, reconcile
from sampan.controllers.roster import controllers
from sampan.controllers.views import Deployment, Namespace, ReplicaSet
from tests.controllers.cluster import add_node, running, world
from tests.controllers.memory_api import EPOCH, MemoryApi

LATER = EPOCH + timedelta(hours=1)
NOW = LATER + timedelta(seconds=30)
EVERYONE = controllers("CA")


def node(name: str, *, joined: str = timestamp(EPOCH), **more: Any) -> Node:
    meta = {"name": name, "annotations": {JOINED: joined} if joined else {}}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return Node.of({"metadata": meta, "status": status, **more})


def replica(name: str, where: str, *, of: str = "web", **more: Any) -> Pod:
    owner = {"kind": "ReplicaSet", "name": of, "uid": of, "controller": True}
    meta = {
        "name": name, "namespace": "default", "uid": name, "ownerReferences": [owner],
        "creationTimestamp": timestamp(EPOCH), **more.pop("meta", {}),
    }  # fmt: skip
    conditions = [{"type": "Ready", "status": more.pop("ready", "True")}]
    spec = {"nodeName": where, **more}
    return Pod.of(
        {"metadata": meta, "spec": spec, "status": {"phase": "Running", "conditions": conditions}}
    )


def owner(name: str, replicas: int, *, ready: int | None = None, **notes: str) -> ReplicaSet:
    above = {"kind": "Deployment", "name": name, "uid": f"d-{name}", "controller": True}
    meta = {
        "name": name, "namespace": "default", "uid": name, "ownerReferences": [above],
        "annotations": {f"sampan.io/{k}": v for k, v in notes.items()},
    }  # fmt: skip
    status = {"replicas": replicas, "readyReplicas": replicas if ready is None else ready}
    return ReplicaSet.of({"metadata": meta, "spec": {"replicas": replicas}, "status": status})


def system(mode: str) -> Namespace:
    notes = {"sampan.io/rebalance": mode}
    return Namespace.of({"metadata": {"name": "kube-system", "annotations": notes}})


def seen(*objects: Resource, now: Any = NOW) -> World:
    return world(node("a"), node("b"), node("new", joined=timestamp(LATER)), *objects, now=now)


def planned(*objects: Resource, now: Any = NOW) -> list[Any]:
    view = seen(*objects, now=now)
    joined = view.objects.get(Node, "", "new")
    assert joined
    return [a for a in reconcile(joined, view) if not isinstance(a, CheckAgain)]


FOUR = [replica(f"p{i}", "ab"[i % 2]) for i in range(4)]


def test_one_replica_at_a_time_is_marked_and_an_event_says_why() -> None:
    [patch] = planned(owner("web", 4), *FOUR)
    assert isinstance(patch, Patch)
    assert patch.patch["metadata"]["annotations"] == {EVICTING: timestamp(NOW), MOVES_TO: "new"}
    assert patch.done
    assert patch.done.message == (
        f"Moving for the sake of node new: 2 of its replicas on {patch.obj.spec.node_name}"  # type: ignore[attr-defined]
    )
    moving = replica("p9", "a", meta={"annotations": {EVICTING: "x", MOVES_TO: "new"}})
    assert planned(owner("web", 5), *FOUR, moving) == []


@pytest.mark.parametrize(
    "kept",
    [
        {"volumes": [{"name": "v", "hostPath": {"path": "/d"}}]},
        {"volumes": [{"name": "v", "emptyDir": {}}]},
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        {"volumes": [{"name": "v", "ephemeral": {}}]},
        {"hostNetwork": True},
        {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
        {"nodeSelector": {"disk": "ssd"}},
        {"affinity": {"nodeAffinity": {}}},
        {"ready": "False"},
        {"meta": {"annotations": {"sampan.io/rebalance": "never"}}},
        {"meta": {"creationTimestamp": timestamp(LATER)}},
        {
            "meta": {
                "ownerReferences": [{"kind": "Job", "name": "j", "uid": "j", "controller": True}]
            }
        },
        {"meta": {"ownerReferences": []}},
    ],
)
def test_what_cannot_or_shall_not_move_stays(kept: Object) -> None:
    pods = [replica(f"p{i}", "a", **{**kept, "meta": dict(kept.get("meta", {}))}) for i in range(4)]
    assert planned(owner("web", 4), *pods) == []


def test_workloads_that_ask_roll_or_cannot_double_stay() -> None:
    assert planned(owner("web", 4, rebalance="never"), *FOUR) == []
    assert planned(owner("web", 4, ready=3), *FOUR) == []
    alone = Deployment.of({"metadata": {"name": "web", "namespace": "default"},
                           "spec": {"strategy": {"type": "Recreate"}}})  # fmt: skip
    assert planned(owner("web", 4), alone, *FOUR) == []


def test_memory_volumes_and_a_fitting_selector_are_no_reason_to_stay() -> None:
    memory = [{"name": "v", "emptyDir": {"medium": "Memory"}}]
    assert planned(owner("web", 4), *(replica(f"p{i}", "a", volumes=memory) for i in range(4)))


def test_off_is_off_and_a_plan_is_only_told_and_once() -> None:
    assert planned(owner("web", 4), system("off"), *FOUR) == []
    soon = LATER + timedelta(seconds=12)
    [event] = planned(owner("web", 4), system("plan"), *FOUR, now=soon)
    assert isinstance(event, RecordEvent)
    assert event.message.startswith("Would move here: default/p")
    assert planned(owner("web", 4), system("plan"), *FOUR, now=NOW + timedelta(minutes=1)) == []


def test_a_node_is_left_alone_before_it_has_settled_and_after_half_an_hour() -> None:
    assert planned(owner("web", 4), *FOUR, now=LATER + timedelta(seconds=9)) == []
    assert planned(owner("web", 4), *FOUR, now=LATER + timedelta(minutes=31)) == []


def test_since_when_a_node_is_usable_is_noted_on_it() -> None:
    away = node("n", spec={"unschedulable": True})
    [patch] = reconcile(away, seen())
    assert isinstance(patch, Patch)
    assert patch.patch["metadata"]["annotations"] == {JOINED: "away"}
    [back, _] = reconcile(node("n", joined="away"), seen())
    assert isinstance(back, Patch)
    assert back.patch["metadata"]["annotations"] == {JOINED: timestamp(NOW)}


workloads = st.lists(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6), min_size=1, max_size=6
)


@given(workloads)
def test_moves_end_and_leave_no_node_clearly_fuller_than_the_joined_one(
    where: list[list[str]],
) -> None:
    pods = [
        replica(f"p{w}-{i}", place, of=f"w{w}")
        for w, places in enumerate(where)
        for i, place in enumerate(places)
    ]
    owners = [owner(f"w{w}", len(places)) for w, places in enumerate(where)]
    new = node("new", joined=timestamp(LATER))
    view = world(node("a"), node("b"), node("c"), new, *pods, *owners, now=NOW)
    made = list(moves(new, LATER, view.objects))
    assert len({m.pod.metadata.name for m in made}) == len(made)
    after = {pod.metadata.name: pod.spec.node_name for pod in pods}
    after |= {m.pod.metadata.name: "new" for m in made}
    load = Counter(after.values())
    for w in range(len(where)):
        own = Counter(at for name, at in after.items() if name.startswith(f"p{w}-"))
        assert max(own.values()) - own["new"] <= 1 or own["new"] > 0
        assert max(own[place] for place in "abc") - own["new"] < 2
    singles = [pods_at for pods_at in where if len(pods_at) == 1]
    if len(singles) == len(where):
        assert max(load[place] for place in "abc") - load["new"] < 2


async def test_a_cluster_that_just_started_moves_nothing_and_notes_each_node_once() -> None:
    api = MemoryApi()
    for name in ("n1", "n2"):
        await add_node(api, name)
    async with running(api, EVERYONE):
        await asyncio.sleep(20)
        before = [n["metadata"]["resourceVersion"] for n in api.of(kinds.NODES)]
        await asyncio.sleep(2000)
        assert [n["metadata"]["resourceVersion"] for n in api.of(kinds.NODES)] == before
    assert all(JOINED in n["metadata"]["annotations"] for n in api.of(kinds.NODES))
