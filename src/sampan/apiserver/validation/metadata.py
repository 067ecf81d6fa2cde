"""Rules of `metadata`, for every kind. Source: k8s.io/apimachinery, api/validation."""

from collections.abc import Iterator
from typing import Any, Final

from sampan.api import kinds
from sampan.api.errors import Cause
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value, not_allowed, required, too_long
from sampan.apiserver.validation import names

_LABEL_NAMED: Final = frozenset({kinds.NAMESPACES.resource})
_LABEL_1035_NAMED: Final = frozenset({kinds.SERVICES.resource})
_FREELY_NAMED: Final = frozenset({
    kinds.ROLES.resource, kinds.ROLE_BINDINGS.resource, kinds.CLUSTER_ROLES.resource,
    kinds.CLUSTER_ROLE_BINDINGS.resource,
})  # fmt: skip
_ANNOTATIONS_LIMIT: Final = 256 * 1024
_PLAIN_FINALIZERS: Final = frozenset({"foregroundDeletion", "orphan", "kubernetes"})


def name_problem(kind: Kind, name: str) -> str:
    """Return what is wrong with *name* for an object of *kind*, or ""."""
    if kind.resource in _FREELY_NAMED:
        return names.path_segment(name)
    if kind.resource in _LABEL_NAMED:
        return names.label(name)
    if kind.resource in _LABEL_1035_NAMED:
        return names.label_1035(name)
    return names.subdomain(name)


def validate_metadata(kind: Kind, meta: Object) -> Iterator[Cause]:
    name = meta.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif wrong := name_problem(kind, name):
        yield bad_value("metadata.name", name, wrong)
    yield from validate_labels(meta.get("labels"), "metadata.labels")
    yield from _validate_annotations(meta.get("annotations") or {})
    for finalizer in meta.get("finalizers") or ():
        if wrong := names.qualified(finalizer):
            yield bad_value("metadata.finalizers", finalizer, wrong)
        elif "/" not in finalizer and finalizer not in _PLAIN_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield bad_value("metadata.finalizers", finalizer, why)
    yield from _validate_owners(meta.get("ownerReferences") or ())


def validate_labels(labels: Any, field: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        if wrong := names.qualified(key):
            yield bad_value(field, key, wrong)
        if wrong := names.label_value(value):
            yield bad_value(field, value, wrong)


def _validate_annotations(annotations: dict[str, str]) -> Iterator[Cause]:
    size = 0
    for key, value in annotations.items():
        if wrong := names.qualified(key.lower()):
            yield bad_value("metadata.annotations", key, wrong)
        size += len(key) + len(value)
    if size > _ANNOTATIONS_LIMIT:
        yield too_long("metadata.annotations", _ANNOTATIONS_LIMIT)


def _validate_owners(owners: Any) -> Iterator[Cause]:
    for index, owner in enumerate(owners):
        for part in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(part):
                field = f"metadata.ownerReferences[{index}].{part}"
                yield bad_value(field, owner.get(part) or "", "must not be empty")
    ruling = [owner for owner in owners if owner.get("controller")]
    if len(ruling) > 1:
        yield bad_value(
            "metadata.ownerReferences",
            [owner.get("name") for owner in ruling],
            "Only one reference can have Controller set to true",
        )


def validate_metadata_update(old: Object, new: Object) -> Iterator[Cause]:
    if old.get("deletionTimestamp"):
        added = set(new.get("finalizers") or ()) - set(old.get("finalizers") or ())
        if added:
            listed = ", ".join(f'"{one}"' for one in sorted(added))
            yield not_allowed(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{listed}}}",
            )
