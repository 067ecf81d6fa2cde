"""Two speeds of failure for nodes that fall silent: suspect in 2 s, dead in 6.

A suspect node loses its traffic, which is cheap to give back: its Ready condition becomes
Unknown, and whoever counts ready Pods (endpoints, ReplicaSets) leaves those of such a node out;
nothing new is placed there. A dead node gets the NoExecute taint, which makes the taint-eviction
controller replace its Pods. Silence is measured by the arrival of Lease renewals and of the
agent's own reports on our own clock.

The breaker: when more than half of the nodes, and at least two, are silent together, it is more
likely our network than theirs. Then nobody is called dead until the silence has lasted a minute;
Kubernetes stops for ever in small clusters, which leaves the survivors alone with half the work.
When all are silent nobody is called dead at all: nobody is left to take the work over.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sampan.api.objects import Condition, Lease, Node, Object, Taint, condition
from sampan.client.cache import Delta
from sampan.client.interface import PatchType
from sampan.controllers.heartbeats import NAMESPACE
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
)
from sampan.controllers.status import raw_condition
from sampan.controllers.views import seconds

SUSPECT_AFTER: Final = 2.0
DEAD_AFTER: Final = 6.0
BREAKER_HOLDS: Final = 60.0

UNREACHABLE: Final = "node.kubernetes.io/unreachable"
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_KEYS: Final = frozenset({UNREACHABLE, NOT_READY, UNSCHEDULABLE})
_PRESSURE: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}


def reconcile(node: Node, world: World) -> Iterator[Action]:
    silence = silence_of(node, world)
    suspect = silence >= SUSPECT_AFTER
    dead = _given_up(node) or (silence >= DEAD_AFTER and not _breaker(silence, world))
    yield CheckAgain(_next_look(silence))
    if suspect:
        yield from _suspect(node, world)
    yield from _taints(node, world, suspect=suspect, dead=dead)


def silence_of(node: Node, world: World) -> float:
    """Return the seconds since the node was last heard of; negative while it has grace."""
    return world.clock - world.heard.get(node.metadata.name, world.clock)


def _next_look(silence: float) -> float:
    """Look again when the silence, if it lasts, means more than now."""
    for limit in (SUSPECT_AFTER, DEAD_AFTER):
        if silence < limit:
            return max(limit - silence, 0.05)
    return 2.0 if silence < BREAKER_HOLDS else 30.0


def _given_up(node: Node) -> bool:
    """Whether the node was called dead before: that holds until it is heard of again."""
    return any((t.key, t.effect) == (UNREACHABLE, "NoExecute") for t in node.spec.taints)


def _breaker(silence: float, world: World) -> bool:
    nodes = world.objects.all(Node)
    silent = sum(silence_of(node, world) >= SUSPECT_AFTER for node in nodes)
    if silent == len(nodes):
        return True
    most = silent >= 2 and silent * 2 > len(nodes)  # noqa: PLR2004 - two, and more than half
    return most and silence < BREAKER_HOLDS


def _suspect(node: Node, world: World) -> Iterator[Action]:
    """Mark all that the node reports as unknown: its agent will say better when it is back."""
    ready = condition(node.status.conditions, "Ready")
    if ready and ready.status == "Unknown":
        return
    now = seconds(world.now)
    unknown = [
        raw_condition(
            Condition(
                type_,
                "Unknown",
                "NodeStatusUnknown",
                "Kubelet stopped posting node status.",
                last_transition_time=now,
                last_heartbeat_time=old.last_heartbeat_time if old else None,
            )
        )
        for type_ in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        if (old := condition(node.status.conditions, type_)) or type_ == "Ready"
    ]
    yield Patch(
        node, {"status": {"conditions": unknown}}, subresource="status", how=PatchType.STRATEGIC
    )
    name = node.metadata.name
    if ready and ready.status == "True":
        yield RecordEvent(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")


def _taints(node: Node, world: World, *, suspect: bool, dead: bool) -> Iterator[Action]:
    wanted = set(_wanted(node, suspect=suspect, dead=dead))
    ours = _KEYS | set(_PRESSURE.values())
    kept = [t for t in node.spec.taints if t.key not in ours or (t.key, t.effect) in wanted]
    missing = wanted - {(t.key, t.effect) for t in kept}
    if not missing and len(kept) == len(node.spec.taints):
        return
    now = seconds(world.now)
    added = [Taint(key, "", effect, time_added=now) for key, effect in sorted(missing)]
    yield Patch(node, _taint_patch(node, [*kept, *added]))


def _taint_patch(node: Node, taints: Iterable[Taint]) -> Object:
    """Replace the whole list, if nobody else changed the node meanwhile."""
    return {
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": [msgspec.to_builtins(taint) for taint in taints] or None},
    }


def _wanted(node: Node, *, suspect: bool, dead: bool) -> Iterator[tuple[str, str]]:
    """Yield the key and effect of every taint that the node's state asks for."""
    ready = condition(node.status.conditions, "Ready")
    status = ready.status if ready else "False"
    if suspect or status == "Unknown":
        yield UNREACHABLE, "NoSchedule"
        if dead:
            yield UNREACHABLE, "NoExecute"
    elif status == "False":
        yield NOT_READY, "NoSchedule"
        if ready is not None:
            yield NOT_READY, "NoExecute"
    if node.spec.unschedulable:
        yield UNSCHEDULABLE, "NoSchedule"
    for type_, key in _PRESSURE.items():
        pressing = condition(node.status.conditions, type_)
        if pressing and pressing.status == "True":
            yield key, "NoSchedule"


def _renewed(delta: Delta[Lease], objects: Reader) -> Iterable[str]:
    """A renewal is news only of a node that was given up; a healthy one costs nothing."""
    if delta.new is None or delta.new.metadata.namespace != NAMESPACE:
        return
    node = objects.get(Node, "", delta.new.metadata.name)
    if node and any(taint.key == UNREACHABLE for taint in node.spec.taints):
        yield node.metadata.name


CONTROLLER: Final = Controller(
    "node-controller", {Node: itself, Lease: _renewed}, for_each(Node, reconcile)
)
