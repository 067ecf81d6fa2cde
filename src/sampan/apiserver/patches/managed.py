"""`metadata.managedFields`: who owns which field.

Owners matter only to server-side apply, so an object costs little until somebody applies: its
creator's entry stays empty, meaning "all that no other entry names", and is written out when it
first matters. Later plain updates are tracked by what they change. Source: Kubernetes,
"Server-Side Apply", and k8s.io/apimachinery, util/managedfields.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import schemas
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.metadata import stamp
from sampan.apiserver.patches import fields
from sampan.apiserver.patches.fields import Fields, Schema

APPLY: Final = "Apply"
UPDATE: Final = "Update"
_OWNERLESS_META: Final = frozenset({
    "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
    "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
})  # fmt: skip
_UNTRACKED: Final = frozenset({"leases.coordination.k8s.io", "events"})
"""Written often, and applied by nobody."""


_TRACKED: Final = frozenset({"", "scale"})
"""Subresources whose writes are always tracked; those of others only once somebody applied."""
OURS: Final = "sampan"
"""Who the control plane's own writes are by, where others care."""


class Who(Struct, frozen=True):
    """A manager as an entry names it."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""

    def owns(self, entry: Object) -> bool:
        """Say whether *entry* is this manager's; an applier has one for all versions."""
        return (
            entry.get("manager") == self.manager
            and entry.get("operation") == self.operation
            and entry.get("subresource", "") == self.subresource
            and (self.operation == APPLY or entry.get("apiVersion") == self.api_version)
        )

    def entry(self, owned: Fields, now: datetime) -> Object:
        made = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": stamp(now),
            "fieldsType": "FieldsV1",
            "fieldsV1": owned,
        }
        return {**made, "subresource": self.subresource} if self.subresource else made


def schema_of(kind: Kind) -> Schema:
    if isinstance(kind, CustomKind):
        return kind.version_.owned_schema
    name = schemas.type_name(kind)
    return schemas.types()[name] if name else {}


def owned_part(kind: Kind, obj: Object, subresource: str) -> Object:
    """The part of *obj* that writers of *subresource* own fields of."""
    if subresource:
        return {"status": obj["status"]} if obj.get("status") else {}
    part = {key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}}
    if "status" in kind.subresources:
        part.pop("status", None)
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _OWNERLESS_META}
    return (
        {**part, "metadata": meta} if meta else {k: v for k, v in part.items() if k != "metadata"}
    )


def owned(kind: Kind, obj: Object, subresource: str) -> Fields:
    """All fields of *obj* that a writer of *subresource* can own."""
    return fields.of(owned_part(kind, obj, subresource), schema_of(kind))


def sound(obj: Object) -> bool:
    """Say whether *obj* has owners, and all are told in a form that can be reckoned with."""
    entries = obj["metadata"].get("managedFields")
    return bool(entries) and all(fields.sound(entry.get("fieldsV1") or {}) for entry in entries)


def keep_sound(old: Object, new: Object) -> None:
    """Let *new* have the owners of *old* if its own make no sense; none at all is a reset."""
    meta = new["metadata"]
    if meta.get("managedFields") and not sound(new):
        meta.pop("managedFields")
        if before := old["metadata"].get("managedFields"):
            meta["managedFields"] = before


def created(kind: Kind, obj: Object, manager: str, now: datetime) -> None:
    """Note in *obj*, about to be created, who made it."""
    if manager and kind.resource not in _UNTRACKED:
        who = Who(manager, UPDATE, kind.api_version)
        obj["metadata"]["managedFields"] = [who.entry({}, now)]


def updated(
    kind: Kind, old: Object, new: Object, manager: str, subresource: str, now: datetime
) -> Object:
    """*new*, with what it changes of *old* owned by *manager* from now on."""
    entries = new["metadata"].get("managedFields") or ()
    if kind.resource in _UNTRACKED or (not entries and not manager):
        return new
    if subresource not in _TRACKED and not _applied(entries, subresource):
        return new
    part = subresource if subresource == "status" else ""
    touched, removed = fields.difference(
        owned_part(kind, old, part), owned_part(kind, new, part), schema_of(kind)
    )
    if touched is None and removed is None:
        return new
    who = Who(manager or OURS, UPDATE, kind.api_version, subresource)
    kept = _moved(entries, who, touched or {}, removed or {}, now)
    return {**new, "metadata": {**new["metadata"], "managedFields": kept}}


def _applied(entries: Sequence[Object], subresource: str) -> bool:
    return any(entry.get("subresource", "") == subresource for entry in entries)


def _moved(
    entries: Sequence[Object], who: Who, touched: Fields, removed: Fields, now: datetime
) -> list[Object]:
    lost = fields.union(touched, removed)
    kept: list[Object] = []
    mine: Fields = {}
    lazy = False
    for entry in entries:
        held = entry.get("fieldsV1") or {}
        if who.owns(entry):
            mine, lazy = held, not held
        elif not held:
            kept.append(entry)
        elif left := fields.without(held, lost):
            kept.append(entry if left == held else {**entry, "fieldsV1": left})
    mine = {} if lazy else fields.without(fields.union(mine, touched), removed)
    return in_order([*kept, who.entry(mine, now)] if mine or lazy else kept)


def in_order(entries: Sequence[Object]) -> list[Object]:
    """Entries in Kubernetes' order, so that writing the same again is no change."""
    fields_ = ("operation", "time", "manager", "apiVersion", "subresource")
    return sorted(entries, key=lambda entry: [entry.get(field, "") for field in fields_])


def written_out(kind: Kind, obj: Object) -> list[Object]:
    """The entries of *obj* with every owner's fields, also of those that are still implied."""
    entries: list[Object] = list(obj["metadata"].get("managedFields") or ())
    if all(entry.get("fieldsV1") for entry in entries):
        return entries
    others: Fields = {}
    for entry in entries:
        others = fields.union(others, entry.get("fieldsV1") or {})
    implied = fields.without(owned(kind, obj, ""), others)
    full = []
    for entry in entries:
        if entry.get("fieldsV1"):
            full.append(entry)
        elif implied:
            full.append({**entry, "fieldsV1": implied})
            implied = {}
    return full


def described(entry: Object) -> str:
    """A manager as a conflict names it."""
    told = f'"{entry.get("manager", "")}"'
    if part := entry.get("subresource"):
        told += f' with subresource "{part}"'
    told += f" using {entry.get('apiVersion', '')}"
    if entry.get("operation") == UPDATE and (at := entry.get("time")):
        told += f" at {at}"
    return told
