"""ReplicationControllers: the ReplicaSets of old, with a plain map as selector."""

from collections.abc import Iterator
from typing import Final

from sampan.api import kinds
from sampan.api.objects import Node, Pod
from sampan.api.selectors import from_labels
from sampan.controllers.ownership import its_pods, with_pods_on
from sampan.controllers.plan import Action, Controller, World, for_each, itself
from sampan.controllers.replicaset import keep
from sampan.controllers.views_apps import ReplicationController

NAME: Final = "replication-controller"


def reconcile(rc: ReplicationController, world: World) -> Iterator[Action]:
    if rc.spec.selector:
        yield from keep(rc, from_labels(rc.spec.selector), world)


CONTROLLER: Final = Controller(
    NAME,
    {
        ReplicationController: itself,
        Pod: its_pods(ReplicationController, lambda rc: from_labels(rc.spec.selector)),
        Node: with_pods_on(kinds.REPLICATION_CONTROLLERS),
    },
    for_each(ReplicationController, reconcile),
)
