"""Defaults of the smaller kinds. Sources: Kubernetes' defaults.go of their groups."""

import base64
from typing import Final

from sampan.api.objects import Object

_RBAC: Final = "rbac.authorization.k8s.io"
_NAME_LABEL: Final = "kubernetes.io/metadata.name"


def default_secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    if plain := obj.pop("stringData", None):
        data = obj.setdefault("data", {})
        for key, text in plain.items():
            data[key] = base64.b64encode(str(text).encode()).decode()


def default_namespace(obj: Object) -> None:
    """Name the namespace on itself, so that selectors can find it by name."""
    meta = obj["metadata"]
    if name := meta.get("name"):
        meta["labels"] = {**(meta.get("labels") or {}), _NAME_LABEL: name}


def default_node(obj: Object) -> None:
    spec, status = obj.setdefault("spec", {}), obj.get("status") or {}
    if spec.get("podCIDR"):
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    if status.get("capacity") and "allocatable" not in status:
        obj["status"] = {**status, "allocatable": status["capacity"]}


def default_persistent_volume(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    if isinstance(path := spec.get("hostPath"), dict):
        path.setdefault("type", "")


def default_claim(obj: Object) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def default_storage_class(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def default_autoscaler(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def default_binding(obj: Object) -> None:
    reference = obj.get("roleRef") or {}
    if not reference.get("apiGroup"):
        reference["apiGroup"] = _RBAC
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in {"User", "Group"} and not subject.get("apiGroup"):
            subject["apiGroup"] = _RBAC


def default_priority_class(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
    obj.setdefault("value", 0)
