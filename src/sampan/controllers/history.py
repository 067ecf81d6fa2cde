"""The templates that a StatefulSet or DaemonSet has had, as numbered ControllerRevisions.

A revision's data is a patch that brings its template back: `kubectl rollout undo` applies it.
Names and hashes are made as Kubernetes makes them.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.api.selectors import Selector
from sampan.controllers.claims import claim
from sampan.controllers.plan import Action, Create, Delete, Patch, Reader
from sampan.controllers.views import reference
from sampan.controllers.views_apps import ControllerRevision, DaemonSet, StatefulSet

HASH: Final = "controller-revision-hash"
"""The label by which a Pod tells its revision: a StatefulSet's by name, a DaemonSet's by hash."""
_LONGEST_PREFIX: Final = 223
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_FNV_START: Final = 2166136261
_FNV_PRIME: Final = 16777619

Owner: TypeAlias = StatefulSet | DaemonSet


@dataclass(frozen=True, slots=True)
class History:
    """All *revisions*, oldest first, and the one of the present template, once it is written."""

    revisions: tuple[ControllerRevision, ...]
    present: ControllerRevision | None
    writes: tuple[Action, ...] = ()
    collided: bool = False
    """Whether the name for a new revision is taken by something else."""

    def named(self, name: str) -> ControllerRevision | None:
        return next((r for r in self.revisions if r.metadata.name == name), None)


def trace(owner: Owner, selector: Selector, objects: Reader, hash_label: str) -> History:
    """Find the revision of the owner's template, or plan the writing of one."""
    owned = claim(
        owner,
        selector,
        objects.by(ControllerRevision, "owner", owner.metadata.uid),
        objects.by(ControllerRevision, "orphan", owner.metadata.namespace),
    )
    held = tuple(sorted(owned.members, key=_age))
    writes: list[Action] = list(owned.changes())
    data = as_data(owner.spec.template)
    equal = [revision for revision in held if revision.data == data]
    if not equal:
        body = _new(owner, data, _next(held), hash_label)
        name, namespace = body["metadata"]["name"], owner.metadata.namespace
        if taken := objects.get(ControllerRevision, namespace, name):
            return History(held, None, tuple(writes), collided=not _of_predecessor(owner, taken))
        made = () if owner.metadata.deleting else (Create(kinds.CONTROLLER_REVISIONS, body),)
        return History(held, None, (*writes, *made))
    present = equal[-1]
    if present is not held[-1]:
        writes.append(Patch(present, {"revision": _next(held)}))
    return History(held, present, tuple(writes))


def surplus(history: History, live: Collection[str], limit: int) -> Iterator[Delete]:
    """Drop the oldest revisions beyond *limit* that nothing *live* carries."""
    past = [r for r in history.revisions if r.metadata.name not in live]
    for revision in past[: max(len(past) - limit, 0)]:
        yield Delete(revision)


def template_of(revision: ControllerRevision) -> Object:
    template: Object = dict(revision.data["spec"]["template"])
    del template["$patch"]
    return template


def as_data(template: Object) -> Object:
    """Return the patch that replaces a template by *template*."""
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v is not None}
    return {"spec": {"template": {**template, "metadata": metadata, "$patch": "replace"}}}


def digest(data: Object, collisions: int) -> str:
    """Hash a revision as Kubernetes does: FNV-1 over its JSON, in letters that spell no word."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    number = _FNV_START
    for byte in f"{text}{collisions}".encode():
        number = (number * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def _new(owner: Owner, data: Object, number: int, hash_label: str) -> Object:
    hashed = digest(data, owner.status.collision_count or 0)
    labels = (owner.spec.template.get("metadata") or {}).get("labels") or {}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{owner.metadata.name[:_LONGEST_PREFIX]}-{hashed}",
            "namespace": owner.metadata.namespace,
            "labels": {**labels, hash_label: hashed},
            "annotations": dict(owner.metadata.annotations),
            "ownerReferences": [reference(owner)],
        },
        "data": data,
        "revision": number,
    }


def _of_predecessor(owner: Owner, revision: ControllerRevision) -> bool:
    """Whether *revision* goes with a deleted set of the same name: its name will be free soon."""
    ref = revision.metadata.controller
    if ref is None or ref.uid == owner.metadata.uid:
        return False
    return (ref.kind, ref.name) == (owner.KIND.kind, owner.metadata.name)


def _next(held: Sequence[ControllerRevision]) -> int:
    return held[-1].revision + 1 if held else 1


def _age(revision: ControllerRevision) -> tuple[int, float, str]:
    created = revision.metadata.creation_timestamp
    return revision.revision, created.timestamp() if created else 0.0, revision.metadata.name
