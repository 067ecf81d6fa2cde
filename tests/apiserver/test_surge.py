"""Evictions of replicas that serve: marked first, gone when there is something in their place."""

from datetime import timedelta

import pytest

from sampan.api import kinds
from sampan.api.errors import Conflict, TooManyRequests
from sampan.api.kinds import BY_GVK
from sampan.api.marks import EVICT, EVICTING, EVICTING_GRACE
from sampan.api.objects import Object
from sampan.api.time import parse_time, timestamp
from sampan.apiserver.surge import overdue
from tests.apiserver.support import Api, pod

BUDGETS = BY_GVK["policy/v1", "PodDisruptionBudget"]
LABELS = {"app": "web"}


def template() -> Object:
    spec = {"containers": [{"name": "main", "image": "busybox:1"}]}
    return {"metadata": {"labels": LABELS}, "spec": spec}


async def replica(
    api: Api, name: str = "web", *, strategy: str = "RollingUpdate", claim: bool = False,
    notes: dict[str, str] | None = None, ready: bool = True,
) -> None:  # fmt: skip
    """A running Pod under a ReplicaSet under a Deployment."""
    selector = {"matchLabels": LABELS}
    spec = {"replicas": 1, "selector": selector, "template": template()}
    deployment = await api.create(
        kinds.DEPLOYMENTS,
        {"metadata": {"name": name}, "spec": {**spec, "strategy": {"type": strategy}}},
    )
    replicas = await api.create(
        kinds.REPLICA_SETS,
        {
            "metadata": {
                "name": f"{name}-1",
                "annotations": notes or {},
                "ownerReferences": [owner("Deployment", deployment)],
            },
            "spec": spec,
        },
    )
    made = pod(name=name)
    made["metadata"] |= {"labels": LABELS, "ownerReferences": [owner("ReplicaSet", replicas)]}
    if claim:
        made["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    await api.create(kinds.PODS, made)
    await api.post(kinds.PODS, name, "binding", {"target": {"kind": "Node", "name": "n1"}})
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"status": {"phase": "Running", "conditions": conditions}}
    await api.patch(kinds.PODS, name, status, "status")


def owner(kind: str, obj: Object) -> Object:
    meta = obj["metadata"]
    return {"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": meta["uid"],
            "controller": True}  # fmt: skip


async def notes_of(api: Api, name: str = "web") -> dict[str, str]:
    found = await api.get(kinds.PODS, name)
    assert not found["metadata"].get("deletionTimestamp")
    return found["metadata"].get("annotations") or {}


async def gone(api: Api, name: str = "web") -> bool:
    return bool((await api.get(kinds.PODS, name))["metadata"].get("deletionTimestamp"))


async def test_a_replica_that_serves_is_marked_and_the_caller_told_to_ask_again(api: Api) -> None:
    await replica(api)
    with pytest.raises(TooManyRequests, match="Cannot evict pod web yet: its replacement") as no:
        await api.post(kinds.PODS, "web", "eviction", {"deleteOptions": {"gracePeriodSeconds": 3}})
    assert no.value.retry_after == 1
    assert no.value.causes[0].reason == "ReplacementStarting"
    notes = await notes_of(api)
    assert notes[EVICTING_GRACE] == "3"
    with pytest.raises(TooManyRequests):
        await api.post(kinds.PODS, "web", "eviction", {})
    assert await notes_of(api) == notes


@pytest.mark.parametrize(
    "case",
    [{"strategy": "Recreate"}, {"claim": True}, {"notes": {EVICT: "at-once"}}, {"ready": False}],
)
async def test_what_cannot_run_twice_or_does_not_serve_goes_at_once(api: Api, case: Object) -> None:
    await replica(api, **case)
    await api.post(kinds.PODS, "web", "eviction", {})
    assert await gone(api)


async def test_a_mark_is_for_the_very_pod_that_was_meant(api: Api) -> None:
    await replica(api)
    options = {"preconditions": {"uid": "another"}}
    with pytest.raises(Conflict):
        await api.post(kinds.PODS, "web", "eviction", {"deleteOptions": options})
    assert EVICTING not in await notes_of(api)


async def long_ago(api: Api) -> None:
    """Move the mark an hour into the past."""
    at = timestamp(parse_time((await notes_of(api))[EVICTING]) - timedelta(hours=1))
    await api.patch(kinds.PODS, "web", {"metadata": {"annotations": {EVICTING: at}}})


async def test_waiting_for_a_replacement_ends(api: Api) -> None:
    await replica(api)
    with pytest.raises(TooManyRequests):
        await api.post(kinds.PODS, "web", "eviction", {})
    await long_ago(api)
    await api.post(kinds.PODS, "web", "eviction", {})
    assert await gone(api)


async def test_a_budget_still_holds_when_waiting_has_ended_and_says_what_is_wrong(api: Api) -> None:
    await replica(api)
    spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    await api.create(BUDGETS, {"metadata": {"name": "b"}, "spec": spec})
    status = {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1,
              "desiredHealthy": 1, "expectedPods": 1}  # fmt: skip
    await api.patch(BUDGETS, "b", {"status": status}, "status")
    with pytest.raises(TooManyRequests, match="its replacement starts first"):
        await api.post(kinds.PODS, "web", "eviction", {})
    await long_ago(api)
    other = pod(name="web-2")
    mine = (await api.get(kinds.PODS, "web"))["metadata"]
    other["metadata"] |= {"labels": LABELS, "ownerReferences": mine["ownerReferences"]}
    await api.create(kinds.PODS, other)
    why = "cannot be replaced either: its replacement web-2 has no node: not looked at yet"
    with pytest.raises(TooManyRequests, match=why) as refused:
        await api.post(kinds.PODS, "web", "eviction", {})
    assert [c.reason for c in refused.value.causes] == ["DisruptionBudget", "ReplacementStarting"]
    assert not await gone(api)


async def test_a_replacement_without_a_node_is_waited_for_less_long(api: Api) -> None:
    await replica(api)
    with pytest.raises(TooManyRequests):
        await api.post(kinds.PODS, "web", "eviction", {})
    mine = await api.get(kinds.PODS, "web")
    at = parse_time(mine["metadata"]["annotations"][EVICTING])
    meta = {"name": "other", "ownerReferences": mine["metadata"]["ownerReferences"]}
    homeless: Object = {"metadata": meta, "spec": {}}
    placed = {**homeless, "spec": {"nodeName": "n2"}}
    for sibling, patience in ((homeless, 60), (placed, 300)):
        assert not overdue(mine, [mine, sibling], at + timedelta(seconds=patience - 1))
        assert overdue(mine, [mine, sibling], at + timedelta(seconds=patience))
