import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Forbidden
from sampan.api.objects import Node, Object, Pod
from sampan.controllers import garbage_collector, statefulset
from sampan.controllers.history import HASH
from sampan.controllers.plan import CheckAgain, Create, Delete, Failure, Patch, RecordEvent
from sampan.controllers.views_apps import ControllerRevision, StatefulSet
from sampan.controllers.views_storage import Claim
from tests.controllers.cluster import labelled, running, start, until, world
from tests.controllers.memory_api import EPOCH, MemoryApi
from tests.controllers.stateful import a_pod, a_revision, a_set

ONLY = (statefulset.CONTROLLER,)
DATA = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def plan(sts: StatefulSet, *objects: Any, **given: Any) -> list[Any]:
    return list(statefulset.reconcile(sts, world(sts, *objects, **given)))


def done(actions: Sequence[Any]) -> list[str]:
    """What a plan does to Pods and claims, in short."""
    told = []
    for action in actions:
        if isinstance(action, Create):
            told.append(f"+{action.body['metadata']['name']}")
        elif isinstance(action, Delete) and isinstance(action.obj, Pod):
            told.append(f"-{action.obj.metadata.name}")
    return told


def status(actions: Sequence[Any]) -> Object:
    (patch,) = [a for a in actions if isinstance(a, Patch) and a.subresource == "status"]
    told: Object = patch.patch["status"]
    return told


def row(sts: StatefulSet, ready: str, **more: Any) -> list[Any]:
    """A revision and a Pod a letter: `r` is ready, `w` waits to be, `d` is on its way out."""
    revision = a_revision(sts)
    pods = [
        a_pod(sts, n, revision, ready=letter != "w", deleting=letter == "d", **more)
        for n, letter in enumerate(ready)
        if letter != "."
    ]
    return [revision, *pods]


def test_a_new_set_first_writes_its_revision() -> None:
    (create,) = plan(a_set(2))
    assert create.kind is kinds.CONTROLLER_REVISIONS
    assert create.body["revision"] == 1
    assert create.body["metadata"]["labels"]["app"] == "web"
    assert create.body["data"]["spec"]["template"]["$patch"] == "replace"


@pytest.mark.parametrize(
    ("replicas", "pods", "does"),
    [
        (3, "", ["+web-0"]),
        (3, "w", []),
        (3, "r", ["+web-1"]),
        (3, "r.r", ["+web-1"]),
        (3, "rdr", []),
        (3, "rrr", []),
        (1, "rrr", ["-web-2"]),
        (1, "rrd", []),
        (1, "wrr", []),
        (1, "rwr", ["-web-2"]),
        (1, "rww", []),
        (1, "rrw", ["-web-2"]),
        (0, "r", ["-web-0"]),
    ],
)
def test_in_order_a_plan_takes_one_step(replicas: int, pods: str, does: list[str]) -> None:
    sts = a_set(replicas)
    assert done(plan(sts, *row(sts, pods))) == does


@pytest.mark.parametrize(
    ("replicas", "pods", "does"),
    [
        (3, "", ["+web-0", "+web-1", "+web-2"]),
        (3, "wd", ["+web-2"]),
        (1, "wrw", ["-web-2", "-web-1"]),
        (1, "rdr", ["-web-2"]),
    ],
)
def test_in_parallel_nobody_waits(replicas: int, pods: str, does: list[str]) -> None:
    sts = a_set(replicas, podManagementPolicy="Parallel")
    assert done(plan(sts, *row(sts, pods))) == does


def test_a_pod_has_a_name_a_number_and_a_host_name() -> None:
    sts = a_set(1, ordinals={"start": 5})
    (create,) = [a for a in plan(sts, a_revision(sts)) if isinstance(a, Create)]
    meta, spec = create.body["metadata"], create.body["spec"]
    assert (meta["name"], spec["hostname"], spec["subdomain"]) == ("web-5", "web-5", "web")
    assert meta["labels"] == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "web-5",
        "apps.kubernetes.io/pod-index": "5",
        HASH: a_revision(sts).metadata.name,
    }
    assert meta["ownerReferences"][0]["controller"]
    assert create.done
    assert create.done.message == "create Pod web-5 in StatefulSet web successful"


def test_claims_come_before_the_pod_that_mounts_them() -> None:
    sts = a_set(1, volumeClaimTemplates=[DATA])
    first = plan(sts, a_revision(sts))
    assert done(first) == ["+data-web-0"]
    (create,) = [a for a in first if isinstance(a, Create)]
    assert create.body["metadata"]["labels"] == {"app": "web"}
    assert create.done
    assert create.done.message == "create Claim data-web-0 Pod web-0 in StatefulSet web success"
    second = plan(sts, a_revision(sts), a_claim("data-web-0"))
    assert done(second) == ["+web-0"]
    (create,) = [a for a in second if isinstance(a, Create)]
    assert create.body["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
    ]


def a_claim(name: str, *owners: Object, **meta: Any) -> Claim:
    place = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", **meta}
    return Claim.of({"metadata": {**place, "ownerReferences": list(owners)}})


def test_a_claim_that_goes_with_the_last_pod_of_that_name_is_waited_out() -> None:
    sts = a_set(1, volumeClaimTemplates=[DATA])
    earlier = {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "earlier"}
    assert done(plan(sts, a_revision(sts), a_claim("data-web-0", earlier))) == []
    going = a_claim("data-web-0", deletionTimestamp=EPOCH.isoformat())
    assert done(plan(sts, a_revision(sts), going)) == []


def test_what_is_retained_of_claims_follows_the_policy() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    keep: Object = {"volumeClaimTemplates": [DATA], "persistentVolumeClaimRetentionPolicy": policy}
    sts = a_set(1, **keep)
    claims = [a_claim("data-web-0"), a_claim("data-web-1")]
    actions = plan(sts, *row(sts, "rr"), *claims)
    owners = {
        a.obj.metadata.name: [ref.get("uid") for ref in a.patch["metadata"]["ownerReferences"]]
        for a in actions
        if isinstance(a, Patch) and isinstance(a.obj, Claim)
    }
    assert owners == {"data-web-0": ["sts"], "data-web-1": ["pod1"]}
    assert done(actions) == [], "the claim is handed on before its Pod goes"
    owned = a_claim("data-web-1", {"kind": "Pod", "name": "web-1", "uid": "pod1"})
    kept = a_claim("data-web-0", {"kind": "StatefulSet", "name": "web", "uid": "sts"})
    assert done(plan(sts, *row(sts, "rr"), kept, owned)) == ["-web-1"]


def test_a_changed_template_replaces_pods_from_the_last_one_down() -> None:
    old = a_set(3)
    new = rolled(old)
    revisions = [a_revision(old), a_revision(new, 2, "v2")]
    pods = row(old, "rrr")[1:]
    assert done(plan(new, *revisions, *pods)) == ["-web-2"]
    pods[2] = a_pod(old, 2, revisions[1], ready=False)
    assert done(plan(new, *revisions, *pods)) == []
    pods[2] = a_pod(old, 2, revisions[1])
    assert done(plan(new, *revisions, *pods)) == ["-web-1"]


def rolled(old: StatefulSet, **strategy: Any) -> StatefulSet:
    """*old* with the image v2, while its status still tells of the revision of v1."""
    new = a_set(
        old.spec.replicas,
        status={"currentRevision": a_revision(old).metadata.name},
        podManagementPolicy=old.spec.pod_management_policy,
        **strategy,
    )
    new.spec.template["spec"]["containers"][0]["image"] = "v2"
    return new


@pytest.mark.parametrize(
    ("strategy", "does"),
    [
        ({"type": "OnDelete"}, []),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, ["-web-3"]),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 4}}, []),
        (
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "30%"}},
            ["-web-3", "-web-2"],
        ),
    ],
)
def test_the_strategy_bounds_what_is_replaced(strategy: Object, does: list[str]) -> None:
    old = a_set(4)
    new = rolled(old, updateStrategy=strategy)
    revisions = [a_revision(old), a_revision(new, 2, "v2")]
    assert done(plan(new, *revisions, *row(old, "rrrr")[1:])) == does


def test_below_the_partition_a_lost_pod_comes_back_as_it_was() -> None:
    old = a_set(3)
    new = rolled(old, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})
    revisions = [a_revision(old), a_revision(new, 2, "v2")]
    (create,) = [a for a in plan(new, *revisions, *row(old, ".rr")[1:]) if isinstance(a, Create)]
    assert create.body["metadata"]["labels"][HASH] == revisions[0].metadata.name
    assert create.body["spec"]["containers"][0]["image"] == "v1"


def test_a_pod_that_cannot_start_is_replaced_once_the_template_is_mended() -> None:
    old = a_set(2)
    new = rolled(old)
    revisions = [a_revision(old), a_revision(new, 2, "v2")]
    waiting = {"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    stuck = a_pod(old, 0, revisions[0], ready=False, phase="Pending", containerStatuses=[waiting])
    starting = a_pod(old, 0, revisions[0], ready=False)
    assert done(plan(old, revisions[0], stuck)) == []
    assert done(plan(new, *revisions, starting)) == []
    assert done(plan(new, *revisions, stuck)) == ["-web-0"]


def test_a_pod_that_ended_is_removed_first_and_made_again_when_it_is_gone() -> None:
    sts = a_set(2)
    assert done(plan(sts, *row(sts, "r", phase="Failed"))) == ["-web-0"]


def test_a_pod_is_available_only_after_min_ready_seconds() -> None:
    sts = a_set(2, minReadySeconds=30)
    actions = plan(sts, *row(sts, "r", age=10))
    assert done(actions) == []
    told = status(actions)
    assert (told["readyReplicas"], told["availableReplicas"]) == (1, 0)
    assert actions[-1] == CheckAgain(20)


def test_a_pod_on_a_silent_node_does_not_count_as_ready() -> None:
    sts = a_set(1)
    conditions = [{"type": "Ready", "status": "Unknown"}]
    silent = Node.of({"metadata": {"name": "n1"}, "status": {"conditions": conditions}})
    told = status(plan(sts, *row(sts, "r"), silent))
    assert told["replicas"] == 1
    assert "readyReplicas" not in told


def test_a_finished_update_makes_the_new_revision_the_current_one() -> None:
    old = a_set(2)
    new = rolled(old)
    revisions = [a_revision(old), a_revision(new, 2, "v2")]
    pods = [a_pod(old, n, revisions[1]) for n in range(2)]
    told = status(plan(new, *revisions, *pods))
    assert told["currentRevision"] == told["updateRevision"] == revisions[1].metadata.name
    assert told["currentReplicas"] == told["updatedReplicas"] == 2


def test_going_back_numbers_the_old_revision_anew() -> None:
    old = a_set(1)
    revisions = [a_revision(old, 1), a_revision(rolled(old), 2, "v2")]
    patch = plan(old, *revisions)[0]
    assert (patch.obj, patch.patch) == (revisions[0], {"revision": 3})


def test_history_is_kept_up_to_its_limit_and_what_pods_carry_longer() -> None:
    old = a_set(1)
    new = rolled(old, revisionHistoryLimit=1)
    revisions = [a_revision(old, n, f"v0.{n}") for n in range(1, 4)]
    present = a_revision(new, 9, "v2")
    carried = a_pod(old, 0, revisions[0])
    gone = [
        a.obj.metadata.uid
        for a in plan(new, *revisions, present, carried)
        if isinstance(a, Delete) and isinstance(a.obj, ControllerRevision)
    ]
    assert gone == ["rev2"]


def test_a_refused_pod_is_told_of() -> None:
    sts = a_set(1)
    body = {"metadata": {"name": "web-0"}}
    failure = Failure(Create(kinds.PODS, body), Forbidden("exceeded quota"))
    (event,) = [
        a for a in plan(sts, a_revision(sts), failure=failure) if isinstance(a, RecordEvent)
    ]
    assert (event.reason, event.type) == ("FailedCreate", "Warning")
    text = "create Pod web-0 in StatefulSet web failed error: exceeded quota"
    assert event.message == text


async def test_pods_start_one_after_the_other_and_stop_in_reverse() -> None:
    api = MemoryApi()
    async with running(api, ONLY):
        await api.create(kinds.STATEFUL_SETS, labelled("StatefulSet", "web", replicas=3))
        await until(lambda: state(api).get("readyReplicas") == 3)
        patch = {"spec": {"replicas": 0}}
        await api.patch(kinds.STATEFUL_SETS, "web", patch, "default")
        await until(lambda: not api.of(kinds.PODS))
    happened = [(event, name) for event, kind, name in api.log if kind is kinds.PODS]
    turns = [(event, name) for event, name in happened if event != "MODIFIED"]
    up = [("ADDED", f"web-{n}") for n in range(3)]
    down = [("DELETED", f"web-{n}") for n in (2, 1, 0)]
    assert turns == [*up, *down]


async def test_the_next_pod_waits_until_the_last_is_ready() -> None:
    api = MemoryApi()
    async with running(api, ONLY, agents=False):
        await api.create(kinds.STATEFUL_SETS, labelled("StatefulSet", "web", replicas=2))
        await until(lambda: len(api.of(kinds.PODS)) == 1)
        await start(api, api.of(kinds.PODS)[0], ready=False)
        await asyncio.sleep(30)
        assert len(api.of(kinds.PODS)) == 1
        await start(api, api.of(kinds.PODS)[0])
        await until(lambda: len(api.of(kinds.PODS)) == 2)


async def test_a_set_made_again_under_the_same_name_starts_over() -> None:
    api = MemoryApi()
    async with running(api, (*ONLY, garbage_collector.CONTROLLER)):
        await api.create(kinds.STATEFUL_SETS, labelled("StatefulSet", "web", replicas=1))
        await until(lambda: state(api).get("readyReplicas") == 1)
        first = api.of(kinds.PODS)[0]["metadata"]["uid"]
        await api.delete(kinds.STATEFUL_SETS, "web", "default")
        await api.create(kinds.STATEFUL_SETS, labelled("StatefulSet", "web", replicas=1))
        await until(lambda: state(api).get("readyReplicas") == 1)
        assert api.of(kinds.PODS)[0]["metadata"]["uid"] != first
        assert not state(api).get("collisionCount")


def state(api: MemoryApi) -> Object:
    found: Object = api.of(kinds.STATEFUL_SETS)[0].get("status") or {}
    return found
