import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Node, Object, Pod
from sampan.controllers import daemonset
from sampan.controllers.daemon_nodes import Fit, fit, target
from sampan.controllers.history import HASH
from sampan.controllers.plan import CheckAgain, Create, Delete, Patch, RecordEvent
from sampan.controllers.views_apps import DaemonSet
from tests.controllers.cluster import add_node, labelled, running, until, world
from tests.controllers.daemons import a_node, a_pod, a_revision, a_set, rolling
from tests.controllers.memory_api import MemoryApi

ONLY = (daemonset.CONTROLLER,)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def plan(ds: DaemonSet, *objects: Any, **given: Any) -> list[Any]:
    return list(daemonset.reconcile(ds, world(ds, *objects, **given)))


def done(actions: Sequence[Any]) -> list[str]:
    """Where a plan puts Pods, and which it removes, in short."""
    told = []
    for action in actions:
        if isinstance(action, Create):
            told.append(f"+{target(Pod.of(action.body))}")
        elif isinstance(action, Delete) and isinstance(action.obj, Pod):
            told.append(f"-{action.obj.metadata.name}")
    return sorted(told)


def status(actions: Sequence[Any]) -> Object:
    (patch,) = [a for a in actions if isinstance(a, Patch) and a.subresource == "status"]
    told: Object = patch.patch["status"]
    return told


def test_every_node_that_it_means_gets_a_pod_that_can_go_nowhere_else() -> None:
    ds = a_set()
    actions = plan(ds, a_revision(ds), a_node("n1"), a_node("n2"), a_node("n3", "NoSchedule"))
    assert done(actions) == ["+n1", "+n2"]
    body = next(a.body for a in actions if isinstance(a, Create))
    assert body["metadata"]["generateName"] == "log-"
    assert body["metadata"]["labels"][HASH] == a_revision(ds).metadata.labels[HASH]
    assert body["spec"]["affinity"]["nodeAffinity"][REQUIRED] == {
        "nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
        ]
    }
    keys = {(t["key"].partition("/")[2], t["effect"]) for t in body["spec"]["tolerations"]}
    assert keys == {
        ("not-ready", "NoExecute"), ("unreachable", "NoExecute"), ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    }  # fmt: skip


EVERYWHERE = {"tolerations": [{"operator": "Exists"}]}
IN_ZONE = {"nodeSelectorTerms": [{"matchExpressions": [
    {"key": "zone", "operator": "In", "values": ["a"]}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "node", "fits"),
    [
        ({}, a_node("n1"), Fit(belongs=True, stays=True)),
        ({}, a_node("n1", "PreferNoSchedule"), Fit(belongs=True, stays=True)),
        ({}, a_node("n1", "NoSchedule"), Fit(belongs=False, stays=True)),
        ({}, a_node("n1", "NoExecute"), Fit(belongs=False, stays=False)),
        (EVERYWHERE, a_node("n1", "NoExecute"), Fit(belongs=True, stays=True)),
        ({"nodeSelector": {"zone": "a"}}, a_node("n1"), Fit(belongs=False, stays=False)),
        (
            {"nodeSelector": {"zone": "a"}},
            a_node("n1", labels={"zone": "a"}),
            Fit(belongs=True, stays=True),
        ),
        (
            {"affinity": {"nodeAffinity": {REQUIRED: IN_ZONE}}},
            a_node("n1", labels={"zone": "b"}),
            Fit(belongs=False, stays=False),
        ),
        (
            {"affinity": {"nodeAffinity": {REQUIRED: IN_ZONE}}},
            a_node("n1", labels={"zone": "a"}),
            Fit(belongs=True, stays=True),
        ),
        ({"nodeName": "n2"}, a_node("n1"), Fit(belongs=False, stays=False)),
    ],
)
def test_taints_selectors_and_affinity_say_where_it_belongs(
    pod: Object, node: Node, fits: Fit
) -> None:
    assert fit(a_set(pod=pod), node) == fits


def test_a_pod_stays_on_a_node_that_takes_no_new_ones() -> None:
    ds = a_set()
    around = (a_revision(ds), a_pod(ds, "a"))
    full = plan(ds, *around, a_node("n1", "NoSchedule"))
    assert done(full) == []
    assert status(full)["numberMisscheduled"] == 1
    assert done(plan(ds, *around, a_node("n1", "NoExecute"))) == ["-a"]


def test_of_two_pods_on_a_node_the_oldest_stays() -> None:
    ds = a_set()
    pods = [a_pod(ds, "young", age=10), a_pod(ds, "old", age=99)]
    assert done(plan(ds, a_revision(ds), a_node("n1"), *pods)) == ["-young"]


def test_a_pod_that_ended_is_deleted_told_of_and_only_then_made_again() -> None:
    ds = a_set()
    around = (a_revision(ds), a_node("n1"))
    actions = plan(ds, *around, a_pod(ds, "a", phase="Failed"))
    assert done(actions) == ["-a"]
    (event,) = [a for a in actions if isinstance(a, RecordEvent)]
    text = "Found failed daemon pod default/a on node n1, will try to kill it"
    assert (event.reason, event.message) == ("FailedDaemonPod", text)
    assert done(plan(ds, *around, a_pod(ds, "a", deleting=True))) == []


def test_a_pod_that_fails_at_once_is_not_replaced_without_a_pause() -> None:
    ds = a_set()
    actions = plan(ds, a_revision(ds), a_node("n1"), a_pod(ds, "a", phase="Failed", age=2))
    assert done(actions) == []
    assert CheckAgain(3) in actions


@pytest.mark.parametrize(
    ("limits", "does"),
    [
        ({}, ["-p0"]),
        ({"maxUnavailable": 2}, ["-p0", "-p1"]),
        ({"maxUnavailable": "30%"}, ["-p0", "-p1"]),
        ({"maxUnavailable": 0, "maxSurge": 1}, ["+n0"]),
        ({"maxUnavailable": 0, "maxSurge": "50%"}, ["+n0", "+n1"]),
    ],
)
def test_a_changed_template_rolls_within_its_limits(limits: Object, does: list[str]) -> None:
    old, new = a_set(), a_set("v2", **rolling(**limits))
    nodes = [a_node(f"n{n}") for n in range(4)]
    pods = [a_pod(old, f"p{n}", f"n{n}") for n in range(4)]
    assert done(plan(new, a_revision(old), a_revision(new, 2), *nodes, *pods)) == does


def test_on_delete_replaces_nothing_by_itself() -> None:
    old, new = a_set(), a_set("v2", updateStrategy={"type": "OnDelete"})
    revisions = (a_revision(old), a_revision(new, 2))
    assert done(plan(new, *revisions, a_node("n1"), a_pod(old, "a"))) == []
    assert done(plan(new, *revisions, a_node("n1"))) == ["+n1"]


def test_pods_that_are_down_anyway_are_replaced_first_and_count() -> None:
    old, new = a_set(), a_set("v2")
    nodes = [a_node(f"n{n}") for n in range(3)]
    pods = [a_pod(old, f"p{n}", f"n{n}", ready=n != 2) for n in range(3)]
    assert done(plan(new, a_revision(old), a_revision(new, 2), *nodes, *pods)) == ["-p2"]


def test_with_a_surge_the_old_pod_goes_when_the_new_one_is_available() -> None:
    old, new = a_set(), a_set("v2", **rolling(maxSurge=1, maxUnavailable=0), minReadySeconds=20)
    around = (a_revision(old), a_revision(new, 2), a_node("n1"), a_pod(old, "old"))
    assert done(plan(new, *around, a_pod(new, "new", age=10))) == []
    assert done(plan(new, *around, a_pod(new, "new", age=20))) == ["-old"]


def test_the_status_counts_by_the_oldest_pod_of_each_node() -> None:
    ds = a_set()
    nodes = [a_node("n1"), a_node("n2"), a_node("n3"), a_node("n4", "NoSchedule")]
    pods = [a_pod(ds, "a", "n1"), a_pod(ds, "b", "n2", ready=False), a_pod(ds, "d", "n4")]
    assert status(plan(ds, a_revision(ds), *nodes, *pods)) == {
        "desiredNumberScheduled": 3,
        "currentNumberScheduled": 2,
        "numberReady": 1,
        "numberAvailable": 1,
        "numberUnavailable": 2,
        "numberMisscheduled": 1,
        "updatedNumberScheduled": 2,
        "observedGeneration": 1,
    }


async def test_nodes_that_come_and_go_are_followed() -> None:
    api = MemoryApi()
    async with running(api, ONLY):
        await api.create(kinds.DAEMON_SETS, labelled("DaemonSet", "log"))
        await until(lambda: len(api.of(kinds.CONTROLLER_REVISIONS)) == 1)
        for name in ("a", "b"):
            await add_node(api, name)
        await until(lambda: state(api).get("numberReady") == 2)
        taint = {"key": "gpu", "effect": "NoExecute"}
        await api.patch(kinds.NODES, "a", {"spec": {"taints": [taint]}})
        await until(lambda: len(api.of(kinds.PODS)) == 1)
        await asyncio.sleep(5)
        assert [p["spec"]["nodeName"] for p in api.of(kinds.PODS)] == ["b"]
        assert state(api)["desiredNumberScheduled"] == 1


async def test_a_rolled_set_keeps_a_revision_for_each_template() -> None:
    api = MemoryApi()
    async with running(api, ONLY):
        for name in ("a", "b", "c"):
            await add_node(api, name)
        await api.create(kinds.DAEMON_SETS, labelled("DaemonSet", "log"))
        await until(lambda: state(api).get("numberAvailable") == 3)
        containers = [{"name": "c", "image": "v2"}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await api.patch(kinds.DAEMON_SETS, "log", patch, "default")
        await until(lambda: state(api).get("observedGeneration") == 2)
        await until(lambda: state(api).get("updatedNumberScheduled") == 3)
    assert {p["spec"]["containers"][0]["image"] for p in api.of(kinds.PODS)} == {"v2"}
    assert sorted(r["revision"] for r in api.of(kinds.CONTROLLER_REVISIONS)) == [1, 2]


def state(api: MemoryApi) -> Object:
    found: Object = api.of(kinds.DAEMON_SETS)[0].get("status") or {}
    return found
