"""Claims and volumes: who gets what, and what becomes of it."""

from datetime import timedelta
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.marks import LOCAL_VOLUME, VOLUME_NODE, VOLUMES_DIR
from sampan.api.objects import Node, Object, Pod
from sampan.controllers import volume_binding, volume_reclaim
from sampan.controllers.plan import Create, Delete, Patch, RecordEvent
from sampan.controllers.views_storage import (
    BIND_COMPLETED,
    PROVISIONED_BY,
    SELECTED_NODE,
    Claim,
    StorageClass,
    Volume,
)
from tests.controllers.cluster import add_node, running, until, world
from tests.controllers.memory_api import EPOCH, MemoryApi

BINDERS = (volume_binding.CLAIMS, volume_binding.EPHEMERAL, volume_reclaim.CONTROLLER)
LOCAL: Object = {
    "metadata": {"name": "local-path"},
    "provisioner": "sampan.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
    "reclaimPolicy": "Delete",
}


def a_claim(name: str = "data", size: str = "1Gi", *, meta: Any = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", **(meta or {})},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "volumeMode": "Filesystem",
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def a_volume(name: str, size: str = "1Gi", *, meta: Any = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, **(meta or {})},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem",
            "hostPath": {"path": f"/srv/{name}"},
            **spec,
        },
    }


def a_pod(name: str = "web", claim: str = "data", node: str = "n1") -> Object:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": claim}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "c"}], "volumes": [volume]},
    }


def view(kind: Any, raw: Object, uid: str = "u1") -> Any:
    meta = {"uid": uid, "resourceVersion": "1", "creationTimestamp": EPOCH.isoformat()}
    return kind.of({**raw, "metadata": {**meta, **raw["metadata"]}})


def plan(claim: Object, *others: Any, age: float = 0) -> list[Any]:
    mine = view(Claim, claim)
    now = EPOCH + timedelta(seconds=age)
    return list(volume_binding.reconcile(mine, world(mine, *others, now=now)))


async def find(api: MemoryApi, kind: kinds.Kind, name: str) -> Object:
    return await api.get(kind, name, "default" if kind.namespaced else "")


def phase(api: MemoryApi, kind: kinds.Kind, name: str) -> str:
    space = "default" if kind.namespaced else ""
    found = api.objects[kind].get((space, name)) or {}
    return str((found.get("status") or {}).get("phase", ""))


async def test_a_claim_gets_the_smallest_volume_that_is_large_enough() -> None:
    api = MemoryApi()
    for name, size in (("small", "500Mi"), ("large", "9Gi"), ("right", "2Gi")):
        await api.create(kinds.PERSISTENT_VOLUMES, a_volume(name, size))
    claim = await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, a_claim())
    async with running(api, BINDERS):
        await until(lambda: phase(api, kinds.PERSISTENT_VOLUME_CLAIMS, "data") == "Bound")
        await until(lambda: phase(api, kinds.PERSISTENT_VOLUMES, "right") == "Bound")
        claimed = await find(api, kinds.PERSISTENT_VOLUME_CLAIMS, "data")
        assert claimed["spec"]["volumeName"] == "right"
        assert claimed["status"]["capacity"] == {"storage": "2Gi"}
        volume = await find(api, kinds.PERSISTENT_VOLUMES, "right")
        assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
        assert phase(api, kinds.PERSISTENT_VOLUMES, "large") == "Available"


async def test_two_claims_never_get_one_volume() -> None:
    api = MemoryApi(lag=0.02)
    await api.create(kinds.PERSISTENT_VOLUMES, a_volume("v1"))
    await api.create(kinds.PERSISTENT_VOLUMES, a_volume("v2"))
    async with running(api, BINDERS):
        for name in ("a", "b", "c"):
            await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, a_claim(name))
        claims = kinds.PERSISTENT_VOLUME_CLAIMS
        await until(lambda: [phase(api, claims, n) for n in "abc"].count("Bound") == 2)
        held = [c["spec"]["volumeName"] for c in api.of(claims) if c["status"]["phase"] == "Bound"]
        assert sorted(held) == ["v1", "v2"]


@pytest.mark.parametrize(
    ("claim", "volume"),
    [
        ({"storageClassName": "fast"}, {}),
        ({"accessModes": ["ReadWriteMany"]}, {}),
        ({"volumeMode": "Block"}, {}),
        ({"selector": {"matchLabels": {"disk": "ssd"}}}, {}),
        ({}, {"capacity": {"storage": "1023Mi"}}),
        ({}, {"claimRef": {"namespace": "default", "name": "other"}}),
    ],
)
def test_a_volume_that_does_not_fit_is_not_taken(claim: Object, volume: Object) -> None:
    other = view(Volume, a_volume("v1", **volume), uid="v")
    actions = plan(a_claim(**claim), other)
    assert not [a for a in actions if isinstance(a, Patch)]


def test_a_claim_that_names_a_volume_gets_that_one() -> None:
    other = view(Volume, a_volume("big", "10Gi"), uid="v")
    [patch] = plan(a_claim(volumeName="big"), other)
    assert patch.obj is other
    assert patch.patch["spec"]["claimRef"]["name"] == "data"


def test_a_claim_that_names_a_volume_that_is_too_small_is_told_so() -> None:
    [event] = plan(a_claim(volumeName="v1", size="2Gi"), view(Volume, a_volume("v1"), uid="v"))
    assert (event.reason, "too small" in event.message) == ("VolumeMismatch", True)


def test_a_volume_that_was_set_aside_goes_to_that_claim_only() -> None:
    ref = {"namespace": "default", "name": "data"}
    mine = view(Volume, a_volume("z", "5Gi", claimRef=ref), uid="v")
    free = view(Volume, a_volume("a", "1Gi"), uid="w")
    [patch] = plan(a_claim(), mine, free)
    assert patch.obj is mine


def test_a_claim_that_waits_for_its_consumer_says_so_while_it_is_new() -> None:
    local = view(StorageClass, LOCAL)
    claim = a_claim(storageClassName="local-path")
    [event] = plan(claim, local)
    assert isinstance(event, RecordEvent)
    assert event.reason == "WaitForFirstConsumer"
    assert plan(claim, local, age=60) == []


async def a_local_claim(api: MemoryApi, **more: Any) -> None:
    annotations = {VOLUMES_DIR: "/var/lib/x/claims"}
    labels = {"kubernetes.io/hostname": "n1"}
    await add_node(api, "n1", metadata={"name": "n1", "labels": labels, "annotations": annotations})
    await api.create(kinds.STORAGE_CLASSES, LOCAL)
    claim = a_claim(
        storageClassName="local-path", meta={"annotations": {SELECTED_NODE: "n1"}}, **more
    )
    await api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim)


async def test_a_volume_is_made_on_the_chosen_node_and_goes_with_its_claim() -> None:
    api = MemoryApi()
    await a_local_claim(api)
    async with running(api, BINDERS):
        await until(lambda: phase(api, kinds.PERSISTENT_VOLUME_CLAIMS, "data") == "Bound")
        [volume] = api.of(kinds.PERSISTENT_VOLUMES)
        name = volume["metadata"]["name"]
        assert volume["spec"]["local"]["path"] == f"/var/lib/x/claims/{name}"
        [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert term["matchExpressions"][0]["values"] == ["n1"]
        assert volume["metadata"]["labels"] == {VOLUME_NODE: "n1"}
        await api.delete(kinds.PERSISTENT_VOLUME_CLAIMS, "data", "default")

        def only_the_agent_holds_it() -> bool:
            [meta] = [v["metadata"] for v in api.of(kinds.PERSISTENT_VOLUMES)]
            return "deletionTimestamp" in meta and meta["finalizers"] == [LOCAL_VOLUME]

        await until(only_the_agent_holds_it)
        await api.delete(kinds.NODES, "n1")
        await until(lambda: not api.of(kinds.PERSISTENT_VOLUMES))


async def test_a_claim_that_grows_may_hold_more_at_once() -> None:
    api = MemoryApi()
    await a_local_claim(api)
    claims = kinds.PERSISTENT_VOLUME_CLAIMS
    async with running(api, BINDERS):
        await until(lambda: phase(api, claims, "data") == "Bound")
        spec = {"resources": {"requests": {"storage": "3Gi"}}}
        await api.patch(claims, "data", {"spec": spec}, "default")
        await until(lambda: api.of(claims)[0]["status"]["capacity"] == {"storage": "3Gi"})
        assert api.of(kinds.PERSISTENT_VOLUMES)[0]["spec"]["capacity"] == {"storage": "3Gi"}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"accessModes": ["ReadWriteMany"]}, "ReadWriteMany is not possible"),
        ({"volumeMode": "Block"}, "makes directories"),
        ({"dataSource": {"kind": "VolumeSnapshot"}}, "makes empty directories"),
    ],
)
def test_what_local_path_cannot_make_is_refused_by_name(spec: Object, why: str) -> None:
    claim = a_claim(
        storageClassName="local-path", meta={"annotations": {SELECTED_NODE: "n1"}}, **spec
    )
    node = Node.of({"metadata": {"name": "n1", "annotations": {VOLUMES_DIR: "/x"}}})
    event, patch = plan(claim, view(StorageClass, LOCAL), node)
    assert event.reason == "ProvisioningFailed"
    assert why in event.message
    assert patch.patch["metadata"]["annotations"] == {SELECTED_NODE: None}


def test_a_class_of_a_driver_leaves_the_making_to_it() -> None:
    other = view(StorageClass, {"metadata": {"name": "ebs"}, "provisioner": "ebs.csi.aws.com"})
    patch, event = plan(a_claim(storageClassName="ebs"), other)
    marks = patch.patch["metadata"]["annotations"]
    assert marks == {volume_binding.STORAGE_PROVISIONER: "ebs.csi.aws.com"}
    assert event.reason == "ExternalProvisioning"


def test_a_claim_in_use_stays_until_its_last_pod_has_gone() -> None:
    meta = {"finalizers": [volume_binding.CLAIM_PROTECTION], "deletionTimestamp": EPOCH.isoformat()}
    claim = a_claim(meta=meta)
    assert plan(claim, view(Pod, a_pod(), uid="p")) == []
    [patch] = plan(claim, view(Pod, a_pod(claim="another"), uid="p"))
    assert patch.patch["metadata"]["finalizers"] is None
    [patch] = plan(claim, view(Pod, a_pod(node=""), uid="p"))
    assert patch.patch["metadata"]["finalizers"] is None


def test_a_bound_claim_without_its_volume_is_lost() -> None:
    bound = a_claim(volumeName="v1", meta={"annotations": {BIND_COMPLETED: "yes"}})
    event, patch = plan(bound)
    assert event.reason == "ClaimLost"
    assert patch.patch["status"]["phase"] == "Lost"


def reclaimed(policy: str, **meta: Any) -> list[Any]:
    ref = {"namespace": "default", "name": "data", "uid": "gone"}
    raw = a_volume("v1", claimRef=ref, persistentVolumeReclaimPolicy=policy, meta=meta)
    volume = view(Volume, raw)
    return list(volume_reclaim.reconcile(volume, world(volume)))


def test_a_released_volume_is_kept_deleted_or_called_failed_as_its_policy_says() -> None:
    [kept] = reclaimed("Retain")
    assert kept.patch["status"]["phase"] == "Released"
    _, deleted = reclaimed("Delete", annotations={PROVISIONED_BY: "sampan.io/local-path"})
    assert isinstance(deleted, Delete)
    assert deleted.given is not None
    assert deleted.given.namespace == "default"
    event, failed = reclaimed("Delete")
    assert event.reason == "VolumeFailedDelete"
    assert failed.patch["status"]["phase"] == "Failed"
    assert not [a for a in reclaimed("Delete", annotations={PROVISIONED_BY: "ebs.csi.aws.com"})
                if isinstance(a, Delete)]  # fmt: skip


async def test_a_volume_whose_claim_the_cache_has_not_seen_yet_is_not_deleted() -> None:
    api = MemoryApi()
    await a_local_claim(api)
    async with running(api, BINDERS):
        await until(lambda: phase(api, kinds.PERSISTENT_VOLUME_CLAIMS, "data") == "Bound")
    [volume] = api.of(kinds.PERSISTENT_VOLUMES)
    held = Volume.of(volume)
    actions = list(volume_reclaim.reconcile(held, world(held)))  # a world without the claim
    async with running(api, ()) as cache:
        del cache
        [delete] = [a for a in actions if isinstance(a, Delete)]
        assert delete.given is not None
        [owner] = delete.given.owners
        found = await api.get(kinds.PERSISTENT_VOLUME_CLAIMS, owner.name, delete.given.namespace)
        assert found["metadata"]["uid"] == owner.uid


async def test_a_pods_ephemeral_volume_is_a_claim_of_its_own() -> None:
    api = MemoryApi()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    pod = a_pod()
    pod["spec"]["volumes"] = [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}]
    made = await api.create(kinds.PODS, pod)
    async with running(api, BINDERS, agents=False):
        await until(lambda: bool(api.of(kinds.PERSISTENT_VOLUME_CLAIMS)))
        [claim] = api.of(kinds.PERSISTENT_VOLUME_CLAIMS)
        assert claim["metadata"]["name"] == "web-tmp"
        assert claim["metadata"]["labels"] == {"a": "b"}
        [owner] = claim["metadata"]["ownerReferences"]
        assert owner["uid"] == made["metadata"]["uid"]


def test_claims_are_made_for_living_pods_only() -> None:
    pod = a_pod()
    pod["spec"]["volumes"] = [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]
    live = view(Pod, pod)
    assert isinstance(next(iter(volume_binding.make_claims(live, world(live)))), Create)
    ended = view(Pod, {**pod, "status": {"phase": "Succeeded"}})
    assert list(volume_binding.make_claims(ended, world(ended))) == []
