"""What a Pod asks of a node, read once for all Pods that ask the same."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from sampan.api.images import normalised
from sampan.api.objects import Resources, Toleration
from sampan.api.quantities import Quantity, milli, whole
from sampan.api.selectors import Requirement, Selector
from sampan.scheduler.terms import PodTerm, Spread, Term, Weighted, Who, pod_term, spread
from sampan.scheduler.views import Container, Pod, PodSpec

HOSTNAME: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"

PLACEMENT: Final = "sampan.io/placement"
"""A Pod's annotation: the word for how to choose among nodes."""

GPU_SHARE: Final = "sampan.io/gpu-milli"
"""The resource that asks for thousandths of one GPU."""
WHOLE_GPU: Final = 1000

WEIGHED_CPU: Final = 100
WEIGHED_MEMORY: Final = 200 * 1024**2
"""What a container that asks for nothing weighs in scores (kube-scheduler's own defaults)."""

LARGEST: Final = 2**53
"""More of anything counts as this much, so that no sum of absurd requests leaves int64."""

REMEMBERED: Final = 4096
"""How many different demands are kept ready."""


class NodeTerm(Struct, frozen=True):
    """Nodes with these labels and fields; a term without any of them means no node."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()


class HostPort(Struct, frozen=True):
    protocol: str
    port: int
    ip: str


class Volumes(Struct, frozen=True):
    """What a Pod's claims ask, resolved (see `storage`)."""

    blocked: str = ""
    """Why no node will do, whatever it is."""
    nodes: tuple[tuple[str, tuple[NodeTerm, ...]], ...] = ()
    """For each volume: why a node is wrong that none of the terms means."""
    attached: tuple[tuple[str, int], ...] = ()
    """How many attachments of each driver."""
    unbound: bool = False
    """Whether a claim waits for the choice of a node."""


NO_VOLUMES: Final = Volumes()

ATTACHMENT: Final = "attachable-volumes-csi-"


def attachment(driver: str) -> str:
    """Return the name of the resource that volumes of *driver* count as."""
    return ATTACHMENT + driver


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods with the same *signature* have equal demands. CPU in thousandths, memory in bytes."""

    signature: bytes
    who: Who
    labels: Mapping[str, str]
    requests: Mapping[str, int]
    weighed: tuple[int, int]
    priority: int = 0
    preempts: bool = True
    node_selector: tuple[Requirement, ...] = ()
    required_nodes: tuple[NodeTerm, ...] | None = None
    preferred_nodes: tuple[tuple[int, NodeTerm], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    ports: tuple[HostPort, ...] = ()
    images: tuple[str, ...] = ()
    spreads: tuple[Spread, ...] = ()
    affinity: tuple[PodTerm, ...] = ()
    anti_affinity: tuple[PodTerm, ...] = ()
    preferred_pods: tuple[Weighted, ...] = ()
    volumes: Volumes = NO_VOLUMES
    gpus: tuple[int, int] = (0, 0)
    """How many GPUs, and how many thousandths of each; 0 is all of it."""
    scheduler: str = ""
    placement: str = ""
    """The word for how to choose among nodes, "" for the profile's own."""


@dataclass(slots=True)
class Demands:
    """Reads Pods, and remembers what it has read by signature."""

    _known: OrderedDict[bytes, Demand] = field(default_factory=OrderedDict)

    def of(self, pod: Pod, together: Term | None = None, volumes: Volumes = NO_VOLUMES) -> Demand:
        """Return *pod*'s demand; *together* are the Pods that it spreads from by default.

        *volumes* is what its claims ask, as things are now.
        """
        signature = signature_of(pod, together, volumes)
        found = self._known.get(signature)
        if found is None:
            found = self._known[signature] = read(pod, signature, together, volumes)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


_encode: Final = msgspec.msgpack.Encoder().encode


def signature_of(pod: Pod, together: Term | None = None, volumes: Volumes = NO_VOLUMES) -> bytes:
    """Return bytes that are equal for Pods that place alike, wherever they are bound by now."""
    spec = pod.spec
    if spec.node_name or spec.volumes:
        spec = msgspec.structs.replace(spec, node_name="", volumes=[])
    meta = pod.metadata
    selector = together.selector if together else None
    word = meta.annotations.get(PLACEMENT, "")
    return _encode((meta.namespace, meta.labels, pod.owner, selector, spec, volumes, word))


def read(
    pod: Pod, signature: bytes, together: Term | None = None, volumes: Volumes = NO_VOLUMES
) -> Demand:
    spec, meta = pod.spec, pod.metadata
    affinity = spec.affinity or {}
    nodes = affinity.get("nodeAffinity") or {}
    beside = affinity.get("podAffinity") or {}
    apart = affinity.get("podAntiAffinity") or {}
    requests = requests_of(spec) | dict(volumes.attached)
    word = meta.annotations.get(PLACEMENT, "")
    spreads = tuple(
        spread(raw, meta.namespace, meta.labels) for raw in spec.topology_spread_constraints
    )
    return Demand(
        signature=signature,
        who=Who(meta.namespace, tuple(sorted(meta.labels.items())), pod.owner),
        labels=meta.labels,
        requests=requests,
        weighed=_weighed(spec, requests),
        priority=spec.priority,
        preempts=spec.preemption_policy != "Never",
        node_selector=tuple(
            Requirement(key, "In", (value,)) for key, value in spec.node_selector.items()
        ),
        required_nodes=_required_nodes(nodes.get(_REQUIRED)),
        preferred_nodes=tuple(
            (term["weight"], node_term(term.get("preference") or {}))
            for term in nodes.get(_PREFERRED) or ()
        ),
        tolerations=tuple(spec.tolerations),
        ports=tuple(_host_ports(spec)),
        images=tuple(dict.fromkeys(normalised(c.image) for c in spec.containers if c.image)),
        spreads=spreads or default_spreads(pod, together),
        affinity=_pod_terms(beside.get(_REQUIRED), pod),
        anti_affinity=_pod_terms(apart.get(_REQUIRED), pod),
        preferred_pods=(
            *_preferred_pods(beside.get(_PREFERRED), pod, 1),
            *_preferred_pods(apart.get(_PREFERRED), pod, -1),
        ),
        volumes=volumes,
        gpus=gpus_of(requests),
        scheduler=spec.scheduler_name,
        placement=word,
    )


_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def is_gpu(resource: str) -> bool:
    return resource.endswith("/gpu")


def gpus_of(requests: Mapping[str, int]) -> tuple[int, int]:
    """Return how many GPUs are asked for, and how many thousandths of each (0: all of it)."""
    if whole := sum(number for name, number in requests.items() if is_gpu(name)):
        return whole, 0
    share = requests.get(GPU_SHARE, 0)
    if share >= WHOLE_GPU:
        return -(-share // WHOLE_GPU), 0
    return (1, share) if share else (0, 0)


def default_spreads(pod: Pod, together: Term | None) -> tuple[Spread, ...]:
    """Return the soft constraints of a Pod that has none: apart by host, then by zone.

    The skews are those of kube-scheduler's default constraints; they make a first difference of
    hosts count more than one of zones.
    """
    term = Term(owner=pod.owner) if pod.owner else together
    if term is None:
        return ()
    return (
        Spread(HOSTNAME, 3, hard=False, term=term, by_default=True),
        Spread(ZONE, 5, hard=False, term=term, by_default=True),
    )


def together_by(namespace: str, selectors: Iterable[Mapping[str, str]]) -> Term | None:
    """Return the Pods that are behind all of the Services with *selectors*, None without any."""
    wanted = {Requirement(key, "In", (value,)) for each in selectors for key, value in each.items()}
    if not wanted:
        return None
    ordered = sorted(wanted, key=lambda requirement: (requirement.key, requirement.values))
    return Term(frozenset({namespace}), Selector(tuple(ordered)))


def node_term(raw: Mapping[str, Any]) -> NodeTerm:
    return NodeTerm(
        tuple(map(_requirement, raw.get("matchExpressions") or ())),
        tuple(map(_requirement, raw.get("matchFields") or ())),
    )


def _requirement(raw: Mapping[str, Any]) -> Requirement:
    return Requirement(raw["key"], raw["operator"], tuple(raw.get("values") or ()))


def _required_nodes(raw: Mapping[str, Any] | None) -> tuple[NodeTerm, ...] | None:
    if raw is None:
        return None
    return tuple(map(node_term, raw.get("nodeSelectorTerms") or ()))


def _pod_terms(raw: Sequence[Mapping[str, Any]] | None, pod: Pod) -> tuple[PodTerm, ...]:
    meta = pod.metadata
    return tuple(pod_term(term, meta.namespace, meta.labels) for term in raw or ())


def _preferred_pods(
    raw: Sequence[Mapping[str, Any]] | None, pod: Pod, sign: int
) -> Iterable[Weighted]:
    meta = pod.metadata
    for wish in raw or ():
        term = pod_term(wish.get("podAffinityTerm") or {}, meta.namespace, meta.labels)
        yield Weighted(sign * int(wish["weight"]), term)


def _host_ports(spec: PodSpec) -> Iterable[HostPort]:
    sidecars = [c for c in spec.init_containers if c.restart_policy == "Always"]
    for container in (*spec.containers, *sidecars):
        for port in container.ports:
            if port.host_port:
                yield HostPort(port.protocol, port.host_port, port.host_ip or "0.0.0.0")


@lru_cache(maxsize=16_384)
def amount(resource: str, quantity: Quantity) -> int:
    exact = milli(quantity) if resource == "cpu" else whole(quantity)
    return min(exact, LARGEST)


def amounts(quantities: Mapping[str, Quantity]) -> dict[str, int]:
    """Return whole amounts: CPU in thousandths, everything else in its own unit."""
    return {name: amount(name, quantity) for name, quantity in quantities.items()}


def requests_of(spec: PodSpec) -> dict[str, int]:
    """Return what a Pod needs at its hungriest, overhead and the Pod itself included.

    Init containers run one after another beside the sidecars that started before them; a request
    for the Pod as a whole replaces the sum. Source: Kubernetes, "Sidecar containers", resource
    sharing within containers, and "Assign Pod-level CPU and memory resources".
    """
    return _hungriest(spec, lambda container: _asked(container.resources))


def _weighed(spec: PodSpec, requests: Mapping[str, int]) -> tuple[int, int]:
    """Return CPU and memory for scores; who asks for nothing is not taken to need nothing."""
    if requests.get("cpu") and requests.get("memory"):
        return requests["cpu"], requests["memory"]
    guessed = _hungriest(spec, _guessed)
    return guessed.get("cpu", 0), guessed.get("memory", 0)


def _guessed(container: Container) -> dict[str, int]:
    asked = _asked(container.resources)
    return {"cpu": WEIGHED_CPU, "memory": WEIGHED_MEMORY} | {k: v for k, v in asked.items() if v}


def _asked(resources: Resources) -> dict[str, int]:
    """A limit without a request is a request, as in Kubernetes' defaults."""
    return amounts({**resources.limits, **resources.requests})


def _hungriest(spec: PodSpec, of: Any) -> dict[str, int]:
    peak: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for container in spec.init_containers:
        asked = of(container)
        if container.restart_policy == "Always":
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            _raise(peak, _sum(asked, sidecars))
    running = dict(sidecars)
    for container in spec.containers:
        _add(running, of(container))
    _raise(peak, running)
    peak |= _asked(spec.resources)
    _add(peak, amounts(spec.overhead))
    peak["pods"] = 1
    return peak


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    total = dict(one)
    _add(total, other)
    return total


def _raise(peak: dict[str, int], to: Mapping[str, int]) -> None:
    for name, value in to.items():
        peak[name] = max(peak.get(name, 0), value)
