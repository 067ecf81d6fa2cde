"""Delete the Pods that do not tolerate their node's NoExecute taints, when their time is up."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from sampan.api.marks import FAILOVER
from sampan.api.objects import Node, Pod, Taint
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Delete,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
)

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
PATIENCE: Final[Mapping[str, Mapping[str, float]]] = {
    "": {NOT_READY: 300, UNREACHABLE: 0},
    "fast": {NOT_READY: 30, UNREACHABLE: 0},
    "normal": {NOT_READY: 300, UNREACHABLE: 300},
    "never": {NOT_READY: math.inf, UNREACHABLE: math.inf},
}
"""Seconds that Pods stay which tolerate nothing, by what `sampan.io/failover` says of them.

Without it, Pods of a node that is silent go when it is called dead. An agent that says "not ready"
is alive, and an eviction would not be faster than its recovery: Kubernetes' 300 s."""


def reconcile(node: Node, world: World) -> Iterator[Action]:
    taints = [taint for taint in node.spec.taints if taint.effect == "NoExecute"]
    if not taints:
        return
    waits = []
    for pod in world.objects.by(Pod, "node", node.metadata.name):
        if pod.metadata.deleting or pod.finished:
            continue
        wait = evicted_in(pod, taints, world.now)
        if wait is None:
            continue
        if wait > 0:
            waits.append(wait)
            continue
        text = f"Marking for deletion Pod {pod.metadata.key}"
        yield Delete(pod, done=RecordEvent(pod, "TaintManagerEviction", text))
    if waits:
        yield CheckAgain(min(waits))


def evicted_in(pod: Pod, taints: Iterable[Taint], now: datetime) -> float | None:
    """Return the seconds until *pod* must go, None if it tolerates all of *taints* for ever."""
    waits = [wait for taint in taints if (wait := _tolerated(pod, taint, now)) is not None]
    return min(waits, default=None)


def _tolerated(pod: Pod, taint: Taint, now: datetime) -> float | None:
    matching = [t for t in pod.spec.tolerations if t.tolerates(taint)]
    since = taint.time_added or now
    if not matching:
        asked = PATIENCE.get(pod.metadata.annotations.get(FAILOVER, ""), PATIENCE[""])
        patience = asked.get(taint.key, 0)
        return None if patience == math.inf else _left(since, patience, now)
    limits = [t.toleration_seconds for t in matching if t.toleration_seconds is not None]
    if not limits:
        return None
    return _left(since, min(limits), now)


def _left(since: datetime, limit: float, now: datetime) -> float:
    return max((since + timedelta(seconds=limit) - now).total_seconds(), 0.0)


def _its_node(delta: Delta[Pod], _objects: Reader) -> Iterable[str]:
    pod = delta.new
    if pod and pod.spec.node_name and pod.live and _news(delta.old, pod):
        yield pod.spec.node_name


def _news(old: Pod | None, new: Pod) -> bool:
    return old is None or (old.spec.node_name, old.spec.tolerations) != (
        new.spec.node_name,
        new.spec.tolerations,
    )


CONTROLLER: Final = Controller(
    "taint-eviction-controller", {Node: itself, Pod: _its_node}, for_each(Node, reconcile)
)
