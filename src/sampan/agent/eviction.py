"""Which Pod has to go when the node runs short, or has taken more disk than it may; pure.

The order is that of the Kubernetes documentation ("Node-pressure Eviction"): first those that use
more than they asked for, among them the lower priority, then who exceeds its request the most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from sampan.agent.machine import Headroom
from sampan.agent.spec import ContainerSpec, NodePod
from sampan.api.objects import Object
from sampan.api.quantities import whole

Resource = Literal["memory", "ephemeral-storage", "pids"]
CRITICAL: Final = 2_000_000_000
"""From this priority on Pods belong to the system, and are not evicted."""
_MIRROR: Final = "kubernetes.io/config.mirror"


class Limits(Struct, frozen=True, kw_only=True):
    """The least that must be left: bytes of memory and disk, and process ids."""

    memory: int
    disk: int
    pids: int


class PodUsage(Struct, frozen=True, kw_only=True):
    """What one Pod uses, in bytes; of its containers and its scratch volumes, by name."""

    memory: Mapping[str, int] = {}
    disk: Mapping[str, int] = {}
    volumes: Mapping[str, int] = {}
    processes: int = 0

    def of(self, resource: Resource) -> int:
        if resource == "pids":
            return self.processes
        if resource == "memory":
            return sum(self.memory.values())
        return sum(self.disk.values()) + sum(self.volumes.values())


class Eviction(Struct, frozen=True):
    uid: str
    why: str


def shortage(left: Headroom, least: Limits) -> tuple[Resource, int, int] | None:
    """Say what the node is short of, how much must be left and how much is; memory comes first."""
    signals: tuple[tuple[Resource, int, int], ...] = (
        ("memory", least.memory, left.memory),
        ("ephemeral-storage", least.disk, left.disk),
        ("pids", least.pids, left.pids),
    )
    return next((signal for signal in signals if signal[2] < signal[1]), None)


def victim(
    short: tuple[Resource, int, int], pods: Iterable[NodePod], used: Mapping[str, PodUsage]
) -> Eviction | None:
    """Choose who goes; None if nobody may."""
    resource, least, left = short
    able = [pod for pod in pods if pod.uid in used and evictable(pod)]
    if not able:
        return None
    first = min(able, key=lambda pod: _rank(resource, pod, used[pod.uid]))
    unit = "" if resource == "pids" else "Ki"
    amounts = (least, left) if resource == "pids" else (least >> 10, left >> 10)
    why = f"The node was low on resource: {resource}. "
    why += f"Threshold quantity: {amounts[0]}{unit}, available: {amounts[1]}{unit}. "
    return Eviction(first.uid, (why + "".join(_blame(resource, first, used[first.uid]))).strip())


def evictable(pod: NodePod) -> bool:
    own = _MIRROR in pod.metadata.annotations
    return not (pod.finished or pod.metadata.deleting or own or pod.spec.priority >= CRITICAL)


def _rank(resource: Resource, pod: NodePod, used: PodUsage) -> tuple[bool, int, int]:
    excess = used.of(resource) - _requested(resource, pod)
    within = excess <= 0 and resource != "pids"
    return (within, pod.spec.priority, -excess)


def _requested(resource: Resource, pod: NodePod) -> int:
    return sum(_request(resource, container) for container in pod.own_containers)


def _request(resource: Resource, container: ContainerSpec) -> int:
    amounts = container.resources
    default = amounts.limits.get(resource, 0)
    return whole(amounts.requests.get(resource, default))


def _blame(resource: Resource, pod: NodePod, used: PodUsage) -> Iterator[str]:
    table = {"memory": used.memory, "ephemeral-storage": used.disk}.get(resource, {})
    for container in pod.own_containers:
        request, amount = _request(resource, container), table.get(container.name, 0)
        if amount > request:
            yield (
                f"Container {container.name} was using {amount >> 10}Ki, request is "
                f"{request >> 10}Ki, has larger consumption of {resource}. "
            )


def over_limit(pod: NodePod, used: PodUsage) -> str:
    """Say which limit of local storage a Pod exceeds, as kubelets word it; "" if none."""
    for volume in pod.spec.volumes:
        size = size_limit(volume)
        if size and used.volumes.get(volume["name"], 0) > size:
            limit = volume["emptyDir"]["sizeLimit"]
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    limits = {c.name: c.resources.limits.get("ephemeral-storage") for c in pod.own_containers}
    for name, limit in limits.items():
        if limit is not None and used.disk.get(name, 0) > whole(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    amounts = [limit for limit in limits.values() if limit is not None]
    total = sum(map(whole, amounts))
    if amounts and len(amounts) == len(limits) and used.of("ephemeral-storage") > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    return ""


def size_limit(volume: Object) -> int:
    """What a scratch volume on disk may hold; 0 if all that there is."""
    source = volume.get("emptyDir") or {}
    on_disk = "emptyDir" in volume and source.get("medium") != "Memory"
    return whole(source["sizeLimit"]) if on_disk and source.get("sizeLimit") else 0


def is_limited(pod: NodePod) -> bool:
    """Whether there is a limit of local storage to be watched."""
    limits: Sequence[object] = [
        c.resources.limits.get("ephemeral-storage") for c in pod.own_containers
    ]
    return any(limits) or any(size_limit(volume) for volume in pod.spec.volumes)
