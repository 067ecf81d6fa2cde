"""How many replicas each ReplicaSet of a Deployment should have: arithmetic only.

Sizes are planned on a `Fleet`, a mutable draft of what the sets ask for; whoever drafted reads
the difference back as writes. The rules are those of Kubernetes' Deployment controller
(its documentation, "Rolling Update Deployment", "Proportional scaling").
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sampan.api.objects import IntOrString
from sampan.controllers.views import Deployment, ReplicaSet

DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"


@dataclass(frozen=True, slots=True)
class Bounds:
    """*desired* Pods, at most *ceiling* in all, at least *floor* of them available."""

    desired: int
    ceiling: int
    floor: int


def bounds(deployment: Deployment) -> Bounds:
    """Resolve maxSurge (rounded up) and maxUnavailable (down); both zero means one unavailable."""
    desired = deployment.spec.replicas
    strategy = deployment.spec.strategy
    if strategy.type != "RollingUpdate":
        return Bounds(desired, desired, desired)
    rolling = strategy.rolling_update
    surge = _resolve(rolling.max_surge if rolling else "25%", desired, up=True)
    missing = _resolve(rolling.max_unavailable if rolling else "25%", desired, up=False)
    if surge == missing == 0:
        missing = 1
    return Bounds(desired, desired + surge, desired - min(missing, desired))


def _resolve(amount: IntOrString, total: int, *, up: bool) -> int:
    if isinstance(amount, int):
        return amount
    share = int(amount.removesuffix("%")) * total
    return -(-share // 100) if up else share // 100


def newest_last(sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    def age(rs: ReplicaSet) -> tuple[float, str]:
        created = rs.metadata.creation_timestamp
        return (created.timestamp() if created else math.inf, rs.metadata.name)

    return sorted(sets, key=age)


class Fleet:
    """The sizes that a Deployment's ReplicaSets should have, starting from what they ask for."""

    def __init__(self, new: ReplicaSet | None, old: Sequence[ReplicaSet], limits: Bounds) -> None:
        self.new = new
        self.old = newest_last(old)
        self.limits = limits
        self.sizes = {rs.metadata.uid: rs.spec.replicas for rs in self.all}

    @property
    def all(self) -> list[ReplicaSet]:
        return [*self.old, *([self.new] if self.new else [])]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    @property
    def room(self) -> int:
        """How many Pods may be added now.

        What a set was told to remove still counts while it runs; until a set has seen its last
        order nobody knows how many it has.
        """
        if any(rs.status.observed_generation < rs.metadata.generation for rs in self.old):
            return 0
        running = sum(max(self.size(rs), rs.status.replicas or 0) for rs in self.all)
        return max(self.limits.ceiling - running, 0)

    def size(self, rs: ReplicaSet) -> int:
        return self.sizes[rs.metadata.uid]

    def resize(self, rs: ReplicaSet, size: int) -> None:
        self.sizes[rs.metadata.uid] = max(size, 0)

    def active(self, sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
        return [rs for rs in sets if self.size(rs) > 0]


def first_size(fleet: Fleet) -> int:
    """Return how large a set for a new template may start, within the surge."""
    return min(fleet.room, fleet.limits.desired)


def roll(fleet: Fleet) -> None:
    """Draft one step of a rolling update: the new set up if there is room, else old ones down."""
    if fleet.new is None:
        return
    size = fleet.size(fleet.new)
    wanted = min(fleet.limits.desired, size + fleet.room)
    if size > fleet.limits.desired or wanted != size:
        fleet.resize(fleet.new, wanted)
    else:
        _shrink_old(fleet, fleet.new)


def _shrink_old(fleet: Fleet, new: ReplicaSet) -> None:
    spare = fleet.total - fleet.limits.floor
    spare -= max(fleet.size(new) - new.status.available_replicas, 0)
    if spare <= 0:
        return
    for rs in fleet.old:
        unhealthy = fleet.size(rs) - min(rs.status.available_replicas, fleet.size(rs))
        cut = min(unhealthy, spare)
        fleet.resize(rs, fleet.size(rs) - cut)
        spare -= cut
    available = sum(min(rs.status.available_replicas, fleet.size(rs)) for rs in fleet.all)
    surplus = available - fleet.limits.floor
    for rs in fleet.old:
        cut = max(min(fleet.size(rs), surplus), 0)
        fleet.resize(rs, fleet.size(rs) - cut)
        surplus -= cut


def empty_old(fleet: Fleet) -> None:
    """Draft the first half of a Recreate: nothing old stays."""
    for rs in fleet.old:
        fleet.resize(rs, 0)


def rescale(fleet: Fleet, deployment: Deployment) -> None:
    """Draft a changed `spec.replicas`: the only live set takes it all, several share it."""
    active = fleet.active(fleet.all)
    if len(active) <= 1:
        latest = fleet.new or (fleet.old[-1] if fleet.old else None)
        if only := (active[0] if active else latest):
            fleet.resize(only, deployment.spec.replicas)
        return
    if fleet.new and _saturated(fleet.new, deployment):
        empty_old(fleet)
    elif deployment.spec.strategy.type == "RollingUpdate":
        _share(fleet, deployment)


def _saturated(rs: ReplicaSet, deployment: Deployment) -> bool:
    desired = deployment.spec.replicas
    return (
        rs.spec.replicas == desired
        and rs.metadata.annotations.get(DESIRED) == str(desired)
        and rs.status.available_replicas == desired
    )


def _share(fleet: Fleet, deployment: Deployment) -> None:
    """Spread the change over the live sets in proportion, the largest taking the rounding."""
    limit = fleet.limits.ceiling if deployment.spec.replicas > 0 else 0
    live = fleet.active(fleet.all)
    change = limit - fleet.total
    newest = {rs.metadata.uid: i for i, rs in enumerate(newest_last(live))}
    sign = 1 if change > 0 else -1
    live.sort(key=lambda rs: (-fleet.size(rs), -sign * newest[rs.metadata.uid]))
    left = change
    for rs in live:
        part = _part(fleet.size(rs), rs, deployment, fleet.limits.ceiling)
        part = min(part, left) if change > 0 else max(part, left)
        fleet.resize(rs, fleet.size(rs) + part)
        left -= part
    if left:
        fleet.resize(live[0], fleet.size(live[0]) + left)


def _part(size: int, rs: ReplicaSet, deployment: Deployment, ceiling: int) -> int:
    if deployment.spec.replicas == 0:
        return -size
    before = int(rs.metadata.annotations.get(MAX, "0")) or deployment.status.replicas
    return math.floor(size * ceiling / before + 0.5) - size if before else 0
