"""Whatever a client sends is taken, or refused with an error of the API; never anything else."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import ApiError
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object
from sampan.apiserver.interface import ListOptions, Place, WatchOptions
from sampan.apiserver.tables import table
from sampan.client.interface import PatchType
from tests.apiserver.admitting import ADMITTING
from tests.apiserver.support import (
    ADMIN,
    EPOCH,
    Api,
    call,
    config_map,
    deployment,
    pod,
    service,
    started,
)

_FULL_POD = pod(
    volumes=[
        {"name": "v", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": []}}]}},
    ],
    tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule"}],
    nodeSelector={"a": "b"},
    initContainers=[{"name": "i", "image": "x"}],
)
_FULL_POD["spec"]["containers"][0] |= {
    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "ports": [{"containerPort": 80, "name": "web"}],
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    "livenessProbe": {"httpGet": {"port": 80}},
    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
    "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
}
SAMPLES: list[tuple[Kind, Object]] = [
    (kinds.PODS, _FULL_POD),
    (kinds.DEPLOYMENTS, deployment(strategy={"rollingUpdate": {"maxSurge": 1}})),
    (kinds.SERVICES, service(type="NodePort", externalIPs=["192.0.2.1"], selector={"a": "b"})),
    (kinds.CONFIGMAPS, config_map(a="1")),
    (kinds.CONFIGMAPS, {"metadata": {"name": "o", "managedFields": [
        {"manager": "m", "operation": "Update", "apiVersion": "v1",
         "fieldsV1": {"f:data": {"f:a": {}}, "f:metadata": {"f:finalizers": {'v:"x"': {}}}}}],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]},
        "data": {"a": "1"}}),
    (kinds.SECRETS, {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {"c": "eA=="}}),
    (kinds.STATEFUL_SETS, deployment(volumeClaimTemplates=[{"metadata": {"name": "d"}}])),
    (kinds.CRON_JOBS, {"metadata": {"name": "j"}, "spec": {
        "schedule": "* * * * *",
        "jobTemplate": {"spec": {"template": {"spec": pod(restartPolicy="Never")["spec"]}}}}}),
    (kinds.NODES, {"metadata": {"name": "n"}, "spec": {
        "podCIDR": "10.42.0.0/24", "taints": [{"key": "a", "effect": "NoExecute"}]},
        "status": {"capacity": {"cpu": "2"}}}),
    (kinds.EVENTS, {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"},
                    "lastTimestamp": "2026-01-01T00:00:00Z"}),
    (BY_GVK["events.k8s.io/v1", "Event"], {
        "metadata": {"name": "e"}, "regarding": {"kind": "Pod"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "note": "x"}),
    (BY_GVK["autoscaling/v1", "HorizontalPodAutoscaler"], {"metadata": {"name": "h"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        "targetCPUUtilizationPercentage": 5}}),
    (BY_GVK["autoscaling/v2", "HorizontalPodAutoscaler"], {"metadata": {"name": "h"}, "spec": {
        "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}}]}}),
    (kinds.ENDPOINT_SLICES, {"metadata": {"name": "s"}, "addressType": "IPv4",
                             "ports": [{"port": 80}],
                             "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    (BY_GVK["networking.k8s.io/v1", "NetworkPolicy"], {"metadata": {"name": "p"}, "spec": {
        "ingress": [{"ports": [{"port": 80}]}],
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}}),
    (kinds.ROLE_BINDINGS, {"metadata": {"name": "r"}, "roleRef": {"kind": "Role", "name": "x"},
                           "subjects": [{"kind": "User", "name": "u"}]}),
    (kinds.PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    *ADMITTING,
]  # fmt: skip

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@st.composite
def mangled(draw: st.DrawFn, obj: Any) -> Any:
    """*obj* with something else, or nothing, at some place."""
    copy = deepcopy(obj)
    holder, path = copy, []
    while isinstance(holder, dict | list) and holder:
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys))
        path.append((holder, key))
        holder = holder[key]
        if draw(st.integers(0, 3)) == 0:
            break
    if not path:
        return draw(anything)
    last, key = path[-1]
    if draw(st.booleans()):
        del last[key]
    else:
        last[key] = draw(anything)
    return copy


async def attempts(api: Api, kind: Kind, obj: Any, broken: Any) -> None:
    name = obj["metadata"]["name"]
    namespace = "default" if kind.namespaced else ""
    place = Place(kind, namespace, name)
    with suppress(ApiError):
        await api.registry.create(Place(kind, namespace), broken, call(dry_run=True))
    with suppress(ApiError):
        await api.registry.create(place, obj, call())
    for subresource in ("", "status", "scale"):
        part = Place(kind, namespace, name, subresource)
        with suppress(ApiError):
            await api.registry.update(part, broken, call())
        for how in PatchType:
            with suppress(ApiError):
                await api.registry.patch(part, broken, how, call(force=True))
    page = await api.registry.list(Place(kind, namespace), ListOptions())
    table(kind, [entry.object for entry in page.items], EPOCH)


@pytest.mark.parametrize(
    ("kind", "obj"), SAMPLES, ids=[f"{kind.kind}-{kind.version}" for kind, _ in SAMPLES]
)
def test_a_mangled_object_is_taken_or_refused(kind: Kind, obj: Object) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mangled(obj))
    def attempt(broken: Any) -> None:
        async def run() -> None:
            await attempts(await started(), kind, obj, broken)

        anyio.run(run)

    attempt()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_selectors_tokens_and_revisions_are_read_or_refused(one: str, two: str, three: str) -> None:
    async def run() -> None:
        api = await started()
        place = Place(kinds.PODS, "default")
        with suppress(ApiError):
            await api.registry.list(place, ListOptions(labels=one, fields=two, continue_=three))
        with suppress(ApiError):
            await api.registry.list(place, ListOptions(revision=one, match="Exact"))
        watch = api.registry.watch(place, WatchOptions(since=three, labels=two, initial=True))
        with suppress(ApiError):
            await anext(watch)
        await watch.aclose()

    anyio.run(run)


@settings(max_examples=60, deadline=None)
@given(anything, st.sampled_from(["binding", "eviction"]))
def test_anything_may_be_posted_to_a_pod(body: Any, subresource: str) -> None:
    async def run() -> None:
        api = await started()
        await api.create(kinds.PODS, pod())
        for posted in (body, {"target": body}, {"deleteOptions": body}, {"metadata": body}):
            with suppress(ApiError):
                place = Place(kinds.PODS, "default", "web", subresource)
                await api.registry.create(place, posted, call(user=ADMIN))

    anyio.run(run)
