"""Volumes made to order: a directory on the node that was chosen for a claim's first Pod.

The Node says in an annotation below which directory its agent keeps volumes. The volume carries a
finalizer, so that when it is deleted the agent of its node removes the directory first.
"""

from collections.abc import Iterator
from typing import Final

from sampan.api import kinds
from sampan.api.marks import LOCAL_VOLUME, VOLUME_NODE, VOLUMES_DIR
from sampan.api.objects import Node, Object
from sampan.controllers.plan import Action, Create, Patch, RecordEvent
from sampan.controllers.views_storage import PROVISIONED_BY, SELECTED_NODE, Claim, StorageClass

PROVISIONER: Final = "sampan.io/local-path"
PROTECTION: Final = "kubernetes.io/pv-protection"
HOSTNAME: Final = "kubernetes.io/hostname"
_MODES: Final = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


def provision(claim: Claim, named: StorageClass, node: Node | None) -> Iterator[Action]:
    """Make the volume for *claim* on *node*; say why not, and let another node be chosen."""
    why = _refusal(claim, node)
    if not why and node is not None:
        volume = volume_for(claim, named, node)
        text = f"Successfully provisioned volume {volume['metadata']['name']}"
        done = RecordEvent(claim, "ProvisioningSucceeded", text)
        yield Create(kinds.PERSISTENT_VOLUMES, volume, done=done)
        return
    yield RecordEvent(claim, "ProvisioningFailed", why, "Warning")
    if SELECTED_NODE in claim.metadata.annotations:
        revision = claim.metadata.resource_version
        annotations = {SELECTED_NODE: None}
        yield Patch(claim, {"metadata": {"resourceVersion": revision, "annotations": annotations}})


def _refusal(claim: Claim, node: Node | None) -> str:
    return _cannot_make(claim) or _cannot_place(claim, node)


def _cannot_make(claim: Claim) -> str:
    if claim.spec.volume_mode != "Filesystem":
        return (
            f"{PROVISIONER} makes directories: volumeMode {claim.spec.volume_mode} is not possible"
        )
    if others := sorted(set(claim.spec.access_modes) - _MODES):
        return (
            f"{PROVISIONER} keeps a volume on one node: {', '.join(others)} is not possible; ask "
            "for ReadWriteOnce or ReadWriteOncePod"
        )
    if claim.spec.data_source:
        return f"{PROVISIONER} makes empty directories: dataSource is not possible"
    return ""


def _cannot_place(claim: Claim, node: Node | None) -> str:
    if SELECTED_NODE not in claim.metadata.annotations:
        return (
            f"{PROVISIONER} must know the node first: give the StorageClass the volumeBindingMode "
            "WaitForFirstConsumer"
        )
    if node is None:
        return f"the node {claim.metadata.annotations[SELECTED_NODE]} does not exist any more"
    if VOLUMES_DIR not in node.metadata.annotations:
        return f"the node {node.metadata.name} does not keep volumes: it has no {VOLUMES_DIR}"
    return ""


def volume_for(claim: Claim, named: StorageClass, node: Node) -> Object:
    """Return the volume; its name follows from the claim's uid, so that it is made only once."""
    meta = claim.metadata
    name = f"pvc-{meta.uid}"
    host = node.metadata.labels.get(HOSTNAME, node.metadata.name)
    match = {"key": HOSTNAME, "operator": "In", "values": [host]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {VOLUME_NODE: node.metadata.name},
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [PROTECTION, LOCAL_VOLUME],
        },
        "spec": {
            "capacity": {"storage": claim.spec.resources.requests.get("storage", "0")},
            "accessModes": claim.spec.access_modes,
            "persistentVolumeReclaimPolicy": named.reclaim_policy,
            "storageClassName": named.metadata.name,
            "volumeMode": "Filesystem",
            "claimRef": claim_reference(claim),
            "local": {"path": f"{node.metadata.annotations[VOLUMES_DIR]}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [match]}]}},
        },
    }


def claim_reference(claim: Claim) -> Object:
    meta = claim.metadata
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
    }
