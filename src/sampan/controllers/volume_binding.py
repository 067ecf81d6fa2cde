"""Claims and volumes find each other, keep each other, and end with each other.

A claim is bound in steps that each follow from what is there: the volume names the claim, then the
claim names the volume, then both say so. The rules are those of the Kubernetes documentation
("Persistent Volumes"). One claim is looked at at a time, so that no volume is given away twice.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from sampan.api import kinds
from sampan.api.objects import Node, Object, Pod
from sampan.api.selectors import Requirement, from_label_selector
from sampan.client.cache import Delta
from sampan.controllers.local_path import PROVISIONER, claim_reference, provision
from sampan.controllers.plan import (
    Action,
    Controller,
    Create,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
    set_status,
)
from sampan.controllers.views import reference
from sampan.controllers.views_storage import (
    BIND_COMPLETED,
    BOUND_BY_US,
    SELECTED_NODE,
    Claim,
    StorageClass,
    Volume,
    claims_of,
)

CLAIM_PROTECTION: Final = "kubernetes.io/pvc-protection"
STORAGE_PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
"""On a claim: whose turn it is to make a volume; drivers outside of Sampan look for their name."""
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
_NEW: Final = timedelta(seconds=3)
"""How long after it was made a claim that waits is told why."""


def reconcile(claim: Claim, world: World) -> Iterator[Action]:
    if claim.metadata.deleting:
        yield from _let_go(claim, world.objects)
    elif claim.bound:
        yield from _keep(claim, world.objects)
    elif claim.spec.volume_name:
        yield from _take_named(claim, world)
    else:
        yield from _find(claim, world)


def _let_go(claim: Claim, objects: Reader) -> Iterator[Action]:
    """A claim that is deleted stays until no Pod uses it any more."""
    held = claim.metadata.finalizers
    users = objects.by(Pod, "claim", claim.metadata.key)
    if CLAIM_PROTECTION in held and not any(pod.spec.node_name for pod in users):
        left = [finalizer for finalizer in held if finalizer != CLAIM_PROTECTION]
        revision = claim.metadata.resource_version
        yield Patch(claim, {"metadata": {"resourceVersion": revision, "finalizers": left or None}})


# Bound


def _keep(claim: Claim, objects: Reader) -> Iterator[Action]:
    volume = objects.get(Volume, "", claim.spec.volume_name)
    if volume is None or not _is_for(volume, claim):
        if claim.status.phase != "Lost":
            reason = "ClaimLost" if volume is None else "ClaimMisbound"
            text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            yield RecordEvent(claim, reason, text, "Warning")
            yield set_status(claim, {"phase": "Lost", "capacity": None, "accessModes": None})
        return
    if claim.size > volume.size and _expands(claim, objects):
        asked = claim.spec.resources.requests["storage"]
        text = f"the directory may hold {asked} now"
        done = RecordEvent(claim, "VolumeResizeSuccessful", text)
        yield Patch(volume, {"spec": {"capacity": {"storage": asked}}}, done=done)
        return
    wanted: Object = {
        "phase": "Bound",
        "accessModes": volume.spec.access_modes,
        "capacity": volume.spec.capacity,
    }
    have = claim.status
    if (have.phase, have.access_modes, have.capacity) != tuple(wanted.values()):
        yield set_status(claim, wanted)


def _expands(claim: Claim, objects: Reader) -> bool:
    named = objects.get(StorageClass, "", claim.spec.storage_class_name)
    return named is not None and named.allow_volume_expansion and named.provisioner == PROVISIONER


def _is_for(volume: Volume, claim: Claim) -> bool:
    ref = volume.spec.claim_ref
    return ref is not None and ref.key == claim.metadata.key and ref.uid == claim.metadata.uid


def _may_have(volume: Volume, claim: Claim) -> bool:
    """Whether *volume* was set aside for a claim of this name, or for this very one."""
    ref = volume.spec.claim_ref
    if ref is None or ref.key != claim.metadata.key:
        return False
    return ref.uid in {"", claim.metadata.uid}


# Not yet bound


def _take_named(claim: Claim, world: World) -> Iterator[Action]:
    """The claim says which volume it wants."""
    volume = world.objects.get(Volume, "", claim.spec.volume_name)
    if volume is None:
        return
    if volume.spec.claim_ref is not None and not _may_have(volume, claim):
        text = f'volume "{volume.metadata.name}" already bound to a different claim.'
        yield from _tell(claim, world, "FailedBinding", text)
    elif why := _mismatch(claim, volume):
        text = f'Cannot bind to requested volume "{volume.metadata.name}": {why}'
        yield from _tell(claim, world, "VolumeMismatch", text)
    else:
        yield from _bind(claim, volume)


def _find(claim: Claim, world: World) -> Iterator[Action]:
    objects = world.objects
    set_aside = [v for v in objects.by(Volume, "claim", claim.metadata.key) if _may_have(v, claim)]
    named = objects.get(StorageClass, "", claim.spec.storage_class_name)
    chosen = claim.metadata.annotations.get(SELECTED_NODE, "")
    if set_aside:
        yield from _bind(claim, min(set_aside, key=lambda volume: volume.metadata.name))
    elif named is not None and named.waits and not chosen:
        text = "waiting for first consumer to be created before binding"
        yield from _tell(claim, world, "WaitForFirstConsumer", text, "Normal")
    elif volume := _best(claim, objects, chosen):
        yield from _bind(claim, volume)
    elif named is None:
        yield from _tell(claim, world, "FailedBinding", _no_class(claim), "Normal")
    elif named.provisioner == PROVISIONER:
        yield from provision(claim, named, objects.get(Node, "", chosen) if chosen else None)
    elif named.provisioner not in {"", NO_PROVISIONER}:
        yield from _await_driver(claim, named, world)
    else:
        text = "no persistent volumes available for this claim, and its class makes none"
        yield from _tell(claim, world, "FailedBinding", text, "Normal")


def _no_class(claim: Claim) -> str:
    if claim.spec.storage_class_name:
        return f'storageclass.storage.k8s.io "{claim.spec.storage_class_name}" not found'
    return "no persistent volumes available for this claim and no storage class is set"


def _await_driver(claim: Claim, named: StorageClass, world: World) -> Iterator[Action]:
    """Leave the making of a volume to a driver that runs beside Sampan."""
    if claim.metadata.annotations.get(STORAGE_PROVISIONER) != named.provisioner:
        annotations = {STORAGE_PROVISIONER: named.provisioner}
        yield Patch(claim, {"metadata": {"annotations": annotations}})
    text = (
        "Waiting for a volume to be created either by the external provisioner "
        f"'{named.provisioner}' or manually by the system administrator."
    )
    yield from _tell(claim, world, "ExternalProvisioning", text, "Normal")


def _tell(
    claim: Claim, world: World, reason: str, message: str, type_: Any = "Warning"
) -> Iterator[Action]:
    """Say why a claim waits, while it is new: later nothing has changed about that."""
    made = claim.metadata.creation_timestamp
    if made is None or world.now - made <= _NEW:
        yield RecordEvent(claim, reason, message, type_)


def _bind(claim: Claim, volume: Volume) -> Iterator[Action]:
    """Take the next step: the volume names the claim, or else the claim names the volume."""
    if not _is_for(volume, claim):
        meta: Object = {"resourceVersion": volume.metadata.resource_version}
        if volume.spec.claim_ref is None:
            meta["annotations"] = {BOUND_BY_US: "yes"}
        yield Patch(volume, {"metadata": meta, "spec": {"claimRef": claim_reference(claim)}})
        return
    annotations = {BIND_COMPLETED: "yes"}
    if not claim.spec.volume_name:
        annotations[BOUND_BY_US] = "yes"
    meta = {"resourceVersion": claim.metadata.resource_version, "annotations": annotations}
    yield Patch(claim, {"metadata": meta, "spec": {"volumeName": volume.metadata.name}})


def _best(claim: Claim, objects: Reader, chosen: str) -> Volume | None:
    """Find the smallest free volume that satisfies *claim*, on the chosen node if there is one."""
    node = objects.get(Node, "", chosen) if chosen else None
    fitting = [
        volume
        for volume in objects.all(Volume)
        if volume.spec.claim_ref is None
        and not volume.metadata.deleting
        and not _mismatch(claim, volume)
        and _selected(claim, volume)
        and (not chosen or (node is not None and reaches(volume, node)))
    ]
    return min(fitting, key=lambda volume: (volume.size, volume.metadata.name), default=None)


def _mismatch(claim: Claim, volume: Volume) -> str:
    """Say why *volume* cannot be had by *claim*; "" if it can."""
    if volume.spec.storage_class_name != claim.spec.storage_class_name:
        return "storageClassName does not match"
    if volume.spec.volume_mode != claim.spec.volume_mode:
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes) <= set(volume.spec.access_modes):
        return "incompatible accessMode"
    if volume.size < claim.size:
        return "requested PV is too small"
    return ""


def _selected(claim: Claim, volume: Volume) -> bool:
    selector = from_label_selector(claim.spec.selector)
    return selector is None or selector.matches(volume.metadata.labels)


def reaches(volume: Volume, node: Node) -> bool:
    """Say whether *volume* can be used on *node*."""
    required = volume.spec.node_affinity.get("required") or {}
    terms = required.get("nodeSelectorTerms") or ()
    return not terms or any(_holds(term, node) for term in terms)


def _holds(term: Object, node: Node) -> bool:
    groups = (
        (term.get("matchExpressions") or (), node.metadata.labels),
        (term.get("matchFields") or (), {"metadata.name": node.metadata.name}),
    )
    return all(
        Requirement(e["key"], e["operator"], tuple(e.get("values") or ())).matches(labels)
        for expressions, labels in groups
        for e in expressions
    )


# Claims of one Pod alone


def make_claims(pod: Pod, world: World) -> Iterator[Action]:
    """Make the claims that a Pod's ephemeral volumes ask for; they end with the Pod."""
    for volume in pod.spec.volumes:
        if volume.ephemeral is None or not pod.live:
            continue
        name = f"{pod.metadata.name}-{volume.name}"
        found = world.objects.get(Claim, pod.metadata.namespace, name)
        if found is None:
            yield Create(kinds.PERSISTENT_VOLUME_CLAIMS, _claim_of(pod, name, volume.ephemeral))
        elif not any(o.uid == pod.metadata.uid for o in found.metadata.owner_references):
            text = f"PersistentVolumeClaim {name} was not made for this Pod: it is not used"
            made = pod.metadata.creation_timestamp
            if made is None or world.now - made <= _NEW:
                yield RecordEvent(pod, "FailedBinding", text, "Warning")


def _claim_of(pod: Pod, name: str, source: Object) -> Object:
    template = source.get("volumeClaimTemplate") or {}
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            **{key: meta[key] for key in ("labels", "annotations") if key in meta},
            "name": name,
            "namespace": pod.metadata.namespace,
            "ownerReferences": [reference(pod)],
        },
        "spec": template.get("spec") or {},
    }


# What wakes whom


def _of_volume(delta: Delta[Volume], objects: Reader) -> Iterable[str]:
    """The claims that have a volume or want it; of a free one, all that might take it."""
    keys = {
        ref.key for volume in (delta.old, delta.new) if volume and (ref := volume.spec.claim_ref)
    }
    name = delta.latest.metadata.name
    keys |= {claim.metadata.key for claim in objects.by(Claim, "volume", name)}
    if delta.new is not None and delta.new.spec.claim_ref is None:
        keys |= _waiting(delta.new.spec.storage_class_name, objects)
    return sorted(keys)


def _of_class(delta: Delta[StorageClass], objects: Reader) -> Iterable[str]:
    return sorted(_waiting(delta.latest.metadata.name, objects))


def _waiting(class_name: str, objects: Reader) -> set[str]:
    return {
        claim.metadata.key
        for claim in objects.all(Claim)
        if claim.spec.storage_class_name == class_name and not claim.bound
    }


def _of_pod(delta: Delta[Pod], _objects: Reader) -> Iterable[str]:
    """The claims of a Pod that has gone may go as well."""
    if delta.new is not None:
        return ()
    pod = delta.latest
    return [f"{pod.metadata.namespace}/{name}" for name in claims_of(pod)]


def _with_claims(delta: Delta[Pod], _objects: Reader) -> Iterable[str]:
    pod = delta.latest
    return (pod.metadata.key,) if any(volume.ephemeral for volume in pod.spec.volumes) else ()


def _owner(delta: Delta[Claim], _objects: Reader) -> Iterable[str]:
    if delta.new is not None:
        return ()
    meta = delta.latest.metadata
    return [f"{meta.namespace}/{o.name}" for o in meta.owner_references if o.kind == "Pod"]


CLAIMS: Final = Controller(
    "persistentvolume-binder",
    {Claim: itself, Volume: _of_volume, StorageClass: _of_class, Pod: _of_pod},
    for_each(Claim, reconcile),
    workers=1,
)
EPHEMERAL: Final = Controller(
    "ephemeral-volume", {Pod: _with_claims, Claim: _owner}, for_each(Pod, make_claims)
)
