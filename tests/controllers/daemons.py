"""DaemonSets for tests, with their nodes, revisions and Pods as the API would show them."""

from datetime import timedelta
from typing import Any

from sampan.api.objects import Node, Object, Pod
from sampan.controllers.history import HASH, as_data, digest
from sampan.controllers.views_apps import ControllerRevision, DaemonSet
from tests.controllers.cluster import labelled
from tests.controllers.memory_api import EPOCH


def a_set(image: str = "v1", pod: Object | None = None, **spec: Any) -> DaemonSet:
    raw = labelled("DaemonSet", "log", **spec)
    raw["spec"]["template"]["spec"]["containers"][0]["image"] = image
    raw["spec"]["template"]["spec"] |= pod or {}
    raw["metadata"] |= {"uid": "ds", "resourceVersion": "1", "generation": 1}
    return DaemonSet.of(raw)


def a_revision(ds: DaemonSet, number: int = 1) -> ControllerRevision:
    data = as_data(ds.spec.template)
    hashed = digest(data, 0)
    meta = {
        "name": f"log-{hashed}",
        "namespace": "default",
        "uid": f"rev{number}",
        "labels": {"app": "log", HASH: hashed},
        "ownerReferences": [OWNER],
    }
    return ControllerRevision.of({"metadata": meta, "data": data, "revision": number})


OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "log", "uid": "ds",
         "controller": True}  # fmt: skip


def a_node(name: str, *taints: str, labels: Object | None = None) -> Node:
    told = [{"key": "gpu", "effect": effect} for effect in taints]
    ready = [{"type": "Ready", "status": "True"}]
    meta = {"name": name, "labels": labels or {}}
    return Node.of({"metadata": meta, "spec": {"taints": told}, "status": {"conditions": ready}})


def a_pod(
    ds: DaemonSet,
    name: str,
    node: str = "n1",
    *,
    ready: bool = True,
    phase: str = "Running",
    deleting: bool = False,
    age: int = 100,
) -> Pod:
    at = (EPOCH - timedelta(seconds=age)).isoformat()
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at}
    meta = {
        "name": name,
        "namespace": "default",
        "uid": name,
        "creationTimestamp": at,
        "labels": {"app": "log", HASH: a_revision(ds).metadata.labels[HASH]},
        "ownerReferences": [OWNER],
        **({"deletionTimestamp": at} if deleting else {}),
    }
    status = {"phase": phase, "conditions": [condition]}
    return Pod.of({"metadata": meta, "spec": {"nodeName": node}, "status": status})


def rolling(**limits: Any) -> Object:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": limits}}
