"""Remove Pods that no agent will ever end: those of Nodes that were deleted, or of none at all.

To delete a Node is an operator's word that its machine is gone, so its Pods need no grace. But an
agent that is still heard of makes its Node again and keeps its Pods: they wait until it has done
so, or is silent.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from sampan.api.objects import Node, OwnerReference, Pod
from sampan.client.cache import Delta
from sampan.controllers.node_lifecycle import DEAD_AFTER
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Delete,
    Gone,
    Reader,
    RecordEvent,
    World,
    for_each,
)


def reconcile(pod: Pod, world: World) -> Iterator[Action]:
    node = pod.spec.node_name
    if not node:
        if pod.metadata.deleting:
            yield Delete(pod, grace_seconds=0)
    elif world.objects.get(Node, "", node) is None:
        silence = world.clock - world.heard.get(node, -DEAD_AFTER)
        if silence < DEAD_AFTER:
            yield CheckAgain(max(DEAD_AFTER - silence, 0.05))
            return
        gone = Gone((OwnerReference("v1", "Node", node),))
        done = RecordEvent(pod, "NodeGone", f"Removed: its node {node} does not exist any more")
        yield Delete(pod, grace_seconds=0, given=gone, done=done)


def _lost(delta: Delta[Pod], objects: Reader) -> Iterable[str]:
    pod = delta.new
    if pod is None:
        return
    node = pod.spec.node_name
    if objects.get(Node, "", node) is None if node else pod.metadata.deleting:
        yield pod.metadata.key


def _left_behind(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    if delta.new is None:
        pods = objects.by(Pod, "node", delta.latest.metadata.name)
        yield from (pod.metadata.key for pod in pods)


CONTROLLER: Final = Controller(
    "pod-garbage-collector", {Pod: _lost, Node: _left_behind}, for_each(Pod, reconcile)
)
