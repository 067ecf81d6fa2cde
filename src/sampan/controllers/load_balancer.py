"""Give Services of type LoadBalancer addresses: those of the Ready nodes, which all serve them."""

from collections.abc import Iterable, Iterator
from typing import Final

from sampan.api.objects import Node, Service
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    Controller,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
    set_status,
)

CLASS: Final = "sampan.io/nodes"


def reconcile(service: Service, world: World) -> Iterator[Action]:
    """Services with a class of their own belong to somebody else's controller."""
    held = service.status.load_balancer.get("ingress") or []
    if service.spec.type != "LoadBalancer":
        if held:
            yield set_status(service, {"loadBalancer": {"ingress": None}})
        return
    if service.spec.load_balancer_class not in {"", CLASS} or service.metadata.deleting:
        return
    nodes = (node for node in world.objects.all(Node) if node.ready and node.internal_ip)
    wanted = [{"ip": ip, "ipMode": "VIP"} for ip in sorted(node.internal_ip for node in nodes)]
    if [entry.get("ip") for entry in held] != [entry["ip"] for entry in wanted]:
        yield set_status(service, {"loadBalancer": {"ingress": wanted or None}})
        if wanted and not held:
            yield RecordEvent(service, "EnsuredLoadBalancer", "Ensured load balancer")


def _balanced(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    old, new = delta.old, delta.new
    if old and new and (old.ready, old.internal_ip) == (new.ready, new.internal_ip):
        return ()
    services = objects.all(Service)
    return [s.metadata.key for s in services if s.spec.type == "LoadBalancer"]


CONTROLLER: Final = Controller(
    "service-controller", {Service: itself, Node: _balanced}, for_each(Service, reconcile)
)
