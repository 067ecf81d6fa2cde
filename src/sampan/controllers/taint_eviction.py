"""Delete the Pods that do not tolerate their node's NoExecute taints, when their time is up."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

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

PATIENCE: Final = {"node.kubernetes.io/not-ready": 300}
"""Seconds that Pods stay without asking for it: an agent that says "not ready" is alive, and an
eviction would not be faster than its recovery. Kubernetes' admission gives the same 300 s."""


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
        return _left(since, PATIENCE.get(taint.key, 0), now)
    limits = [t.toleration_seconds for t in matching if t.toleration_seconds is not None]
    if not limits:
        return None
    return _left(since, min(limits), now)


def _left(since: datetime, limit: int, now: datetime) -> float:
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
