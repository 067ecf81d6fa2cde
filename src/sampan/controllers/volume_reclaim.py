"""What becomes of a volume: its phase, and its end once its claim is gone.

A volume that was made to order and may be deleted is deleted when the API itself confirms that its
claim is gone; its directory goes with it, which is the business of the agent on its node.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from sampan.api.marks import LOCAL_VOLUME, VOLUME_NODE
from sampan.api.objects import Node, OwnerReference
from sampan.client.cache import Delta
from sampan.controllers.local_path import PROTECTION, PROVISIONER
from sampan.controllers.plan import (
    Action,
    Controller,
    Delete,
    Gone,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
    set_status,
)
from sampan.controllers.views_storage import PROVISIONED_BY, Claim, ClaimReference, Volume


def reconcile(volume: Volume, world: World) -> Iterator[Action]:
    if volume.metadata.deleting:
        yield from _let_go(volume, world.objects)
        return
    ref = volume.spec.claim_ref
    if ref is None or not ref.uid:
        yield from _set_phase(volume, "Available")
        return
    claim = world.objects.get(Claim, ref.namespace, ref.name)
    if claim is None or claim.metadata.uid != ref.uid or _has_another(claim, volume):
        yield from _reclaim(volume, ref)
    elif claim.bound:
        yield from _set_phase(volume, "Bound")


def _has_another(claim: Claim, volume: Volume) -> bool:
    return claim.spec.volume_name not in {"", volume.metadata.name}


def _set_phase(volume: Volume, phase: str, message: str = "") -> Iterator[Action]:
    if (volume.status.phase, volume.status.message) != (phase, message):
        yield set_status(volume, {"phase": phase, "message": message or None})


def _reclaim(volume: Volume, ref: ClaimReference) -> Iterator[Action]:
    policy = volume.spec.persistent_volume_reclaim_policy
    maker = volume.metadata.annotations.get(PROVISIONED_BY, "")
    if policy == "Delete" and maker == PROVISIONER:
        yield from _set_phase(volume, "Released")
        owner = OwnerReference("v1", "PersistentVolumeClaim", ref.name, ref.uid)
        yield Delete(volume, given=Gone((owner,), ref.namespace))
    elif policy == "Retain" or maker:
        yield from _set_phase(volume, "Released")
    else:
        how = "Recycle is not supported" if policy == "Recycle" else "nobody knows how to delete it"
        text = f"{how}: delete this volume and what is on it by hand"
        if volume.status.phase != "Failed":
            yield RecordEvent(volume, "VolumeFailedDelete", text, "Warning")
        yield from _set_phase(volume, "Failed", text)


def _let_go(volume: Volume, objects: Reader) -> Iterator[Action]:
    """Take the finalizers whose time has come; of a node that is no more, nothing is left."""
    held = set(volume.metadata.finalizers)
    if PROTECTION in held and not _in_use(volume, objects):
        yield _without(PROTECTION, volume)
        return
    node = volume.metadata.labels.get(VOLUME_NODE, "")
    if LOCAL_VOLUME in held and node and objects.get(Node, "", node) is None:
        gone = Gone((OwnerReference("v1", "Node", node),))
        yield replace(_without(LOCAL_VOLUME, volume), given=gone)


def _without(finalizer: str, volume: Volume) -> Patch:
    left = [held for held in volume.metadata.finalizers if held != finalizer]
    revision = volume.metadata.resource_version
    return Patch(volume, {"metadata": {"resourceVersion": revision, "finalizers": left or None}})


def _in_use(volume: Volume, objects: Reader) -> bool:
    ref = volume.spec.claim_ref
    claim = objects.get(Claim, ref.namespace, ref.name) if ref else None
    return claim is not None and ref is not None and claim.metadata.uid == ref.uid and claim.bound


def _of_claim(delta: Delta[Claim], objects: Reader) -> Iterable[str]:
    claim = delta.latest
    names = {volume.metadata.name for volume in objects.by(Volume, "claim", claim.metadata.key)}
    if claim.spec.volume_name:
        names.add(claim.spec.volume_name)
    return sorted(names)


def _on_node(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    """The volumes that go with a node that is gone."""
    if delta.new is not None:
        return ()
    name = delta.latest.metadata.name
    return [
        volume.metadata.name
        for volume in objects.all(Volume)
        if volume.metadata.labels.get(VOLUME_NODE) == name
    ]


CONTROLLER: Final = Controller(
    "persistentvolume-reclaimer",
    {Volume: itself, Claim: _of_claim, Node: _on_node},
    for_each(Volume, reconcile),
)
