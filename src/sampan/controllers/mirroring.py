"""Mirror Endpoints that people make for Services without a selector as EndpointSlices.

Data planes and DNS read slices only. What says `endpointslice.kubernetes.io/skip-mirror`, and what
another controller keeps, is left alone.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from sampan.api import kinds
from sampan.api.objects import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Object,
    Service,
)
from sampan.client.cache import Delta
from sampan.controllers.endpoints import (
    HEADLESS_LABEL,
    LEGACY_LABEL,
    MANAGED_LABEL,
    SERVICE_LABEL,
    SLICE_SIZE,
    Ports,
    raw_endpoint,
    raw_port,
)
from sampan.controllers.plan import (
    Action,
    Controller,
    Create,
    Delete,
    Patch,
    Reader,
    World,
    itself,
    split,
)
from sampan.controllers.views import Endpoints, reference

SKIP_LABEL: Final = "endpointslice.kubernetes.io/skip-mirror"
MANAGED_BY: Final = "endpointslicemirroring-controller.k8s.io"
_LEADER: Final = "control-plane.alpha.kubernetes.io/leader"

Group: TypeAlias = tuple[str, Ports]
"""What one slice can hold: endpoints of one address family behind the same ports."""


def reconcile(key: str, world: World) -> Iterator[Action]:
    namespace, name = split(key)
    service = world.objects.get(Service, namespace, name)
    endpoints = world.objects.get(Endpoints, namespace, name)
    held: dict[Group, list[EndpointSlice]] = defaultdict(list)
    for part in _slices(namespace, name, world.objects):
        held[part.address_type, tuple(part.ports)].append(part)
    if endpoints and service and _is_mirrored(endpoints, service):
        for group, content in _grouped(endpoints).items():
            yield from _arrange(endpoints, service, group, content, held.pop(group, []))
    for stale in held.values():
        yield from map(Delete, stale)


def _is_mirrored(endpoints: Endpoints, service: Service) -> bool:
    meta = endpoints.metadata
    refused = meta.labels.get(SKIP_LABEL) == "true" or LEGACY_LABEL in meta.labels
    going = meta.deleting or service.metadata.deleting
    return not (refused or going or _LEADER in meta.annotations or service.spec.selector)


def _grouped(endpoints: Endpoints) -> dict[Group, list[Endpoint]]:
    grouped: dict[Group, list[Endpoint]] = defaultdict(list)
    for subset in endpoints.subsets:
        ports = tuple(_port(port) for port in subset.get("ports") or ())
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                grouped[_family(address["ip"]), ports].append(_endpoint(address, ready=ready))
    return grouped


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


def _port(port: Object) -> EndpointPort:
    return EndpointPort(port.get("name") or "", port["port"], port.get("protocol") or "TCP")


def _endpoint(address: Object, *, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=[address["ip"]],
        conditions=EndpointConditions(ready=ready, serving=ready),
        hostname=address.get("hostname") or "",
        node_name=address.get("nodeName") or "",
        target_ref=address.get("targetRef") or {},
    )


def _arrange(
    endpoints: Endpoints,
    service: Service,
    group: Group,
    content: Sequence[Endpoint],
    held: Sequence[EndpointSlice],
) -> Iterator[Action]:
    """Fill the slices that are there, make what is missing, and drop what is over."""
    parts = [content[i : i + SLICE_SIZE] for i in range(0, len(content), SLICE_SIZE)]
    labels = _labels(endpoints, service)
    for part, held_part in zip(parts, held, strict=False):
        if (
            list(part) != held_part.endpoints
            or not labels.items() <= held_part.metadata.labels.items()
        ):
            raw = list(map(raw_endpoint, part))
            yield Patch(held_part, {"metadata": {"labels": labels}, "endpoints": raw})
    for part in parts[len(held) :]:
        yield Create(kinds.ENDPOINT_SLICES, _new(endpoints, labels, group, part))
    yield from map(Delete, held[len(parts) :])


def _labels(endpoints: Endpoints, service: Service) -> dict[str, str]:
    headless = {HEADLESS_LABEL: ""} if service.spec.headless else {}
    ours = {SERVICE_LABEL: service.metadata.name, MANAGED_LABEL: MANAGED_BY}
    return {**endpoints.metadata.labels, **headless, **ours}


def _new(
    endpoints: Endpoints, labels: dict[str, str], group: Group, content: Sequence[Endpoint]
) -> Object:
    family, ports = group
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{endpoints.metadata.name}-",
            "namespace": endpoints.metadata.namespace,
            "labels": labels,
            "ownerReferences": [reference(endpoints)],
        },
        "addressType": family,
        "endpoints": list(map(raw_endpoint, content)),
        "ports": list(map(raw_port, ports)),
    }


def _slices(namespace: str, name: str, objects: Reader) -> list[EndpointSlice]:
    found = objects.by(EndpointSlice, "label", f"{namespace}/{SERVICE_LABEL}={name}")
    mine = [s for s in found if _is_ours(s) and not s.metadata.deleting]
    return sorted(mine, key=lambda part: part.metadata.name)


def _is_ours(part: EndpointSlice) -> bool:
    return part.metadata.labels.get(MANAGED_LABEL) == MANAGED_BY


def _changed(delta: Delta[EndpointSlice], _objects: Reader) -> Iterable[str]:
    """A mirror that somebody else changed or deleted is put right again."""
    part = delta.latest
    return (f"{part.metadata.namespace}/{part.service}",) if _is_ours(part) else ()


CONTROLLER: Final = Controller(
    "endpointslice-mirroring-controller",
    {Endpoints: itself, Service: itself, EndpointSlice: _changed},
    reconcile,
)
