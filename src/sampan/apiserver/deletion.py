"""What becomes of an object that somebody asks to delete: pure."""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from sampan.api import kinds
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.time import parse_time, timestamp
from sampan.apiserver.custom.definition import FINALIZER
from sampan.apiserver.interface import DeleteOptions

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
UNDELETABLE: Final = frozenset({"default", "kube-system", "kube-public"})
"""Namespaces that every cluster keeps."""
_FINISHED: Final = frozenset({"Succeeded", "Failed"})


class Remove(Struct, frozen=True):
    """Nothing holds it: it goes at once."""


class Mark(Struct, frozen=True):
    """It stays as *obj*, until its finalizers or its agent let it go."""

    obj: Object


class Keep(Struct, frozen=True):
    """It is already on its way out, and nothing about that changes."""


Verdict = Remove | Mark | Keep


def decide(kind: Kind, old: Object, options: DeleteOptions, now: datetime) -> Verdict:
    meta = old["metadata"]
    finalizers = _finalizers(meta.get("finalizers") or [], options)
    if kind == kinds.DEFINITIONS and not meta.get("deletionTimestamp"):
        finalizers = [one for one in finalizers if one != FINALIZER] + [FINALIZER]
    grace = pod_grace(old, options.grace_seconds) if kind == kinds.PODS else 0
    held = bool(finalizers) or (
        kind == kinds.NAMESPACES and bool((old.get("spec") or {}).get("finalizers"))
    )
    if not grace and not held:
        return Remove()
    marked = dict(meta)
    if finalizers or "finalizers" in meta:
        marked["finalizers"] = finalizers
    _set_deadline(marked, grace, now)
    if marked == meta:
        return Keep()
    if "generation" in meta and not meta.get("deletionTimestamp"):
        marked["generation"] = meta["generation"] + 1
    new = {**old, "metadata": marked}
    if kind == kinds.NAMESPACES:
        new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
    return Mark(new)


def _set_deadline(meta: Object, grace: int, now: datetime) -> None:
    """Set when the object shall be gone; what was set may be shortened, never lengthened."""
    if since := meta.get("deletionTimestamp"):
        before = meta.get("deletionGracePeriodSeconds") or 0
        if grace >= before:
            return
        asked = parse_time(since) - timedelta(seconds=before)
        meta["deletionTimestamp"] = timestamp(max(asked + timedelta(seconds=grace), asked))
    else:
        meta["deletionTimestamp"] = timestamp(now + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace


def pod_grace(pod: Object, asked: int | None) -> int:
    """Seconds that a Pod gets to stop; none where nothing runs."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in _FINISHED:
        return 0
    grace = asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30)
    return grace if grace >= 0 else 1


def _finalizers(present: list[str], options: DeleteOptions) -> list[str]:
    if options.propagation is None:
        return present
    kept = [one for one in present if one not in {FOREGROUND, ORPHAN}]
    match options.propagation:
        case "Foreground":
            return [*kept, FOREGROUND]
        case "Orphan":
            return [*kept, ORPHAN]
    return kept
