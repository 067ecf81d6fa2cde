"""Ports and names: the Services by which a service is reached.

Inside the stack a service answers on its own ports under its own name, as on Docker's networks. A
published port is another Service, because its number differs, and every node answers on it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sampan.compose.document import Node
from sampan.compose.names import PUBLISHED, dns_label

Object = dict[str, Any]
_MOST: Final = 65535
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")
_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::", "[::]"})


@dataclass(frozen=True, slots=True)
class Port:
    target: int
    protocol: str = "TCP"
    published: int | None = None
    """None for a port that other services only may use."""
    chosen: bool = False
    """Published on whatever port is free."""
    name: str = ""
    app_protocol: str = ""


def ports_of(service: Node) -> list[Port]:
    ports: list[Port] = []
    for node in _items(service, "ports"):
        ports += _long(node) if isinstance(node.value, dict) else _short(node)
    for node in _items(service, "expose"):
        span, _, protocol = node.text().partition("/")
        ports += [Port(target, _protocol(protocol, node)) for target in _span(span, node)]
    return ports


def _items(service: Node, key: str) -> list[Node]:
    node = service.get(key)
    return node.sequence() if node else []


def _short(node: Node) -> Iterator[Port]:
    """Read `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]`; both may be spans of the same length."""
    place, _, protocol = node.text().partition("/")
    rest, _, target = place.rpartition(":")
    address, _, published = rest.rpartition(":")
    _check_address(address, node)
    targets = _span(target, node)
    kind = _protocol(protocol, node)
    if not published:
        yield from (Port(target, kind, chosen=True) for target in targets)
        return
    outside = _span(published, node)
    if len(outside) != len(targets):
        node.fail(f"{published} and {target} are not as many ports")
    for inner, outer in zip(targets, outside, strict=True):
        yield Port(inner, kind, outer)


def _long(node: Node) -> Iterator[Port]:
    target, published = node.get("target"), node.get("published")
    if target is None:
        node.fail("`target` is missing")
    if (mode := node.get("mode")) and mode.choice("ingress", "host") == "host":
        mode.fail("`host` is refused: a published port is answered by every node")
    address, protocol = node.get("host_ip"), node.get("protocol")
    _check_address(address.text() if address else "", address or node)
    name, app_protocol = node.get("name"), node.get("app_protocol")
    [inner] = _one(target)
    yield Port(
        inner,
        _protocol(protocol.text() if protocol else "", protocol or node),
        _one(published)[0] if published else None,
        chosen=published is None,
        name=dns_label(name.text(), name) if name else "",
        app_protocol=app_protocol.text() if app_protocol else "",
    )


def _one(node: Node) -> list[int]:
    numbers = _span(node.text(), node)
    if len(numbers) != 1:
        node.fail(f"{node.raw!r} is more than one port")
    return numbers


def _check_address(address: str, node: Node) -> None:
    if address not in _ANYWHERE:
        node.fail(
            f"the address {address} is refused: a published port is answered on every node's "
            "address; leave the address out, or leave the port out and use "
            "`kubectl port-forward`"
        )


def _span(text: str, node: Node) -> list[int]:
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= _MOST:
        node.fail(f"{text!r} is no port: write a number from 1 to {_MOST}, or a span 8000-8005")
    return list(range(first, last + 1))


def _protocol(text: str, node: Node) -> str:
    if text.lower() not in {"", "tcp", "udp", "sctp"}:
        node.fail(f"{text!r} is no protocol: write tcp or udp")
    return text.upper() or "TCP"


def services_for(name: str, ports: list[Port], *, selector: Object, headless: bool) -> list[Object]:
    """The Service under *name*, and beside it the one that is published."""
    inside = {(port.target, port.protocol): port for port in reversed(ports)}
    listed = [_inner(port) for port in reversed(inside.values())]
    spec: Object = {"selector": selector}
    if headless or not listed:
        spec["clusterIP"] = "None"
    if listed:
        spec["ports"] = listed
    services = [_service(name, spec)]
    outside = [port for port in ports if port.published or port.chosen]
    if outside:
        anywhere = all(port.chosen for port in outside)
        kind = "NodePort" if anywhere else "LoadBalancer"
        published = {(p.published or p.target, p.protocol): _outer(p) for p in outside}
        spec = {"type": kind, "selector": selector, "ports": list(published.values())}
        services.append(_service(name + PUBLISHED, spec))
    return services


def _service(name: str, spec: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _inner(port: Port) -> Object:
    return _entry(port, port.target)


def _outer(port: Port) -> Object:
    return _entry(port, port.published or port.target)


def _entry(port: Port, number: int) -> Object:
    entry: Object = {
        "name": port.name or f"{port.protocol.lower()}-{number}",
        "port": number,
        "targetPort": port.target,
        "protocol": port.protocol,
    }
    if port.app_protocol:
        entry["appProtocol"] = port.app_protocol
    return entry
