"""Where claims let a Pod run, and how they come to volumes."""

import asyncio
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import Object
from sampan.scheduler.demand import ZONE, attachment
from sampan.scheduler.storage import SELECTED_NODE, Claim, Storage, StorageClass, Volume
from sampan.scheduler.views import Pod
from tests.controllers.memory_api import no_fault
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import Cluster, expression, node, pod, raw_node, raw_pod

CLAIMS = kinds.PERSISTENT_VOLUME_CLAIMS
VOLUMES = kinds.PERSISTENT_VOLUMES
CLASSES = kinds.BY_GVK["storage.k8s.io/v1", "StorageClass"]
CSI_NODES = kinds.BY_GVK["storage.k8s.io/v1", "CSINode"]


def claim(name: str = "data", *, volume: str = "", size: str = "1Gi", **more: Any) -> Object:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        "storageClassName": "late",
        **more,
    }
    made: Object = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    if volume:
        spec["volumeName"] = volume
        made["status"] = {"phase": "Bound"}
    return made


def volume(
    name: str, *on: str, size: str = "1Gi", labels: dict[str, str] | None = None, **more: Any
) -> Object:
    """*on* are the nodes from which it can be used; none means all."""
    spec: Object = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "late",
        **more,
    }
    if on:
        term = {"matchExpressions": [expression("kubernetes.io/hostname", "In", *on)]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def storage_class(provisioner: str = "disk.example.com", **more: Any) -> Object:
    return {
        "metadata": {"name": "late"},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
        **more,
    }


def using(*names: str) -> list[Object]:
    return [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in names]


class Stored(Cluster):
    def __init__(self, *objects: Object) -> None:
        super().__init__(
            node("n1", zone="a"), node("n2", zone="b"), node("n3", {"kind": "big"}, zone="c")
        )
        self.storage = Storage()
        for each in objects:
            if "provisioner" in each:
                self.storage.classes["late"] = StorageClass.of(each)
            elif "capacity" in each["spec"]:
                self.storage.set_volume(each["metadata"]["name"], Volume.of(each))
            else:
                self.storage.set_claim(f"default/{each['metadata']['name']}", Claim.of(each))

    def demand(self, pod: Pod) -> Any:
        self.storage.know(pod)
        return self.demands.of(pod, volumes=self.storage.needs(pod))


def test_a_pod_goes_where_its_bound_volume_can_be_used() -> None:
    stored = Stored(claim(volume="v"), volume("v", "n2", "n3"))
    assert stored.allowed(pod(volumes=using("data"))) == {"n2", "n3"}
    missing = pod(volumes=using("data"), nodeSelector={"kubernetes.io/hostname": "n1"})
    assert "1 node(s) didn't match PersistentVolume's node affinity" in str(stored.why(missing))


def test_every_one_of_several_volumes_must_be_in_reach() -> None:
    stored = Stored(
        claim("a", volume="va"),
        claim("b", volume="vb"),
        volume("va", "n1", "n2"),
        volume("vb", "n2", "n3"),
    )
    assert stored.allowed(pod(volumes=using("a", "b"))) == {"n2"}


def test_a_volume_with_a_zone_label_stays_in_its_zones() -> None:
    stored = Stored(claim(volume="v"), volume("v", labels={ZONE: "a__c"}))
    assert stored.allowed(pod(volumes=using("data"))) == {"n1", "n3"}
    why = stored.why(pod(volumes=using("data"), nodeSelector={ZONE: "b"}))
    assert "1 node(s) had no available volume zone" in why.summary


def test_volumes_that_ask_the_same_of_a_node_place_as_one() -> None:
    stored = Stored(
        claim("a", volume="va"), claim("b", volume="vb"), volume("va", "n1"), volume("vb", "n1")
    )
    one, other = pod(volumes=using("a")), pod(volumes=using("b"))
    assert stored.demand(one) is stored.demand(other)


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ([], 'persistentvolumeclaim "data" not found'),
        ([claim()], "pod has unbound immediate PersistentVolumeClaims"),
        (
            [claim(), storage_class() | {"volumeBindingMode": "Immediate"}],
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            [claim(volume="gone")],
            "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ),
        (
            [
                {
                    **claim(),
                    "metadata": {
                        **claim()["metadata"],
                        "deletionTimestamp": "2026-01-01T00:00:00Z",
                    },
                },
                storage_class(),
            ],
            'persistentvolumeclaim "data" is being deleted',
        ),
    ],
)
def test_a_claim_that_no_node_can_satisfy_says_so_in_kube_schedulers_words(
    objects: list[Object], says: str
) -> None:
    stored = Stored(*objects)
    assert str(stored.why(pod(volumes=using("data")))) == f"0/3 nodes are available: {says}."
    assert stored.allowed(pod(volumes=using("data"))) == set()


def test_an_ephemeral_volume_waits_for_its_own_claim() -> None:
    stored = Stored(storage_class())
    wanted = pod("web", volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}])
    assert "waiting for ephemeral volume controller" in str(stored.why(wanted))
    stored.storage.set_claim("default/web-scratch", Claim.of(claim("web-scratch")))
    assert stored.allowed(wanted) == {"n1", "n2", "n3"}


@pytest.mark.parametrize(
    ("made", "allowed"),
    [
        (claim(), {"n1", "n2"}),
        (claim(size="5Gi"), {"n2"}),
        (claim(size="50Gi"), set()),
        (claim(selector={"matchLabels": {"tier": "fast"}}), {"n1"}),
        (claim(accessModes=["ReadWriteMany"]), set()),
        (claim(volumeMode="Block"), set()),
        (claim(storageClassName="other"), None),
    ],
)
def test_a_static_volume_is_found_by_size_mode_and_selector(
    made: Object, allowed: set[str] | None
) -> None:
    stored = Stored(
        made,
        storage_class("kubernetes.io/no-provisioner"),
        volume("small", "n1", labels={"tier": "fast"}),
        volume("large", "n2", size="10Gi"),
    )
    wanted = pod(volumes=using("data"))
    if allowed is None:
        assert "unbound immediate" in str(stored.why(wanted))
    else:
        assert stored.allowed(wanted) == allowed
    if allowed == set():
        text = "3 node(s) didn't find available persistent volumes to bind"
        assert text in str(stored.why(wanted))


def test_a_volume_is_made_only_where_its_class_allows() -> None:
    topology = {"matchLabelExpressions": [{"key": ZONE, "values": ["a", "b"]}]}
    stored = Stored(claim(), storage_class(allowedTopologies=[topology]))
    assert stored.allowed(pod(volumes=using("data"))) == {"n1", "n2"}


def test_the_smallest_volume_that_is_large_enough_is_taken_once() -> None:
    stored = Stored(
        claim("a"),
        claim("b"),
        claim("c"),
        storage_class("kubernetes.io/no-provisioner"),
        volume("large", size="10Gi"),
        volume("small"),
    )
    pods = {name: pod(volumes=using(name)) for name in "abc"}
    taken = [
        [choice.volume for choice in stored.storage.choose(p, "n1", {}) or ()]
        for p in pods.values()
    ]
    assert taken == [["small"], ["large"], []]
    assert stored.allowed(pods["c"]) == set()


def test_a_claim_for_one_pod_only_is_refused_to_a_second() -> None:
    stored = Stored(claim(volume="v", accessModes=["ReadWriteOncePod"]), volume("v"))
    first, second = pod(volumes=using("data")), pod(volumes=using("data"))
    assert stored.place(first)
    stored.storage.placed.add(first.metadata.uid)
    assert "ReadWriteOncePod access mode" in str(stored.why(second))
    stored.storage.forget(first)
    assert stored.place(second)


def test_a_node_takes_only_so_many_volumes() -> None:
    stored = Stored(
        *(claim(f"c{i}", volume=f"v{i}") for i in range(4)),
        *(volume(f"v{i}", csi={"driver": "disk"}) for i in range(4)),
    )
    for name, most in (("n1", 1), ("n2", 1), ("n3", 1)):
        assert stored.table.set_limits(name, {attachment("disk"): most})
    placed = [stored.place(pod(volumes=using(f"c{i}"))) for i in range(4)]
    assert {*placed[:3]} == {"n1", "n2", "n3"}
    assert placed[3] is None
    why = str(stored.why(pod(volumes=using("c3"))))
    assert "3 node(s) exceed max volume count" in why
    assert "has 1 of at most 1 volumes of disk attached" in why
    assert stored.table.set_limits("n2", {})
    assert stored.allowed(pod(volumes=using("c3"))) == {"n2"}


# ---- over an API


async def cluster(*objects: Object) -> BindingApi:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1"), raw_node("n2"))
    for each in objects:
        await api.add(_kind(each), each)
    return api


def _kind(obj: Object) -> Any:
    if "provisioner" in obj:
        return CLASSES
    return VOLUMES if "capacity" in obj["spec"] else CLAIMS


async def bind_claim(api: BindingApi, name: str, volume_name: str) -> None:
    """Do what the volume controller does."""
    patch = {"spec": {"volumeName": volume_name}, "status": {"phase": "Bound"}}
    await api.patch(CLAIMS, name, patch, "default")


async def test_a_claim_gets_its_node_and_the_pod_waits_until_it_is_bound() -> None:
    api = await cluster(claim(), storage_class())
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", volumes=using("data")))
        await until(
            lambda: (
                (api.of(CLAIMS)[0]["metadata"].get("annotations") or {}).get(SELECTED_NODE)
                in {"n1", "n2"}
            )
        )
        chosen = api.of(CLAIMS)[0]["metadata"]["annotations"][SELECTED_NODE]
        await asyncio.sleep(100)
        assert not api.node_of("db")
        await api.add(VOLUMES, volume("made", chosen, claimRef={"namespace": "default"}))
        await bind_claim(api, "data", "made")
        await until(lambda: api.node_of("db") == chosen, within=1)


async def test_a_static_volume_is_claimed_for_the_pod_that_is_placed_where_it_is() -> None:
    api = await cluster(
        claim(), storage_class("kubernetes.io/no-provisioner"), volume("local", "n2")
    )
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", volumes=using("data")))
        await until(lambda: api.of(VOLUMES)[0]["spec"].get("claimRef"))
        ref = api.of(VOLUMES)[0]["spec"]["claimRef"]
        assert (ref["namespace"], ref["name"]) == ("default", "data")
        assert ref["uid"] == api.of(CLAIMS)[0]["metadata"]["uid"]
        await bind_claim(api, "data", "local")
        await until(lambda: api.node_of("db") == "n2", within=1)


async def test_two_pods_never_get_the_same_volume() -> None:
    api = await cluster(
        claim("a"),
        claim("b"),
        storage_class("kubernetes.io/no-provisioner"),
        volume("local", "n2"),
    )
    async with scheduling(api):
        await api.add(
            kinds.PODS, raw_pod("a", volumes=using("a")), raw_pod("b", volumes=using("b"))
        )
        await until(lambda: api.of(VOLUMES)[0]["spec"].get("claimRef"))
        winner = api.of(VOLUMES)[0]["spec"]["claimRef"]["name"]
        await bind_claim(api, winner, "local")
        await until(lambda: api.node_of(winner) == "n2")
        loser = "b" if winner == "a" else "a"
        await until(lambda: "persistent volumes to bind" in api.why(loser))
        await api.add(VOLUMES, volume("another", "n1"))
        await until(lambda: api.of(VOLUMES)[1]["spec"].get("claimRef"))
        await bind_claim(api, loser, "another")
        await until(lambda: api.node_of(loser) == "n1")


async def test_a_pod_with_one_volume_for_two_claims_is_no_busy_loop() -> None:
    api = await cluster(
        claim("a"), claim("b"), storage_class("kubernetes.io/no-provisioner"), volume("local")
    )
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("both", volumes=using("a", "b")))
        await until(lambda: api.events("FailedScheduling"))
        await asyncio.sleep(60)
        assert api.events("FailedScheduling")[0]["count"] < 30
        assert not api.of(VOLUMES)[0]["spec"].get("claimRef")
        await api.add(VOLUMES, volume("second"))
        await until(lambda: all(v["spec"].get("claimRef") for v in api.of(VOLUMES)), within=12)


async def test_a_pod_is_placed_as_soon_as_its_claim_exists_and_is_bound() -> None:
    api = await cluster()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", volumes=using("data")))
        await until(lambda: 'persistentvolumeclaim "data" not found' in api.why("db"))
        await api.add(CLAIMS, claim())
        await until(lambda: "unbound immediate" in api.why("db"))
        await api.add(VOLUMES, volume("v", "n2"))
        await bind_claim(api, "data", "v")
        await until(lambda: api.node_of("db") == "n2", within=1)


async def test_where_no_volume_can_be_made_the_pod_is_placed_anew() -> None:
    api = await cluster(claim(), storage_class())
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", volumes=using("data")))
        await until(lambda: api.of(CLAIMS)[0]["metadata"].get("annotations"))
        withdrawn = {"metadata": {"annotations": {SELECTED_NODE: None}}}
        await api.patch(CLAIMS, "data", withdrawn, "default")
        await until(lambda: api.events("FailedScheduling"))
        assert "no volume could be made" in api.events("FailedScheduling")[0]["message"]
        await until(lambda: api.of(CLAIMS)[0]["metadata"]["annotations"].get(SELECTED_NODE))


async def test_a_volume_that_never_comes_gives_the_node_back_after_ten_minutes() -> None:
    api = await cluster(claim(), storage_class())
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", cpu="4", volumes=using("data")))
        await until(lambda: api.of(CLAIMS)[0]["metadata"].get("annotations"))
        await api.delete(kinds.NODES, "n2")
        await asyncio.sleep(590)
        assert not api.events("FailedScheduling")
        await until(lambda: api.events("FailedScheduling"), within=20)


async def test_a_pod_that_is_deleted_while_its_volume_is_made_is_forgotten() -> None:
    api = await cluster(claim(), storage_class())
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", cpu="4", volumes=using("data")))
        await until(lambda: api.of(CLAIMS)[0]["metadata"].get("annotations"))
        await api.delete(kinds.PODS, "db", "default")
        await api.add(kinds.PODS, raw_pod("x", cpu="4"), raw_pod("y", cpu="4"))
        await until(lambda: api.node_of("x") and api.node_of("y"))
        await asyncio.sleep(1000)
    assert not api.events("FailedScheduling")


async def test_a_restarted_scheduler_counts_the_volumes_that_are_attached() -> None:
    api = await cluster(
        claim("a", volume="va"),
        claim("b", volume="vb"),
        volume("va", "n1", csi={"driver": "disk"}),
        volume("vb", "n1", csi={"driver": "disk"}),
    )
    drivers = [{"name": "disk", "allocatable": {"count": 1}}]
    await api.add(CSI_NODES, {"metadata": {"name": "n1"}, "spec": {"drivers": drivers}})
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("a", volumes=using("a")))
        await until(lambda: api.node_of("a") == "n1")
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("b", volumes=using("b")))
        await until(lambda: "exceed max volume count" in api.why("b"))
        await api.delete(kinds.PODS, "a", "default", grace_seconds=0)
        await until(lambda: api.node_of("b") == "n1")


async def test_a_volume_that_was_taken_for_a_deleted_pod_is_free_again() -> None:
    api = await cluster(
        claim("a"), claim("b"), storage_class("kubernetes.io/no-provisioner"), volume("local")
    )
    api.fault = lambda verb, kind: (
        ServiceUnavailable("busy") if (verb, kind) == ("patch", VOLUMES) else None
    )
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("a", volumes=using("a")))
        await asyncio.sleep(1)
        await api.add(kinds.PODS, raw_pod("b", volumes=using("b")))
        await until(lambda: "persistent volumes to bind" in api.why("b"))
        await api.delete(kinds.PODS, "a", "default", grace_seconds=0)
        api.fault = no_fault
        await asyncio.sleep(1)
        await api.add(VOLUMES, volume("small", size="1Mi"))
        await until(lambda: api.of(VOLUMES)[0]["spec"].get("claimRef"), within=20)
    assert api.of(VOLUMES)[0]["spec"]["claimRef"]["name"] == "b"
