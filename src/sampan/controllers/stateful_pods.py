"""The Pods of a StatefulSet and their claims: who they are, and what they are made of."""

import re
from collections.abc import Iterator
from typing import Final

from sampan.api.objects import Object, Pod, Resource
from sampan.client.interface import PatchType
from sampan.controllers.history import HASH, template_of
from sampan.controllers.plan import Patch
from sampan.controllers.replicaset import pod_from_template
from sampan.controllers.views import reference
from sampan.controllers.views_apps import ControllerRevision, StatefulSet
from sampan.controllers.views_storage import Claim

POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
POD_INDEX: Final = "apps.kubernetes.io/pod-index"
_NAME: Final = re.compile(r"(.*)-([0-9]+)")


def ordinal(sts: StatefulSet, pod: Pod) -> int | None:
    """Return the number in the name of a Pod of this set; None for any other name."""
    match = _NAME.fullmatch(pod.metadata.name)
    return int(match[2]) if match and match[1] == sts.metadata.name else None


def pod_name(sts: StatefulSet, number: int) -> str:
    return f"{sts.metadata.name}-{number}"


def claim_names(sts: StatefulSet, number: int) -> dict[str, str]:
    """Return the names of a replica's claims by the name of their template."""
    templates = (template["metadata"]["name"] for template in sts.spec.volume_claim_templates)
    return {name: f"{name}-{pod_name(sts, number)}" for name in templates}


def identity(sts: StatefulSet, number: int) -> dict[str, str]:
    """Return the labels that tell a Pod's place in its set."""
    return {POD_NAME: pod_name(sts, number), POD_INDEX: str(number)}


def new_pod(sts: StatefulSet, revision: ControllerRevision, number: int) -> Object:
    pod = pod_from_template(sts, template_of(revision))
    meta, spec = pod["metadata"], pod["spec"]
    del meta["generateName"]
    labels = {**identity(sts, number), HASH: revision.metadata.name}
    meta |= {
        "name": pod_name(sts, number),
        "labels": {**(meta.get("labels") or {}), **labels},
    }
    claims = claim_names(sts, number)
    own = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
        for volume, claim in claims.items()
    ]
    others = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
    pod["spec"] = {**spec, "hostname": meta["name"]}
    if sts.spec.service_name:
        pod["spec"]["subdomain"] = sts.spec.service_name
    if own or others:
        pod["spec"]["volumes"] = [*own, *others]
    return pod


def new_claim(sts: StatefulSet, template: Object, name: str) -> Object:
    meta = template["metadata"]
    selected = sts.spec.selector.get("matchLabels") or {}
    made: Object = {
        "name": name,
        "namespace": sts.metadata.namespace,
        "labels": {**(meta.get("labels") or {}), **selected},
    }
    if meta.get("annotations"):
        made["annotations"] = meta["annotations"]
    if sts.spec.persistent_volume_claim_retention_policy.when_deleted == "Delete":
        made["ownerReferences"] = [reference(sts)]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": made,
        "spec": template.get("spec") or {},
    }


def kept_claim(sts: StatefulSet, pod: Pod, claim: Claim, *, given_up: bool) -> Iterator[Patch]:
    """Make *claim* go with the set or with a Pod that is *given_up*, as the set's policy says."""
    policy = sts.spec.persistent_volume_claim_retention_policy
    with_pod = given_up and policy.when_scaled == "Delete"
    with_set = policy.when_deleted == "Delete" and not with_pod
    changes: list[Object] = []
    for owner, wanted in ((sts, with_set), (pod, with_pod)):
        if wanted is not owns(owner, claim):
            change = reference(owner) if wanted else {"$patch": "delete", "uid": owner.metadata.uid}
            changes.append(change)
    if changes:
        meta = {"uid": claim.metadata.uid, "ownerReferences": changes}
        yield Patch(claim, {"metadata": meta}, how=PatchType.STRATEGIC)


def owns(owner: Resource, obj: Resource) -> bool:
    return any(ref.uid == owner.metadata.uid for ref in obj.metadata.owner_references)


def stale(name: str, claim: Claim) -> bool:
    """Whether *claim* goes with an earlier Pod called *name*, and so is about to vanish."""
    owners = claim.metadata.owner_references
    return any((ref.kind, ref.name) == (Pod.KIND.kind, name) for ref in owners)
