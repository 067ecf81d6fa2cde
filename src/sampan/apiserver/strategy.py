"""Which part of an object a request may write, and what a new object begins with."""

from collections.abc import Mapping
from typing import Any, Final

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.defaults.pods import quality_of_service
from sampan.apiserver.identity import User
from sampan.apiserver.problems import not_found

_KEEPS_STATUS: Final = frozenset({kinds.NODES.resource})
_FIRST_STATUS: Final[Mapping[str, Object]] = {
    kinds.PODS.resource: {"phase": "Pending"},
    kinds.NAMESPACES.resource: {"phase": "Active"},
    kinds.PERSISTENT_VOLUMES.resource: {"phase": "Pending"},
    kinds.PERSISTENT_VOLUME_CLAIMS.resource: {"phase": "Pending"},
    kinds.SERVICES.resource: {"loadBalancer": {}},
    kinds.REPLICA_SETS.resource: {"replicas": 0},
    kinds.REPLICATION_CONTROLLERS.resource: {"replicas": 0},
    kinds.STATEFUL_SETS.resource: {"replicas": 0, "availableReplicas": 0},
    kinds.DAEMON_SETS.resource: {
        "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
        "numberReady": 0,
    },
    "poddisruptionbudgets.policy": {
        "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
    },
}  # fmt: skip
_LABELLED_BY_STATUS: Final = frozenset({kinds.NODES.resource, kinds.PODS.resource})
_CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"
_JOB_NAME: Final = "batch.kubernetes.io/job-name"
_RESIZABLE: Final = ("resources", "resizePolicy")


def has_status(kind: Kind) -> bool:
    return "status" in kind.subresources


def prepare_create(kind: Kind, obj: Object, user: User) -> None:
    """Give a new object the status that it begins with, whatever *user* claims."""
    if isinstance(kind, CustomKind):
        if kind.version_.has_status:
            obj.pop("status", None)
            kind.version_.fill(obj)
        return
    if has_status(kind) and kind.resource not in _KEEPS_STATUS:
        obj["status"] = dict(_FIRST_STATUS.get(kind.resource, {}))
    if kind.kind == "Pod":
        obj["status"]["qosClass"] = quality_of_service(obj.get("spec") or {})
    elif kind.kind == "Namespace":
        obj["spec"] = {"finalizers": ["kubernetes"]}
    elif kind.kind == "CertificateSigningRequest":
        obj["spec"] = {**obj.get("spec", {}), "username": user.name, "groups": list(user.groups)}


def finish_create(kind: Kind, obj: Object) -> None:
    """Set what follows from the uid of a new object: how a Job knows its Pods."""
    spec = obj.get("spec") or {}
    if kind != kinds.JOBS or spec.get("manualSelector"):
        return
    uid, name = obj["metadata"]["uid"], obj["metadata"]["name"]
    meta = spec["template"].setdefault("metadata", {})
    labels = {_CONTROLLER_UID: uid, _JOB_NAME: name, "controller-uid": uid, "job-name": name}
    meta["labels"] = {**(meta.get("labels") or {}), **labels}
    spec["selector"] = {"matchLabels": {_CONTROLLER_UID: uid}}


def prepare_update(kind: Kind, old: Object, new: Object, subresource: str) -> Object:
    """Return *old* with the part that *subresource* may write taken from *new*."""
    if subresource == "":
        return _whole(kind, old, new)
    if subresource == "status":
        return _with_status(kind, old, new)
    if subresource == "binding" or (subresource == "scale" and isinstance(kind, CustomKind)):
        return new
    if subresource == "approval":
        conditions = (new.get("status") or {}).get("conditions")
        return _with(old, new, status={**(old.get("status") or {}), "conditions": conditions})
    return _with(old, new, spec=_part_of_spec(kind, old, new, subresource))


def _part_of_spec(kind: Kind, old: Object, new: Object, subresource: str) -> Object:
    match subresource:
        case "finalize":
            return _taken(old, new, "finalizers")
        case "scale":
            return _taken(old, new, "replicas")
        case "ephemeralcontainers":
            return _taken(old, new, "ephemeralContainers")
        case "resize":
            return _resized(old["spec"], new.get("spec") or {})
    raise not_found(kind, f"{old['metadata']['name']}/{subresource}")


def _whole(kind: Kind, old: Object, new: Object) -> Object:
    if has_status(kind):
        new = {key: value for key, value in new.items() if key != "status"}
        if "status" in old:
            new["status"] = old["status"]
    if kind == kinds.NAMESPACES:
        new = {**new, "spec": old.get("spec") or {}}
    return new


def _with_status(kind: Kind, old: Object, new: Object) -> Object:
    meta = dict(old["metadata"])
    if "managedFields" in new["metadata"]:
        meta["managedFields"] = new["metadata"]["managedFields"]
    if kind.resource in _LABELLED_BY_STATUS:
        for field in ("labels", "annotations"):
            if field in new["metadata"]:
                meta[field] = new["metadata"][field]
    if isinstance(kind, CustomKind):
        rest = {key: value for key, value in old.items() if key != "status"}
        part = {"status": new["status"]} if "status" in new else {}
        return {**rest, "metadata": meta, **part}
    return {**old, "metadata": meta, "status": new.get("status") or {}}


def _with(old: Object, new: Object, **parts: Any) -> Object:
    meta = dict(old["metadata"])
    if "managedFields" in new["metadata"]:
        meta["managedFields"] = new["metadata"]["managedFields"]
    return {**old, "metadata": meta, **parts}


def _taken(old: Object, new: Object, field: str) -> Object:
    """The old spec with *field* as it is in the new one."""
    spec = {key: value for key, value in (old.get("spec") or {}).items() if key != field}
    if (wanted := (new.get("spec") or {}).get(field)) is not None:
        spec[field] = wanted
    return spec


def _resized(old: Object, new: Object) -> Object:
    spec = dict(old)
    for field in ("containers", "initContainers"):
        wanted = {c["name"]: c for c in new.get(field) or ()}
        if field in old:
            spec[field] = [
                {**c, **{k: wanted[c["name"]][k] for k in _RESIZABLE
                         if k in wanted.get(c["name"], {})}}
                for c in old[field]
            ]  # fmt: skip
    return spec
