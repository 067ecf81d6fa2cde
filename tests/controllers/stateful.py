"""StatefulSets for tests, and their Pods as the API would show them."""

from datetime import timedelta
from typing import Any

from sampan.api.objects import Object, Pod
from sampan.controllers.history import HASH, as_data, digest
from sampan.controllers.stateful_pods import identity, pod_name
from sampan.controllers.views_apps import ControllerRevision, StatefulSet
from tests.controllers.cluster import labelled
from tests.controllers.memory_api import EPOCH


def a_set(replicas: int, *, status: Object | None = None, **spec: Any) -> StatefulSet:
    raw = labelled("StatefulSet", "web", replicas=replicas, serviceName="web", **spec)
    raw["metadata"] |= {"uid": "sts", "resourceVersion": "1", "generation": 1}
    return StatefulSet.of({**raw, "status": status or {}})


def a_revision(sts: StatefulSet, number: int = 1, image: str = "v1") -> ControllerRevision:
    template = dict(sts.spec.template)
    template["spec"] = {"containers": [{**template["spec"]["containers"][0], "image": image}]}
    data = as_data(template)
    meta: Object = {
        "name": f"web-{digest(data, 0)}",
        "namespace": "default",
        "uid": f"rev{number}",
        "resourceVersion": "1",
        "labels": {"app": "web"},
        "ownerReferences": [owner(sts)],
    }
    return ControllerRevision.of({"metadata": meta, "data": data, "revision": number})


def owner(sts: StatefulSet) -> Object:
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}
    return {**ref, "uid": sts.metadata.uid, "controller": True}


def a_pod(
    sts: StatefulSet,
    number: int,
    revision: ControllerRevision,
    *,
    ready: bool = True,
    phase: str = "Running",
    deleting: bool = False,
    age: int = 100,
    **status: Any,
) -> Pod:
    at = (EPOCH - timedelta(seconds=age)).isoformat()
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at}
    meta: Object = {
        "name": pod_name(sts, number),
        "namespace": "default",
        "uid": f"pod{number}",
        "resourceVersion": "1",
        "creationTimestamp": at,
        "labels": {"app": "web", HASH: revision.metadata.name, **identity(sts, number)},
        "ownerReferences": [owner(sts)],
        **({"deletionTimestamp": at} if deleting else {}),
    }
    told = {"phase": phase, "conditions": [condition], **status}
    return Pod.of({"metadata": meta, "spec": {"nodeName": "n1"}, "status": told})
