"""The rules of `metadata` that hold for every kind: who sets which field, and when."""

import secrets
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import uuid4

from sampan.api import kinds
from sampan.api.errors import BadRequest, Conflict
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.problems import conflict

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Without vowels and look-alikes, as Kubernetes picks random names."""
_SUFFIX: Final = 5
_MAX_NAME: Final = 63
_OWNED: Final = (
    "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
)  # fmt: skip
_WITHOUT_GENERATION: Final = frozenset({
    *(kind.resource for kind in kinds.KINDS if not kind.group and kind.kind != "Pod"),
    *(kind.resource for kind in kinds.KINDS if kind.group.startswith("rbac.")),
    kinds.LEASES.resource, "events.events.k8s.io", "certificatesigningrequests.certificates.k8s.io",
    "storageclasses.storage.k8s.io", "controllerrevisions.apps",
} - {"replicationcontrollers"})  # fmt: skip
NO_VERSION: Final = (None, "", "0")
"""resourceVersions that insist on nothing."""
_NOTHING: Final[tuple[Any, ...]] = ({}, [], "")
"""Values that Kubernetes leaves out of metadata when it writes them."""
_NOT_SPEC: Final = frozenset({"kind", "apiVersion", "metadata", "status"})


def random_suffix() -> str:
    number = secrets.randbelow(len(_ALPHABET) ** _SUFFIX)
    letters = []
    for _ in range(_SUFFIX):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)


def stamp(now: datetime) -> str:
    """*now* in whole seconds; writing it out costs more than all else about metadata."""
    return _written(now.replace(microsecond=0))


_written: Final = lru_cache(maxsize=16)(timestamp)


def named(kind: Kind, namespace: str, obj: Object) -> str:
    """Give *obj*, about to be created in *namespace*, its name and namespace; return the name."""
    meta = obj["metadata"]
    if kind.namespaced:
        if meta.get("namespace") not in (None, "", namespace):
            raise BadRequest(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        meta["namespace"] = namespace
    elif meta.pop("namespace", None):
        raise BadRequest(f"{kind.kind} has no namespace; leave metadata.namespace out")
    if not meta.get("name") and (prefix := meta.get("generateName")):
        meta["name"] = prefix[: _MAX_NAME - _SUFFIX] + random_suffix()
    return str(meta.get("name") or "")


def born(kind: Kind, obj: Object, now: datetime) -> None:
    """Set what the server owns of the metadata of a new object."""
    given = obj["metadata"]
    if given.get("resourceVersion") not in NO_VERSION:
        raise BadRequest("resourceVersion should not be set on objects to be created")
    meta: Object = {
        "name": given.pop("name", ""),
        "uid": str(uuid4()),
        "creationTimestamp": stamp(now),
    }
    if "namespace" in given:
        meta["namespace"] = given["namespace"]
    if has_generation(kind):
        meta["generation"] = 1
    dropped = {*_OWNED, "selfLink", "resourceVersion", "managedFields"}
    meta.update((k, v) for k, v in given.items() if k not in dropped and v not in _NOTHING)
    if given.get("managedFields"):
        meta["managedFields"] = given["managedFields"]
    obj["metadata"] = meta


def has_generation(kind: Kind) -> bool:
    return kind.resource not in _WITHOUT_GENERATION


def check_identity(kind: Kind, namespace: str, name: str, obj: Object) -> None:
    """Refuse an update whose object is not the one of the URL."""
    meta = obj["metadata"]
    if meta.setdefault("name", name) != name:
        raise BadRequest(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if kind.namespaced and meta.setdefault("namespace", namespace) != namespace:
        raise BadRequest(
            f"the namespace of the object ({meta['namespace']}) does not match the namespace on "
            f"the URL ({namespace})"
        )


def check_preconditions(
    kind: Kind, old: Object, uid: str | None, revision: str | None, subresource: str = ""
) -> None:
    """Raise Conflict unless *old* has the given uid and resourceVersion, where they are given."""
    meta = old["metadata"]
    name = meta["name"]
    if uid and uid != meta["uid"]:
        raise _precondition(kind, name, "UID", uid, meta["uid"])
    if revision not in NO_VERSION and revision != meta["resourceVersion"]:
        raise conflict(kind, name, subresource=subresource)


def check_delete_preconditions(
    kind: Kind, old: Object, uid: str | None, revision: str | None
) -> None:
    check_preconditions(kind, old, uid, None)
    meta = old["metadata"]
    if revision and revision != meta["resourceVersion"]:
        raise _precondition(
            kind, meta["name"], "ResourceVersion", revision, meta["resourceVersion"]
        )


def _precondition(kind: Kind, name: str, what: str, wanted: str, found: str) -> Conflict:
    return conflict(
        kind,
        name,
        f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
    )


def carried_over(old: Object, new: Object) -> None:
    """Set what the server owns of the metadata of *new*, which follows *old*."""
    before, given = old["metadata"], new["metadata"]
    meta: Object = {"name": before["name"]}
    meta.update((key, before[key]) for key in ("namespace", *_OWNED) if key in before)
    if "generateName" in before:
        meta["generateName"] = before["generateName"]
    dropped = {"selfLink", "resourceVersion", *_OWNED}
    meta.update(
        (k, v) for k, v in given.items() if not (k in dropped or k in meta or v in _NOTHING)
    )
    if "managedFields" not in given and "managedFields" in before:
        meta["managedFields"] = before["managedFields"]
    new["metadata"] = meta


def count_generation(kind: Kind, old: Object, new: Object) -> None:
    """Count one generation more if anything but metadata and status changed."""
    if not has_generation(kind):
        return
    annotated = kind == kinds.DEPLOYMENTS and (
        old["metadata"].get("annotations") != new["metadata"].get("annotations")
    )
    apart = _NOT_SPEC if _status_apart(kind) else _NOT_SPEC - {"status"}
    if annotated or _without(old, apart) != _without(new, apart):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _status_apart(kind: Kind) -> bool:
    """Whether the status is no part of what is counted: of custom kinds only if it is apart."""
    return not isinstance(kind, CustomKind) or kind.version_.has_status


def _without(obj: Object, fields: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in fields}


def _is_namespace(obj: Object) -> bool:
    return obj.get("kind") == "Namespace" and obj.get("apiVersion", "v1") == "v1"


def gone_with_update(obj: Object) -> bool:
    """Say whether *obj*, as just updated, was only kept by what the update took away."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if _is_namespace(obj) and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not meta.get("deletionGracePeriodSeconds")
