"""What a Pod's claims mean for where it can run, and which volumes its claims take there.

Claims are resolved into `Volumes` before the Pod is placed: terms about nodes, and attachments that
count like any other resource. So Pods whose volumes ask the same of a node still place as one, and
the rules need not know a claim from a volume.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct, field

from sampan.api import kinds
from sampan.api.objects import Object, Resource, View
from sampan.api.quantities import Quantity, whole
from sampan.api.selectors import Requirement, from_label_selector
from sampan.scheduler.demand import NO_VOLUMES, NodeTerm, Volumes, attachment, node_term
from sampan.scheduler.views import Pod

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
STATIC_ONLY: Final = "kubernetes.io/no-provisioner"
ZONE_LABELS: Final = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
CONFLICT: Final = "node(s) didn't match PersistentVolume's node affinity"
NO_ZONE: Final = "node(s) had no available volume zone"
NONE_TO_BIND: Final = "node(s) didn't find available persistent volumes to bind"
IMMEDIATE: Final = "pod has unbound immediate PersistentVolumeClaims"
IN_USE: Final = (
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)
"""kube-scheduler's own words."""


class ClaimSpec(View):
    access_modes: list[str] = field(default_factory=list)
    resources: Object = field(default_factory=dict)
    volume_name: str = ""
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    selector: Object | None = None


class Phased(View):
    phase: str = ""


class Claim(Resource):
    KIND = kinds.PERSISTENT_VOLUME_CLAIMS
    spec: ClaimSpec = ClaimSpec()
    status: Phased = Phased()

    @property
    def bound(self) -> bool:
        return bool(self.spec.volume_name) and (
            self.status.phase == "Bound" or BIND_COMPLETED in self.metadata.annotations
        )

    @property
    def size(self) -> int:
        return _bytes((self.spec.resources.get("requests") or {}).get("storage", 0))


class VolumeSpec(View):
    capacity: dict[str, Quantity] = field(default_factory=dict)
    access_modes: list[str] = field(default_factory=list)
    claim_ref: Object | None = None
    storage_class_name: str = ""
    volume_mode: str = "Filesystem"
    node_affinity: Object = field(default_factory=dict)
    csi: Object = field(default_factory=dict)


class Volume(Resource):
    KIND = kinds.PERSISTENT_VOLUMES
    spec: VolumeSpec = VolumeSpec()
    status: Phased = Phased()

    @property
    def size(self) -> int:
        return _bytes(self.spec.capacity.get("storage", 0))


class StorageClass(Resource):
    KIND = kinds.BY_GVK["storage.k8s.io/v1", "StorageClass"]
    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    allowed_topologies: list[Object] = field(default_factory=list)


class CsiNodeSpec(View):
    drivers: list[Object] = field(default_factory=list)


class CsiNode(Resource):
    KIND = kinds.BY_GVK["storage.k8s.io/v1", "CSINode"]
    spec: CsiNodeSpec = CsiNodeSpec()

    @property
    def limits(self) -> dict[str, int]:
        """How many volumes of each driver the node can have attached, by resource."""
        counts = {
            driver["name"]: (driver.get("allocatable") or {}).get("count")
            for driver in self.spec.drivers
        }
        return {attachment(name): int(n) for name, n in counts.items() if n is not None}


class Choice(Struct, frozen=True):
    """What becomes of one unbound claim: *volume* is taken, or with "" one is made for the node."""

    claim: Claim
    volume: str


@dataclass(frozen=True, slots=True)
class _Offer:
    """Where one unbound claim could be satisfied: by existing volumes, or by a new one."""

    volumes: tuple[Volume, ...]
    made: tuple[NodeTerm, ...] | None
    """Nodes for which a volume can be made; None if none can, () for all."""


class Storage:
    """Claims, volumes and classes, and which Pods use which claims."""

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}
        self.volumes: dict[str, Volume] = {}
        self.classes: dict[str, StorageClass] = {}
        self.users: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        """The Pods that name each claim, by its key and their uid."""
        self.placed: set[str] = set()
        """Which of them have a node, or are assumed to."""
        self.taken: dict[str, str] = {}
        """Volumes that claims (by key) were given a moment ago, before the API knows."""
        self._of_class: defaultdict[str, dict[str, None]] = defaultdict(dict)

    # ---- what there is

    def set_claim(self, key: str, claim: Claim | None) -> None:
        if claim is None:
            self.claims.pop(key, None)
        else:
            self.claims[key] = claim

    def set_volume(self, name: str, volume: Volume | None) -> None:
        if old := self.volumes.pop(name, None):
            self._of_class[old.spec.storage_class_name].pop(name, None)
        if volume is not None:
            self.volumes[name] = volume
            self._of_class[volume.spec.storage_class_name][name] = None
        if volume is None or volume.spec.claim_ref:
            self.taken.pop(name, None)

    def know(self, pod: Pod) -> None:
        for key in claim_keys(pod):
            self.users[key][pod.metadata.uid] = pod

    def forget(self, pod: Pod) -> None:
        self.placed.discard(pod.metadata.uid)
        for key in claim_keys(pod):
            self.users[key].pop(pod.metadata.uid, None)
            if not self.users[key]:
                del self.users[key]

    # ---- what a Pod needs

    def needs(self, pod: Pod) -> Volumes:
        """Resolve *pod*'s claims as things are now."""
        if not pod.spec.volumes:
            return NO_VOLUMES
        nodes: list[tuple[str, tuple[NodeTerm, ...]]] = []
        attached: dict[str, int] = {}
        unbound = False
        for key in claim_keys(pod):
            if blocked := self._blocked(key, pod):
                return Volumes(blocked=blocked)
            claim = self.claims[key]
            if not claim.bound:
                unbound = True
                nodes.append((NONE_TO_BIND, self._choices(key, claim)))
                _count(attached, self.classes[claim.spec.storage_class_name].provisioner)
            elif volume := self.volumes.get(claim.spec.volume_name):
                nodes += _where(volume)
                _count(attached, volume.spec.csi.get("driver", ""))
            else:
                text = "unavailable due to one or more pvc(s) bound to non-existent pv(s)"
                return Volumes(blocked=f"node(s) {text}")
        return Volumes("", tuple(dict.fromkeys(nodes)), tuple(sorted(attached.items())), unbound)

    def _blocked(self, key: str, pod: Pod) -> str:
        """Say why no node at all can have a Pod because of one of its claims, "" if some can."""
        claim = self.claims.get(key)
        name = key.partition("/")[2]
        if claim is None:
            if name in _ephemeral(pod):
                return (
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim "
                    f'"{name}"'
                )
            return f'persistentvolumeclaim "{name}" not found'
        if claim.metadata.deleting:
            return f'persistentvolumeclaim "{name}" is being deleted'
        if not claim.bound and not self._waits(claim):
            return IMMEDIATE
        if self._in_use(key, claim, pod):
            return IN_USE
        return ""

    def _waits(self, claim: Claim) -> bool:
        """Say whether *claim* is bound only when a Pod that uses it has a node."""
        found = self.classes.get(claim.spec.storage_class_name)
        waits = found is not None and found.volume_binding_mode == "WaitForFirstConsumer"
        return waits and not claim.spec.volume_name

    def _in_use(self, key: str, claim: Claim, pod: Pod) -> bool:
        return "ReadWriteOncePod" in claim.spec.access_modes and any(
            uid in self.placed for uid in self.users.get(key, ()) if uid != pod.metadata.uid
        )

    def _choices(self, key: str, claim: Claim) -> tuple[NodeTerm, ...]:
        offer = self._offer(key, claim)
        terms: dict[NodeTerm, None] = {}
        if offer.made is not None:
            terms.update(dict.fromkeys(offer.made or (EVERY_NODE,)))
        for volume in offer.volumes:
            terms.update(dict.fromkeys(_terms(volume) or (EVERY_NODE,)))
        return (EVERY_NODE,) if EVERY_NODE in terms else tuple(terms)

    def _offer(self, key: str, claim: Claim) -> _Offer:
        named = self.classes[claim.spec.storage_class_name]
        if chosen := claim.metadata.annotations.get(SELECTED_NODE):
            return _Offer((), (_named(chosen),))  # a volume is being made there already
        fitting = [v for v in self._free(key, named.metadata.name) if _satisfies(v, claim)]
        fitting.sort(key=lambda volume: (volume.spec.claim_ref is None, volume.size))
        if named.provisioner in {"", STATIC_ONLY}:
            return _Offer(tuple(fitting), None)
        return _Offer(tuple(fitting), tuple(_topologies(named)))

    def _free(self, key: str, class_name: str) -> Iterator[Volume]:
        """Yield the volumes of a class that a claim may take."""
        for name in self._of_class.get(class_name, ()):
            volume, ref = self.volumes[name], self.volumes[name].spec.claim_ref
            promised = self.taken.get(name)
            if promised is not None and promised != key:
                continue
            if ref and f"{ref.get('namespace')}/{ref.get('name')}" != key:
                continue
            if not volume.metadata.deleting and volume.status.phase in {"", "Available", "Pending"}:
                yield volume

    # ---- what it takes

    def choose(self, pod: Pod, node: str, labels: Mapping[str, str]) -> list[Choice] | None:
        """Take a volume on *node* for each unbound claim; None if things have changed too much."""
        chosen: list[Choice] = []
        for key in claim_keys(pod):
            claim = self.claims.get(key)
            if claim is None or self._in_use(key, claim, pod):
                break
            if not claim.bound:
                name = self._take(key, claim, node, labels)
                if name is None:
                    break
                chosen.append(Choice(claim, name))
        else:
            return chosen
        for choice in chosen:
            self.taken.pop(choice.volume, None)
        return None

    def _take(self, key: str, claim: Claim, node: str, labels: Mapping[str, str]) -> str | None:
        if not self._waits(claim):
            return None
        offer = self._offer(key, claim)
        for volume in offer.volumes:
            if on_node(_terms(volume), node, labels):
                self.taken[volume.metadata.name] = key
                return volume.metadata.name
        return "" if offer.made is not None and on_node(offer.made, node, labels) else None

    def give_back(self, chosen: Iterable[Choice]) -> None:
        for choice in chosen:
            self.taken.pop(choice.volume, None)


EVERY_NODE: Final = NodeTerm((Requirement("kubernetes.io/no-such-label", "DoesNotExist"),))


def claim_keys(pod: Pod) -> list[str]:
    """Return the keys of the claims that *pod* names, and of those made for it."""
    keys = []
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim:
            keys.append(str(volume.persistent_volume_claim.get("claimName", "")))
        elif volume.ephemeral:
            keys.append(f"{pod.metadata.name}-{volume.name}")
    return [f"{pod.metadata.namespace}/{name}" for name in dict.fromkeys(keys)]


def on_node(terms: Iterable[NodeTerm], node: str, labels: Mapping[str, str]) -> bool:
    """Say whether any of *terms* means a node; no term at all means every node."""
    terms = tuple(terms)
    return not terms or any(
        all(r.matches(labels) for r in term.labels)
        and all(r.matches({"metadata.name": node}) for r in term.fields)
        for term in terms
    )


def _ephemeral(pod: Pod) -> set[str]:
    return {f"{pod.metadata.name}-{v.name}" for v in pod.spec.volumes if v.ephemeral}


def _named(node: str) -> NodeTerm:
    return NodeTerm(fields=(Requirement("metadata.name", "In", (node,)),))


def _terms(volume: Volume) -> tuple[NodeTerm, ...]:
    required = volume.spec.node_affinity.get("required") or {}
    return tuple(map(node_term, required.get("nodeSelectorTerms") or ()))


def _where(volume: Volume) -> Iterator[tuple[str, tuple[NodeTerm, ...]]]:
    """Yield where a bound volume can be used, with the reason why it cannot elsewhere."""
    if terms := _terms(volume):
        yield CONFLICT, terms
    for key in ZONE_LABELS:
        if value := volume.metadata.labels.get(key):
            zones = tuple(sorted(value.split("__")))
            yield NO_ZONE, (NodeTerm((Requirement(key, "In", zones),)),)


def _topologies(named: StorageClass) -> Iterator[NodeTerm]:
    for term in named.allowed_topologies:
        expressions = term.get("matchLabelExpressions") or ()
        yield NodeTerm(
            tuple(Requirement(e["key"], "In", tuple(e.get("values") or ())) for e in expressions)
        )


def _satisfies(volume: Volume, claim: Claim) -> bool:
    selector = from_label_selector(claim.spec.selector)
    return (
        volume.size >= claim.size
        and volume.spec.volume_mode == claim.spec.volume_mode
        and set(claim.spec.access_modes) <= set(volume.spec.access_modes)
        and (selector is None or selector.matches(volume.metadata.labels))
    )


def _count(attached: dict[str, int], driver: Any) -> None:
    if driver and driver != STATIC_ONLY:
        name = attachment(str(driver))
        attached[name] = attached.get(name, 0) + 1


def _bytes(quantity: Quantity) -> int:
    try:
        return whole(quantity)
    except ValueError:
        return 0
