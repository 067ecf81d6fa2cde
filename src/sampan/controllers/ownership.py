"""Triggers of those who own Pods: which of them a change of a Pod or of a Node concerns."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from sampan.api.kinds import Kind
from sampan.api.objects import Node, Pod, Resource
from sampan.api.selectors import Selector
from sampan.client.cache import Delta
from sampan.controllers.plan import Reader, Trigger, its_controller

R = TypeVar("R", bound=Resource)


def its_pods(view: type[R], selector: Callable[[R], Selector | None]) -> Trigger:
    """Wake the owner of a Pod, or those who would adopt one that has no owner."""
    owner = its_controller(view.KIND)

    def keys(delta: Delta[Pod], objects: Reader) -> Iterable[str]:
        yield from owner(delta, objects)
        pod = delta.new
        if pod is None or pod.metadata.controller or not pod.live:
            return
        for obj in objects.all(view, pod.metadata.namespace):
            means = selector(obj)
            if means and means.requirements and means.matches(pod.metadata.labels):
                yield obj.metadata.key

    return keys


def with_pods_on(kind: Kind) -> Trigger:
    """Wake the owners of Pods on a node that is lost or found again."""
    owner = its_controller(kind)

    def keys(delta: Delta[Node], objects: Reader) -> Iterable[str]:
        if delta.old and delta.new and delta.old.ready == delta.new.ready:
            return ()
        pods = objects.by(Pod, "node", delta.latest.metadata.name)
        return sorted({key for pod in pods for key in owner(Delta(Pod, pod, pod), objects)})

    return keys
