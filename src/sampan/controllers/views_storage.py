"""What controllers read of claims, volumes and storage classes."""

from collections.abc import Iterable
from typing import Any

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import Condition, Object, Pod, Resource, Resources, View
from sampan.api.quantities import Quantity, whole

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"


class ClaimSpec(View):
    access_modes: list[str] = field(default_factory=list)
    resources: Resources = Resources()
    volume_name: str = ""
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    selector: Object | None = None
    data_source: Object | None = None


class ClaimStatus(View):
    phase: str = ""
    access_modes: list[str] = field(default_factory=list)
    capacity: dict[str, Quantity] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)


class Claim(Resource):
    KIND = kinds.PERSISTENT_VOLUME_CLAIMS
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def bound(self) -> bool:
        return bool(self.spec.volume_name) and BIND_COMPLETED in self.metadata.annotations

    @property
    def size(self) -> int:
        return whole(self.spec.resources.requests.get("storage", 0))


class ClaimReference(View):
    namespace: str = ""
    name: str = ""
    uid: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class VolumeSpec(View):
    capacity: dict[str, Quantity] = field(default_factory=dict)
    access_modes: list[str] = field(default_factory=list)
    claim_ref: ClaimReference | None = None
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    persistent_volume_reclaim_policy: str = "Retain"
    node_affinity: Object = field(default_factory=dict)


class VolumeStatus(View):
    phase: str = ""
    message: str = ""


class Volume(Resource):
    KIND = kinds.PERSISTENT_VOLUMES
    spec: VolumeSpec = VolumeSpec()
    status: VolumeStatus = VolumeStatus()

    @property
    def size(self) -> int:
        return whole(self.spec.capacity.get("storage", 0))


class StorageClass(Resource):
    KIND = kinds.STORAGE_CLASSES
    provisioner: str = ""
    reclaim_policy: str = "Delete"
    volume_binding_mode: str = "Immediate"
    allow_volume_expansion: bool = False

    @property
    def waits(self) -> bool:
        return self.volume_binding_mode == "WaitForFirstConsumer"


def by_claim(obj: Any) -> Iterable[str]:
    """Index Pods by the claims that they use, and volumes by the claim that has them."""
    if isinstance(obj, Pod):
        return [f"{obj.metadata.namespace}/{name}" for name in claims_of(obj)]
    return [obj.spec.claim_ref.key] if obj.spec.claim_ref else []


def by_volume(claim: Claim) -> Iterable[str]:
    return (claim.spec.volume_name,) if claim.spec.volume_name else ()


def claims_of(pod: Pod) -> list[str]:
    """Return the names of the claims that *pod* uses, those made for it alone included."""
    return [
        volume.persistent_volume_claim.claim_name
        if volume.persistent_volume_claim
        else f"{pod.metadata.name}-{volume.name}"
        for volume in pod.spec.volumes
        if volume.persistent_volume_claim or volume.ephemeral
    ]
