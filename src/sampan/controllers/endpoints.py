"""Say behind each Service which Pods answer: EndpointSlices, and the older Endpoints.

Who is ready is decided here, in one place: the Pod's own readiness, and that its node is heard of.
A slice is changed only where its own endpoints changed, so that a Service of a thousand Pods costs
its watchers one small slice a change.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from sampan.api import kinds
from sampan.api.objects import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Node,
    Object,
    Pod,
    Service,
    ServicePort,
)
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    Controller,
    Create,
    Delete,
    Patch,
    Reader,
    World,
    for_each,
    itself,
    split,
)
from sampan.controllers.views import Endpoints, reference

SLICE_SIZE: Final = 100
SERVICE_LABEL: Final = "kubernetes.io/service-name"
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
MANAGED_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY: Final = "endpointslice-controller.k8s.io"
LEGACY_LABEL: Final = "endpoints.kubernetes.io/managed-by"
ZONE: Final = "topology.kubernetes.io/zone"

Ports: TypeAlias = tuple[EndpointPort, ...]
Behind: TypeAlias = dict[Ports, list[Endpoint]]


def selected(service: Service, objects: Reader) -> list[Pod]:
    """Return the Pods that carry all labels of the Service's selector."""
    wanted = service.spec.selector.items()
    space = service.metadata.namespace
    terms = (objects.by(Pod, "label", f"{space}/{key}={value}") for key, value in wanted)
    fewest = min(terms, key=len, default=())
    return [pod for pod in fewest if wanted <= pod.metadata.labels.items()]


def behind(service: Service, objects: Reader) -> Behind:
    """Group the Service's endpoints by the ports that its names and numbers mean on each Pod."""
    grouped: Behind = defaultdict(list)
    for pod in sorted(selected(service, objects), key=lambda pod: pod.metadata.name):
        if pod.status.pod_ip and not pod.finished:
            node = objects.get(Node, "", pod.spec.node_name)
            ports = tuple(_ports(service.spec.ports, pod))
            grouped[ports].append(endpoint(service, pod, node))
    return grouped


def endpoint(service: Service, pod: Pod, node: Node | None) -> Endpoint:
    """Judge one Pod: it serves if it is ready on a ready node, and is ready unless it is going."""
    serving = pod.ready and node is not None and node.ready
    going = pod.metadata.deleting
    named = pod.spec.subdomain == service.metadata.name and service.spec.headless
    return Endpoint(
        addresses=[pod.status.pod_ip],
        conditions=EndpointConditions(
            ready=service.spec.publish_not_ready_addresses or (serving and not going),
            serving=serving,
            terminating=going,
        ),
        hostname=pod.spec.hostname if named else "",
        node_name=pod.spec.node_name,
        zone=node.metadata.labels.get(ZONE, "") if node else "",
        target_ref={
            "kind": "Pod",
            "namespace": pod.metadata.namespace,
            "name": pod.metadata.name,
            "uid": pod.metadata.uid,
        },
    )


def _ports(ports: Sequence[ServicePort], pod: Pod) -> Iterator[EndpointPort]:
    for port in ports:
        if number := target(port, pod):
            yield EndpointPort(port.name, number, port.protocol)


def target(port: ServicePort, pod: Pod) -> int:
    """Return the port that *port* leads to on *pod*; 0 if it names one that is not there."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    if port.target_port.isdecimal():
        return int(port.target_port)
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for offered in container.ports:
            if (offered.name, offered.protocol) == (port.target_port, port.protocol):
                return offered.container_port
    return 0


def reconcile_slices(service: Service, world: World) -> Iterator[Action]:
    if not service.spec.selector or service.spec.type == "ExternalName":
        return
    if service.metadata.deleting:
        return
    held: dict[Ports, list[EndpointSlice]] = defaultdict(list)
    for part in _slices(service, world.objects):
        held[tuple(part.ports)].append(part)
    wanted = behind(service, world.objects) or {next(iter(held), _declared(service)): []}
    for ports in wanted:
        yield from _arrange(service, ports, wanted[ports], held.pop(ports, []))
    for stale in held.values():
        yield from map(Delete, stale)


def _slices(service: Service, objects: Reader) -> list[EndpointSlice]:
    key = f"{service.metadata.namespace}/{SERVICE_LABEL}={service.metadata.name}"
    ours = [
        part
        for part in objects.by(EndpointSlice, "label", key)
        if part.metadata.labels.get(MANAGED_LABEL) == MANAGED_BY and not part.metadata.deleting
    ]
    return sorted(ours, key=lambda part: part.metadata.name)


def _declared(service: Service) -> Ports:
    """The ports of a Service that nobody answers yet, as far as numbers say them."""
    return tuple(_ports(service.spec.ports, Pod()))


def _arrange(
    service: Service, ports: Ports, wanted: Sequence[Endpoint], held: Sequence[EndpointSlice]
) -> Iterator[Action]:
    """Put *wanted* into slices: each stays where it is, newcomers fill gaps, then new slices."""
    fresh = {e.target_ref["uid"]: e for e in wanted}
    contents = [_still_there(part, fresh) for part in held]
    waiting = list(fresh.values())
    for content in _filling_order(held, contents):
        room = SLICE_SIZE - len(content)
        content.extend(waiting[:room])
        del waiting[:room]
    labels = _labels(service)
    empty_may_stay = not wanted
    for part, content in zip(held, contents, strict=True):
        if not content and not empty_may_stay:
            yield Delete(part)
            continue
        empty_may_stay = empty_may_stay and bool(content)
        if content != part.endpoints or not labels.items() <= part.metadata.labels.items():
            yield Patch(
                part,
                {"metadata": {"labels": labels}, "endpoints": list(map(raw_endpoint, content))},
            )
    batches = [waiting[i : i + SLICE_SIZE] for i in range(0, len(waiting), SLICE_SIZE)]
    for batch in batches or ([] if held or wanted else [[]]):
        yield Create(kinds.ENDPOINT_SLICES, _new_slice(service, ports, batch))


def _still_there(part: EndpointSlice, fresh: dict[str, Endpoint]) -> list[Endpoint]:
    """Take out of *fresh* what *part* already lists."""
    uids = [e.target_ref.get("uid", "") for e in part.endpoints]
    return [fresh.pop(uid) for uid in uids if uid in fresh]


def _filling_order(
    held: Sequence[EndpointSlice], contents: Sequence[list[Endpoint]]
) -> list[list[Endpoint]]:
    """Fill first what must be written anyway, then what is emptiest."""
    pairs = zip(held, contents, strict=True)
    ranked = sorted(pairs, key=lambda pair: (pair[1] == pair[0].endpoints, len(pair[1])))
    return [content for _, content in ranked]


def _labels(service: Service) -> dict[str, str]:
    headless = {HEADLESS_LABEL: ""} if service.spec.headless else {}
    ours = {SERVICE_LABEL: service.metadata.name, MANAGED_LABEL: MANAGED_BY}
    return {**service.metadata.labels, **headless, **ours}


def _new_slice(service: Service, ports: Ports, content: Sequence[Endpoint]) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{service.metadata.name}-",
            "namespace": service.metadata.namespace,
            "labels": _labels(service),
            "ownerReferences": [reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": list(map(raw_endpoint, content)),
        "ports": [raw_port(port) for port in ports],
    }


def raw_endpoint(e: Endpoint) -> Object:
    """Write an endpoint out whole: a View would leave out `ready: true`."""
    c = e.conditions
    optional = {"hostname": e.hostname, "nodeName": e.node_name, "zone": e.zone}
    return {
        "addresses": e.addresses,
        "conditions": {"ready": c.ready, "serving": c.serving, "terminating": c.terminating},
        "targetRef": e.target_ref,
        **{key: value for key, value in optional.items() if value},
    }


def raw_port(port: EndpointPort) -> Object:
    return {"name": port.name, "port": port.port, "protocol": port.protocol}


def reconcile_legacy(key: str, world: World) -> Iterator[Action]:
    """Keep the Endpoints object of a Service with a selector; it goes when the Service goes."""
    namespace, name = split(key)
    service = world.objects.get(Service, namespace, name)
    held = world.objects.get(Endpoints, namespace, name)
    if service is None or service.spec.type == "ExternalName":
        if held and LEGACY_LABEL in held.metadata.labels:
            yield Delete(held)
        return
    if not service.spec.selector or service.metadata.deleting:
        return
    subsets = _subsets(behind(service, world.objects))
    headless = {HEADLESS_LABEL: ""} if service.spec.headless else {}
    labels = {**service.metadata.labels, **headless, LEGACY_LABEL: "endpoint-controller"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    if held is None:
        body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
        yield Create(kinds.ENDPOINTS, body)
    elif held.subsets != subsets or not labels.items() <= held.metadata.labels.items():
        yield Patch(held, {"metadata": {"labels": labels}, "subsets": subsets})


def _subsets(grouped: Mapping[Ports, Sequence[Endpoint]]) -> list[Object]:
    subsets = []
    for ports, endpoints in grouped.items():
        staying = [e for e in endpoints if e.conditions.ready or not e.conditions.terminating]
        subset: Object = {}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            if chosen := [_address(e) for e in staying if e.conditions.ready is ready]:
                subset[field] = chosen
        if subset and ports:
            subset["ports"] = [_legacy_port(port) for port in ports]
        if subset:
            subsets.append(subset)
    return subsets


def _legacy_port(port: EndpointPort) -> Object:
    named = {"name": port.name} if port.name else {}
    return {**named, "port": port.port, "protocol": port.protocol}


def _address(e: Endpoint) -> Object:
    optional = {"hostname": e.hostname, "nodeName": e.node_name}
    chosen = {key: value for key, value in optional.items() if value}
    return {"ip": e.addresses[0], **chosen, "targetRef": e.target_ref}


def _services_of(delta: Delta[Pod], objects: Reader) -> Iterable[str]:
    """The Services that select the Pod, or selected it before, if it matters to them."""
    if delta.old and delta.new and _essence(delta.old) == _essence(delta.new):
        return ()
    pods = [pod for pod in (delta.old, delta.new) if pod]
    return sorted({key for pod in pods for key in _selecting(pod, objects)})


def _essence(pod: Pod) -> tuple[object, ...]:
    meta, status = pod.metadata, pod.status
    return meta.labels, meta.deleting, pod.ready, pod.finished, status.pod_ip, pod.spec.node_name


def _selecting(pod: Pod, objects: Reader) -> Iterator[str]:
    space, labels = pod.metadata.namespace, pod.metadata.labels.items()
    for key, value in labels:
        for service in objects.by(Service, "selector", f"{space}/{key}={value}"):
            if service.spec.selector.items() <= labels:
                yield service.metadata.key


def _services_on(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    """The Services with Pods on a node whose readiness changed."""
    if delta.old and delta.new and _place(delta.old) == _place(delta.new):
        return ()
    pods = objects.by(Pod, "node", delta.latest.metadata.name)
    return sorted({key for pod in pods for key in _selecting(pod, objects)})


def _place(node: Node) -> tuple[bool, str]:
    return node.ready, node.metadata.labels.get(ZONE, "")


def _own_service(delta: Delta[EndpointSlice], _objects: Reader) -> Iterable[str]:
    """A slice that somebody else changed or deleted is put right again."""
    part = delta.latest
    return (f"{part.metadata.namespace}/{part.service}",) if part.service else ()


SLICES: Final = Controller(
    "endpointslice-controller",
    {Service: itself, Pod: _services_of, Node: _services_on, EndpointSlice: _own_service},
    for_each(Service, reconcile_slices),
)
LEGACY: Final = Controller(
    "endpoints-controller",
    {Service: itself, Pod: _services_of, Node: _services_on, Endpoints: itself},
    reconcile_legacy,
)
