"""Scale, binding, eviction, approval, resize: more than a part of an object."""

import asyncio
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import BadRequest, Conflict, Invalid, NotFound, TooManyRequests
from sampan.api.kinds import BY_GVK
from sampan.api.objects import Object
from sampan.apiserver.identity import User
from sampan.apiserver.interface import Place
from sampan.client.interface import PatchType
from tests.apiserver.support import Api, bound, call, changed, deployment, pod

BUDGETS = BY_GVK["policy/v1", "PodDisruptionBudget"]
REQUESTS = BY_GVK["certificates.k8s.io/v1", "CertificateSigningRequest"]
TARGET = {"target": {"kind": "Node", "name": "n1"}}


async def test_binding_sets_the_node_and_says_so(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    answer = await api.post(kinds.PODS, "web", "binding", TARGET)
    assert answer["status"] == "Success"
    found = await api.get(kinds.PODS, "web")
    assert found["spec"]["nodeName"] == "n1"
    assert found["metadata"]["generation"] == 1
    [condition] = found["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("PodScheduled", "True")
    assert answer["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


async def test_a_pod_is_bound_once(api: Api) -> None:
    await bound(api)
    with pytest.raises(Conflict, match='pod web is already assigned to node "n1"'):
        await api.post(kinds.PODS, "web", "binding", {"target": {"name": "n2"}})


async def test_of_two_binders_one_wins(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    both = (api.post(kinds.PODS, "web", "binding", {"target": {"name": n}}) for n in ("a", "b"))
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 1


@pytest.mark.parametrize(
    ("spec", "binding", "error", "text"),
    [
        ({"schedulingGates": [{"name": "wait"}]}, TARGET, Conflict, "non-empty .spec.scheduling"),
        ({}, {}, Invalid, "target.name: Required value"),
        ({}, {"target": {"kind": "Ship", "name": "n1"}}, Invalid, 'must be empty, or "Node"'),
        ({}, {**TARGET, "metadata": {"uid": "x"}}, Conflict, "UID in precondition: x"),
    ],
)
async def test_what_cannot_be_bound_is_refused(
    api: Api, spec: Object, binding: Object, error: type[Exception], text: str
) -> None:
    await api.create(kinds.PODS, pod(**spec))
    with pytest.raises(error, match=text):
        await api.post(kinds.PODS, "web", "binding", binding)


async def test_what_is_going_is_not_bound(api: Api) -> None:
    made = pod()
    made["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(kinds.PODS, made)
    await api.delete(kinds.PODS, "web")
    with pytest.raises(Conflict, match="is being deleted"):
        await api.post(kinds.PODS, "web", "binding", TARGET)


async def test_a_binding_may_be_posted_as_such(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    place = Place(BY_GVK["v1", "Binding"], "default", "")
    await api.registry.create(place, {"metadata": {"name": "web"}, **TARGET}, call())
    assert (await api.get(kinds.PODS, "web"))["spec"]["nodeName"] == "n1"


async def test_a_deployment_is_scaled_through_its_scale(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment(replicas=2))
    scale = await api.get(kinds.DEPLOYMENTS, "web", "scale")
    assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 2})
    assert scale["status"] == {"replicas": 0, "selector": "app=web"}
    updated = await api.update(kinds.DEPLOYMENTS, changed(scale, "spec", "replicas", to=5), "scale")
    assert updated["spec"] == {"replicas": 5}
    found = await api.get(kinds.DEPLOYMENTS, "web")
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)


@pytest.mark.parametrize("how", [PatchType.MERGE, PatchType.STRATEGIC])
async def test_a_scale_may_be_patched_even_to_nothing(api: Api, how: PatchType) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment(replicas=2))
    patch = {"spec": {"replicas": 0}}
    assert (await api.patch(kinds.DEPLOYMENTS, "web", patch, "scale", how))["spec"] == patch["spec"]
    assert (await api.get(kinds.DEPLOYMENTS, "web"))["spec"]["replicas"] == 0


async def test_a_stale_or_senseless_scale_is_refused(api: Api) -> None:
    await api.create(kinds.DEPLOYMENTS, deployment())
    scale = await api.get(kinds.DEPLOYMENTS, "web", "scale")
    await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": 3}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await api.update(kinds.DEPLOYMENTS, changed(scale, "spec", "replicas", to=9), "scale")
    with pytest.raises(Invalid, match=r"spec\.replicas: Invalid value: -1"):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": -1}}, "scale")
    with pytest.raises(BadRequest):
        await api.patch(kinds.DEPLOYMENTS, "web", {"spec": {"replicas": "two"}}, "scale")
    with pytest.raises(NotFound):
        await api.get(kinds.DEPLOYMENTS, "absent", "scale")


async def running(api: Api, *, ready: bool = True, allowed: int | None = None) -> None:
    made = pod()
    made["metadata"]["labels"] = {"app": "web"}
    await api.create(kinds.PODS, made)
    await api.post(kinds.PODS, "web", "binding", TARGET)
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running", "conditions": conditions}
    await api.patch(kinds.PODS, "web", {"status": status}, "status")
    if allowed is None:
        return
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    await api.create(BUDGETS, {"metadata": {"name": "b"}, "spec": spec})
    budget: dict[str, Any] = {
        "observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1 + allowed,
        "desiredHealthy": 1, "expectedPods": 1 + allowed,
    }  # fmt: skip
    await api.patch(BUDGETS, "b", {"status": budget}, "status")


async def test_an_eviction_deletes_gracefully(api: Api) -> None:
    await running(api)
    answer = await api.post(
        kinds.PODS, "web", "eviction", {"deleteOptions": {"gracePeriodSeconds": 3}}
    )
    assert answer["status"] == "Success"
    found = await api.get(kinds.PODS, "web")
    assert found["metadata"]["deletionGracePeriodSeconds"] == 3


async def test_a_budget_without_disruptions_left_refuses(api: Api) -> None:
    await running(api, allowed=0)
    with pytest.raises(TooManyRequests, match="would violate the pod's disruption budget") as no:
        await api.post(kinds.PODS, "web", "eviction", {})
    assert no.value.causes[0].reason == "DisruptionBudget"
    assert "deletionTimestamp" not in (await api.get(kinds.PODS, "web"))["metadata"]


async def test_an_eviction_uses_up_the_budget(api: Api) -> None:
    await running(api, allowed=1)
    await api.post(kinds.PODS, "web", "eviction", {})
    budget = await api.get(BUDGETS, "b")
    assert budget["status"]["disruptionsAllowed"] == 0
    assert list(budget["status"]["disruptedPods"]) == ["web"]


async def test_an_unready_pod_goes_while_enough_are_healthy(api: Api) -> None:
    await running(api, ready=False, allowed=0)
    await api.post(kinds.PODS, "web", "eviction", {})
    assert (await api.get(kinds.PODS, "web"))["metadata"]["deletionTimestamp"]


async def test_a_budget_that_was_just_changed_asks_to_wait(api: Api) -> None:
    await running(api, allowed=1)
    await api.patch(BUDGETS, "b", {"spec": {"minAvailable": 2}})
    with pytest.raises(TooManyRequests) as refused:
        await api.post(kinds.PODS, "web", "eviction", {})
    assert refused.value.retry_after == 10


async def test_ephemeral_containers_are_added_by_their_subresource_only(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    debug = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox:1"}]}}
    with pytest.raises(Invalid, match="pod updates may not change fields"):
        await api.patch(kinds.PODS, "web", debug)
    done = await api.patch(kinds.PODS, "web", debug, "ephemeralcontainers", PatchType.STRATEGIC)
    assert done["spec"]["ephemeralContainers"][0]["name"] == "debug"


async def test_resources_of_a_running_pod_change_by_resize_only(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    more = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "2"}}}]}}
    with pytest.raises(Invalid):
        await api.patch(kinds.PODS, "web", more, how=PatchType.STRATEGIC)
    done = await api.patch(kinds.PODS, "web", more, "resize", PatchType.STRATEGIC)
    assert done["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    assert done["metadata"]["generation"] == 2


async def test_a_certificate_request_tells_who_asks_and_is_approved_apart(api: Api) -> None:
    spec = {"request": "eA==", "signerName": "example.com/x", "usages": ["client auth"]}
    asker = User("jane", ("dev",))
    made = await api.create(REQUESTS, {"metadata": {"name": "r"}, "spec": spec}, user=asker)
    assert (made["spec"]["username"], made["spec"]["groups"]) == ("jane", ["dev"])
    condition = {"type": "Approved", "status": "True", "reason": "x", "message": "y"}
    approved = changed(made, "status", to={"conditions": [condition], "certificate": "eA=="})
    done = await api.update(REQUESTS, approved, "approval")
    assert done["status"] == {"conditions": [condition]}


async def test_an_unknown_subresource_is_not_found(api: Api) -> None:
    await api.create(kinds.PODS, pod())
    with pytest.raises(NotFound):
        await api.get(kinds.PODS, "web", "colour")
    with pytest.raises(NotFound):
        await api.post(kinds.PODS, "web", "colour", {})
    with pytest.raises(NotFound):
        await api.patch(kinds.PODS, "web", {}, "colour")
