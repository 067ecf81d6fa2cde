"""Which ReplicaSet carries a Deployment's template, under what name and revision."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sampan.api.objects import Object
from sampan.controllers.rollout import DESIRED, MAX, Bounds, newest_last
from sampan.controllers.views import REVISION, Deployment, ReplicaSet, reference

HASH_LABEL: Final = "pod-template-hash"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
FAILED: Final = "sampan.io/failed-revision"
"""On a set: the revision as which it failed and was taken back."""
ROLLED_BACK: Final = "sampan.io/rolled-back"
"""On a Deployment: from which set to which it went back by itself, and why; JSON."""
_NOT_COPIED: Final = frozenset({
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION, HISTORY, DESIRED, MAX, FAILED, ROLLED_BACK,
})  # fmt: skip


def template_hash(template: Object, collisions: int | None) -> str:
    """Name a template in at most ten letters that never spell a word, as Kubernetes does."""
    text = json.dumps([template, collisions or 0], sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def same_template(rs: ReplicaSet, template: Object) -> bool:
    return _unhashed(rs.spec.template) == _unhashed(template)


def _unhashed(template: Object) -> tuple[Any, Any, Any]:
    """A template as far as a rollout cares: what is empty is as good as absent."""
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != HASH_LABEL}
    rest = {k: v for k, v in metadata.items() if v and k != "creationTimestamp"}
    return labels, rest, template.get("spec") or {}


def find_new(template: Object, sets: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """Return the oldest set that carries *template*: after an undo that is an earlier revision."""
    return next((rs for rs in newest_last(sets) if same_template(rs, template)), None)


def next_revision(old: Sequence[ReplicaSet]) -> int:
    return max((rs.revision for rs in old), default=0) + 1


def new_set(deployment: Deployment, revision: int, replicas: int, limits: Bounds) -> Object:
    """Return the ReplicaSet object for the Deployment's present template."""
    digest = template_hash(deployment.spec.template, deployment.status.collision_count)
    template = dict(deployment.spec.template)
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), HASH_LABEL: digest}
    selector = dict(deployment.spec.selector)
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
    spec: Object = {
        "replicas": replicas,
        "selector": selector,
        "template": {**template, "metadata": metadata},
    }
    if deployment.spec.min_ready_seconds:
        spec["minReadySeconds"] = deployment.spec.min_ready_seconds
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment.metadata.name}-{digest}",
            "namespace": deployment.metadata.namespace,
            "labels": metadata["labels"],
            "annotations": {
                **copied(deployment.metadata.annotations),
                REVISION: str(revision),
                **size_annotations(limits),
            },
            "ownerReferences": [reference(deployment)],
        },
        "spec": spec,
    }


def copied(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations (change-cause among them) that a set takes over."""
    return {k: v for k, v in annotations.items() if k not in _NOT_COPIED}


def size_annotations(limits: Bounds) -> dict[str, str]:
    return {DESIRED: str(limits.desired), MAX: str(limits.ceiling)}


def refreshed_annotations(deployment: Deployment, rs: ReplicaSet, revision: int) -> dict[str, str]:
    """Return what must change in the annotations of the current set; empty if nothing must.

    A set that comes back to power takes the next revision and remembers those it had.
    """
    wanted = copied(deployment.metadata.annotations)
    if rs.revision < revision:
        wanted[REVISION] = str(revision)
        if rs.revision:
            had = rs.metadata.annotations.get(HISTORY, "")
            wanted[HISTORY] = f"{had},{rs.revision}" if had else str(rs.revision)
    held = rs.metadata.annotations
    return {key: value for key, value in wanted.items() if held.get(key) != value}
