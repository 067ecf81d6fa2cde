"""Let replicas move to a node that has joined or come back, gently.

For half an hour after a node has become usable, one replica at a time moves there from where there
are clearly more: first of workloads that are spread badly, then whatever evens the nodes out. A
move is a mark (`relocation`), so the replacement serves before the old one stops. Only replicas
move that were there before the node was, so each moves at most once a join, wherever the scheduler
puts it; Jobs, daemons, numbered Pods and whatever has data on its node never do.

`sampan.io/rebalance` on the namespace kube-system: `off`; `plan` only tells in an event what would
move. On a workload or Pod: `never`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sampan.api import kinds
from sampan.api.marks import EVICTING, REBALANCE
from sampan.api.objects import Node, Object, Pod
from sampan.api.time import parse_time, timestamp
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
)
from sampan.controllers.relocation import mark
from sampan.controllers.views import Deployment, Namespace, ReplicaSet

JOINED: Final = "sampan.io/joined"
"""On a Node: since when it has been usable, or `away`."""
MOVES_TO: Final = "sampan.io/moves-to"
"""On a Pod that is marked: the node for whose sake it moves."""
SETTLED: Final = timedelta(seconds=10)
WINDOW: Final = timedelta(minutes=30)
PAUSE: Final = 15.0
"""Seconds between two moves to a node."""
CLEARLY: Final = 2
"""By how many replicas a node must have more than the joined one."""
SHOWN: Final = 20
"""How many moves a plan tells."""


@dataclass(frozen=True, slots=True)
class Move:
    pod: Pod
    source: str
    why: str


def reconcile(node: Node, world: World) -> Iterator[Action]:
    noted = node.metadata.annotations.get(JOINED)
    if not usable(node):
        if noted != "away":
            yield _note(node, "away")
        return
    joined = _joined(node, world.now)
    fresh = noted != timestamp(joined)
    if fresh:
        yield _note(node, timestamp(joined))
    mode, age = _mode(world.objects), world.now - joined
    if age >= WINDOW or mode == "off":
        return
    if age < SETTLED:
        yield CheckAgain((SETTLED - age).total_seconds() + 0.1)
    elif mode == "plan":
        yield from _tell(node, joined, world)
    else:
        yield from _move(node, joined, world)


def usable(node: Node) -> bool:
    """Whether the node may be given any Pod that asks for nothing special."""
    kept_off = any(taint.effect in {"NoSchedule", "NoExecute"} for taint in node.spec.taints)
    return node.ready and not node.spec.unschedulable and not kept_off


def _note(node: Node, text: str) -> Patch:
    return Patch(node, {"metadata": {"annotations": {JOINED: text}}})


def _joined(node: Node, now: datetime) -> datetime:
    """Return since when it has been usable: one that was never noted, since it was made."""
    noted = node.metadata.annotations.get(JOINED)
    if noted is None:
        return node.metadata.creation_timestamp or now
    try:
        return parse_time(noted)
    except ValueError:
        return now.replace(microsecond=0)


def _mode(objects: Reader) -> str:
    return _asked(objects.get(Namespace, "", "kube-system"))


def _asked(system: Namespace | None) -> str:
    return system.metadata.annotations.get(REBALANCE, "on") if system else "on"


def _move(node: Node, joined: datetime, world: World) -> Iterator[Action]:
    if any(_under_way(pod, node) for pod in world.objects.all(Pod)):
        yield CheckAgain(PAUSE)
    elif move := next(moves(node, joined, world.objects), None):
        note = mark(world.now)
        note["metadata"]["annotations"][MOVES_TO] = node.metadata.name
        text = f"Moving for the sake of node {node.metadata.name}: {move.why}"
        yield Patch(move.pod, note, done=RecordEvent(move.pod, "Rebalancing", text))
        yield CheckAgain(PAUSE)


def _under_way(pod: Pod, node: Node) -> bool:
    notes = pod.metadata.annotations
    return EVICTING in notes and notes.get(MOVES_TO) == node.metadata.name


def _tell(node: Node, joined: datetime, world: World) -> Iterator[Action]:
    """Say in one event, each time the node joins, what would move."""
    planned = [f"{m.pod.metadata.key} ({m.why})" for m in moves(node, joined, world.objects)]
    if planned and world.now - joined < SETTLED + timedelta(seconds=PAUSE):
        text = f"Would move here: {', '.join(planned[:SHOWN])}"
        yield RecordEvent(node, "RebalancePlanned", text)
        yield CheckAgain(PAUSE * 2)


def moves(node: Node, joined: datetime, objects: Reader) -> Iterator[Move]:
    """Plan the moves to *node* one after the other, each as if those before it were made."""
    places = {other.metadata.name for other in objects.all(Node) if usable(other)}
    pods = [pod for pod in objects.all(Pod) if pod.live and pod.spec.node_name in places]
    load = Counter(pod.spec.node_name for pod in pods if _replicated(pod))
    spread = Counter((_owner(pod), pod.spec.node_name) for pod in pods)
    left = [pod for pod in pods if may_move(pod, node, joined, objects)]
    here = node.metadata.name
    while move := _best(left, here, load, spread):
        yield move
        left.remove(move.pod)
        for counter, key in ((load, move.source), (spread, (_owner(move.pod), move.source))):
            counter[key] -= 1  # type: ignore[index]
        load[here] += 1
        spread[_owner(move.pod), here] += 1


def _best(
    pods: Sequence[Pod], here: str, load: Counter[str], spread: Counter[tuple[str, str]]
) -> Move | None:
    """Return the move that gains most: even spread of one workload before even load of nodes."""

    def gains(pod: Pod) -> tuple[int, int]:
        owner, there = _owner(pod), pod.spec.node_name
        return spread[owner, there] - spread[owner, here], load[there] - load[here]

    def worth(pod: Pod) -> bool:
        apart, heavier = gains(pod)
        return apart >= CLEARLY or (apart == CLEARLY - 1 and heavier >= CLEARLY)

    chosen = max(filter(worth, pods), key=lambda p: (*gains(p), p.metadata.key), default=None)
    if chosen is None:
        return None
    (apart, _), there = gains(chosen), chosen.spec.node_name
    what = f"{spread[_owner(chosen), there]} of its replicas" if apart >= CLEARLY else ""
    return Move(chosen, there, f"{what or f'{load[there]} replicas'} on {there}")


def may_move(pod: Pod, node: Node, joined: datetime, objects: Reader) -> bool:
    """Whether *pod* can run elsewhere without harm, and *node* is a place for it."""
    born = pod.metadata.creation_timestamp
    here_before = born is not None and born < joined and pod.spec.node_name != node.metadata.name
    if not here_before or not pod.ready or EVICTING in pod.metadata.annotations:
        return False
    return not _bound(pod) and _welcome(pod, node) and _settled(pod, objects)


def _replicated(pod: Pod) -> bool:
    owner = pod.metadata.controller
    return owner is not None and owner.kind == kinds.REPLICA_SETS.kind


def _owner(pod: Pod) -> str:
    owner = pod.metadata.controller
    return owner.uid if owner else ""


def _bound(pod: Pod) -> bool:
    """Whether the Pod says that it stays, or has data or ports on its node."""
    return (
        pod.metadata.annotations.get(REBALANCE) == "never"
        or pod.spec.host_network
        or any(port.host_port for c in pod.spec.containers for port in c.ports)
        or any(volume.local for volume in pod.spec.volumes)
    )


def _welcome(pod: Pod, node: Node) -> bool:
    """Whether *node* has what the Pod selects; who asks for more is left where it is."""
    affinity: Object = pod.spec.affinity
    return pod.spec.node_selector.items() <= node.metadata.labels.items() and not affinity


def _settled(pod: Pod, objects: Reader) -> bool:
    """Whether its ReplicaSet has all that it wants, and may have one more at the same time."""
    owner = pod.metadata.controller
    if owner is None or owner.kind != kinds.REPLICA_SETS.kind:
        return False
    rs = objects.get(ReplicaSet, pod.metadata.namespace, owner.name)
    if rs is None or rs.metadata.annotations.get(REBALANCE) == "never":
        return False
    above = rs.metadata.controller
    deployment = objects.get(Deployment, pod.metadata.namespace, above.name) if above else None
    alone = deployment is not None and deployment.spec.strategy.type == "Recreate"
    return not alone and rs.spec.replicas == rs.status.ready_replicas == rs.status.replicas


def _usability(delta: Delta[Node], _objects: Reader) -> Iterable[str]:
    old, new = delta.old, delta.new
    if new and (
        old is None or usable(old) != usable(new) or JOINED not in new.metadata.annotations
    ):
        yield new.metadata.name


def _mode_changed(delta: Delta[Namespace], objects: Reader) -> Iterable[str]:
    if delta.latest.metadata.name == "kube-system" and _asked(delta.old) != _asked(delta.new):
        yield from (node.metadata.name for node in objects.all(Node))


CONTROLLER: Final = Controller(
    "rebalancer",
    {Node: _usability, Namespace: _mode_changed},
    for_each(Node, reconcile),
    workers=1,
)
