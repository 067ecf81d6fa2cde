"""Services, their endpoints, and what else directs traffic."""

from datetime import datetime
from typing import Final

from sampan.api.objects import Object
from sampan.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    Column,
    at,
    few,
    joined,
    selector,
    text,
    wide,
)


def _external_ip(service: Object, _now: datetime) -> str:
    kind = at(service, "spec", "type", default="ClusterIP")
    given = list(at(service, "spec", "externalIPs", default=()))
    if kind == "ExternalName":
        return str(at(service, "spec", "externalName", default=""))
    if kind != "LoadBalancer":
        return joined(given)
    found = _addresses(service)
    return joined([*found, *given], "<pending>")


def _addresses(obj: Object) -> list[str]:
    ingress = at(obj, "status", "loadBalancer", "ingress", default=())
    return [one.get("ip") or one.get("hostname") or "" for one in ingress]


def _ports(service: Object, _now: datetime) -> str:
    return joined(
        f"{port['port']}:{port['nodePort']}/{port.get('protocol', 'TCP')}"
        if port.get("nodePort")
        else f"{port['port']}/{port.get('protocol', 'TCP')}"
        for port in at(service, "spec", "ports", default=())
    )


SERVICES: Final = (
    NAME,
    text("Type", "spec", "type", default="ClusterIP"),
    text("Cluster-IP", "spec", "clusterIP", default=NONE),
    Column("External-IP", _external_ip),
    Column("Port(s)", _ports),
    AGE,
    wide("Selector", lambda obj, _: selector(at(obj, "spec", "selector"))),
)


def _subsets(endpoints: Object, _now: datetime) -> str:
    told = []
    for subset in endpoints.get("subsets") or ():
        for address in subset.get("addresses") or ():
            ports = subset.get("ports") or ()
            told += [f"{address['ip']}:{port['port']}" for port in ports] or [address["ip"]]
    return few(told) if told else NONE


ENDPOINTS: Final = (NAME, Column("Endpoints", _subsets), AGE)


def _slice_ports(obj: Object, _now: datetime) -> str:
    return few([str(port.get("port", "*")) for port in obj.get("ports") or ()])


def _slice_addresses(obj: Object, _now: datetime) -> str:
    endpoints = obj.get("endpoints") or ()
    return few([address for one in endpoints for address in one.get("addresses") or ()])


ENDPOINT_SLICES: Final = (
    NAME,
    text("AddressType", "addressType"),
    Column("Ports", _slice_ports),
    Column("Endpoints", _slice_addresses),
    AGE,
)


def _hosts(ingress: Object, _now: datetime) -> str:
    rules = at(ingress, "spec", "rules", default=())
    hosts = [rule.get("host") or "*" for rule in rules]
    return few(hosts) if hosts else "*"


def _ingress_ports(ingress: Object, _now: datetime) -> str:
    return "80, 443" if at(ingress, "spec", "tls") else "80"


INGRESSES: Final = (
    NAME,
    text("Class", "spec", "ingressClassName", default=NONE),
    Column("Hosts", _hosts),
    Column("Address", lambda obj, _: joined(_addresses(obj), "")),
    Column("Ports", _ingress_ports),
    AGE,
)


def _parameters(obj: Object, _now: datetime) -> str:
    target = at(obj, "spec", "parameters", default={})
    if not target:
        return NONE
    group = target.get("apiGroup")
    return f"{target['kind']}{f'.{group}' if group else ''}/{target['name']}"


INGRESS_CLASSES: Final = (
    NAME,
    text("Controller", "spec", "controller"),
    Column("Parameters", _parameters),
    AGE,
)
POLICIES: Final = (
    NAME,
    Column("Pod-Selector", lambda obj, _: selector(at(obj, "spec", "podSelector"))),
    AGE,
)
