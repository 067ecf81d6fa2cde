"""Rules of Services and EndpointSlices. Source: Kubernetes, core/validation and discovery."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value, duplicate, required, unsupported
from sampan.apiserver.validation import names
from sampan.apiserver.validation.metadata import validate_labels

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_AFFINITIES: Final = ("ClientIP", "None")
_POLICIES: Final = ("Cluster", "Local")
_ADDRESS_TYPES: Final = ("FQDN", "IPv4", "IPv6")
_PORT_RANGE: Final = "must be between 1 and 65535, inclusive"
_LAST_PORT: Final = 65535
_IMMUTABLE: Final = "field is immutable"
_MOST_ENDPOINTS: Final = 1000


def validate_service(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type", "ClusterIP"), spec.get("ports") or ()
    if kind not in _TYPES:
        yield unsupported("spec.type", kind, _TYPES)
    headless = spec.get("clusterIP") == "None"
    if kind == "ExternalName":
        yield from _validate_external_name(spec)
    elif not ports and not headless:
        yield required("spec.ports")
    if headless and kind in {"NodePort", "LoadBalancer"}:
        why = f"may not be set to 'None' for {kind} services"
        yield bad_value("spec.clusterIPs[0]", "None", why)
    yield from _validate_ports(ports)
    yield from validate_labels(spec.get("selector"), "spec.selector")
    yield from _validate_policies(spec, kind)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        if not _is_address(address):
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            yield bad_value(f"spec.externalIPs[{index}]", address, why)


def _validate_policies(spec: Object, kind: str) -> Iterator[Cause]:
    if (affinity := spec.get("sessionAffinity", "None")) not in _AFFINITIES:
        yield unsupported("spec.sessionAffinity", affinity, _AFFINITIES)
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if (policy := spec.get(field)) and policy not in _POLICIES:
            yield unsupported(f"spec.{field}", policy, _POLICIES)
    external = kind in {"NodePort", "LoadBalancer"} or spec.get("externalIPs")
    if (policy := spec.get("externalTrafficPolicy")) and not external:
        why = "may only be set for externally-accessible services"
        yield bad_value("spec.externalTrafficPolicy", policy, why)


def _validate_external_name(spec: Object) -> Iterator[Cause]:
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield required("spec.externalName")
    elif wrong := names.subdomain(name):
        yield bad_value("spec.externalName", name, wrong)


def _validate_ports(ports: Sequence[Object]) -> Iterator[Cause]:
    named: set[str] = set()
    seen: set[tuple[object, object]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            yield required(f"{here}.name")
        elif name and (wrong := names.label(name)):
            yield bad_value(f"{here}.name", name, wrong)
        if name and name in named:
            yield duplicate(f"{here}.name", name)
        named.add(name)
        number = port.get("port", 0)
        if not 0 < number <= _LAST_PORT:
            yield bad_value(f"{here}.port", number, _PORT_RANGE)
        if (protocol := port.get("protocol", "TCP")) not in _PROTOCOLS:
            yield unsupported(f"{here}.protocol", protocol, _PROTOCOLS)
        yield from _validate_target(port.get("targetPort", number), f"{here}.targetPort")
        if (protocol, number) in seen:
            yield duplicate(here, f"{protocol}/{number}")
        seen.add((protocol, number))


def _validate_target(target: object, field: str) -> Iterator[Cause]:
    if isinstance(target, str):
        if wrong := names.port_name(target):
            yield bad_value(field, target, wrong)
    elif isinstance(target, int) and not 0 < target <= _LAST_PORT:
        yield bad_value(field, target, _PORT_RANGE)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def validate_service_update(old: Object, new: Object) -> Iterator[Cause]:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if "ExternalName" in {before.get("type"), after.get("type")}:
        return
    if before.get("clusterIP") and before["clusterIP"] != after.get("clusterIP"):
        address = after.get("clusterIP", "")
        yield Cause(
            "FieldValueInvalid",
            f'Invalid value: ["{address}"]: may not change once set',
            "spec.clusterIPs[0]",
        )


def validate_endpoint_slice(obj: Object) -> Iterator[Cause]:
    kind = obj.get("addressType", "")
    if not kind:
        yield required("addressType")
    elif kind not in _ADDRESS_TYPES:
        yield unsupported("addressType", kind, _ADDRESS_TYPES)
    endpoints = obj.get("endpoints") or ()
    if len(endpoints) > _MOST_ENDPOINTS:
        why = f"Too many: {len(endpoints)}: must have at most {_MOST_ENDPOINTS} items"
        yield Cause("FieldValueTooMany", why, "endpoints")
    for index, endpoint in enumerate(endpoints):
        here = f"endpoints[{index}]"
        if not endpoint.get("addresses"):
            yield required(f"{here}.addresses", "must contain at least 1 address")
        for place, address in enumerate(endpoint.get("addresses") or ()):
            if kind in {"IPv4", "IPv6"} and not _is_address(address):
                why = f"must be a valid {kind} address"
                yield bad_value(f"{here}.addresses[{place}]", address, why)


def validate_endpoint_slice_update(old: Object, new: Object) -> Iterator[Cause]:
    if old.get("addressType") != new.get("addressType"):
        yield bad_value("addressType", new.get("addressType", ""), _IMMUTABLE)
