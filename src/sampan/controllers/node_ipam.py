"""Give each node its own range of Pod addresses, once and for all."""

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Final

from sampan.api.objects import Node
from sampan.controllers.plan import Action, Controller, Patch, RecordEvent, World, for_each, itself

CLUSTER: Final = IPv4Network("10.42.0.0/16")
NODE_PREFIX: Final = 24


def reconcile(node: Node, world: World) -> Iterator[Action]:
    """Assign the lowest free range; nodes are looked at one at a time, so none is given twice."""
    if node.spec.pod_cidr or node.metadata.deleting:
        return
    taken = {other.spec.pod_cidr for other in world.objects.all(Node)}
    free = (str(net) for net in CLUSTER.subnets(new_prefix=NODE_PREFIX) if str(net) not in taken)
    if (cidr := next(free, None)) is None:
        text = f"{CLUSTER} has no free /{NODE_PREFIX} left: delete the Nodes that are gone for good"
        yield RecordEvent(node, "CIDRNotAvailable", text, "Warning")
        return
    revision = {"resourceVersion": node.metadata.resource_version}
    yield Patch(node, {"metadata": revision, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})


CONTROLLER: Final = Controller(
    "node-ipam-controller", {Node: itself}, for_each(Node, reconcile), workers=1
)
