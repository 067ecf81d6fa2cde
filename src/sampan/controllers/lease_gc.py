"""Remove the Lease of a node that is gone: an hour after it was last renewed, if it has no Node."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from sampan.api.objects import Lease, Node, OwnerReference
from sampan.client.cache import Delta
from sampan.controllers.heartbeats import NAMESPACE
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Delete,
    Gone,
    Reader,
    World,
    for_each,
)

KEPT: Final = timedelta(hours=1)


def reconcile(lease: Lease, world: World) -> Iterator[Action]:
    name = lease.metadata.name
    if world.objects.get(Node, "", name) or lease.metadata.deleting:
        return
    renewed = lease.spec.renew_time or lease.metadata.creation_timestamp or world.now
    left = renewed + KEPT - world.now
    if left > timedelta():
        yield CheckAgain(left.total_seconds() + 1)
    else:
        yield Delete(lease, given=Gone((OwnerReference("v1", "Node", name),)))


def _of_no_node(delta: Delta[Lease], objects: Reader) -> Iterable[str]:
    """A Lease that appears without its Node; a renewal costs one look-up."""
    meta = delta.latest.metadata
    appeared = delta.old is None and meta.namespace == NAMESPACE
    if appeared and objects.get(Node, "", meta.name) is None:
        yield meta.key


def _of_gone(delta: Delta[Node], _objects: Reader) -> Iterable[str]:
    if delta.new is None:
        yield f"{NAMESPACE}/{delta.latest.metadata.name}"


CONTROLLER: Final = Controller(
    "lease-garbage-collector",
    {Lease: _of_no_node, Node: _of_gone},
    for_each(Lease, reconcile),
)
