"""Cluster addresses and node ports: who has which, and what is still free.

Everything is taken in memory, at once, before the write that needs it, and given back when that
write fails; so concurrent creates cannot get the same. What is taken is found again at start from
the Services that exist.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Final

from msgspec import Struct

from sampan.api.errors import ApiError, Cause, InternalError
from sampan.api.objects import Object
from sampan.apiserver.problems import bad_value
from sampan.apiserver.settings import Settings

NONE: Final = "None"
_WITH_PORTS: Final = frozenset({"NodePort", "LoadBalancer"})
_EXTERNAL_ONLY: Final = (
    "externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts",
    "loadBalancerClass", "loadBalancerSourceRanges",
)  # fmt: skip
_TRIES: Final = 64

Port = tuple[str, int]


class Holding(Struct, frozen=True):
    """What one Service has."""

    addresses: frozenset[str] = frozenset()
    ports: frozenset[Port] = frozenset()

    def without(self, other: "Holding") -> "Holding":
        return Holding(self.addresses - other.addresses, self.ports - other.ports)


def holding(service: Object | None) -> Holding:
    spec = (service or {}).get("spec") or {}
    address = spec.get("clusterIP") or NONE
    ports = {
        (port.get("protocol", "TCP"), port["nodePort"])
        for port in spec.get("ports") or ()
        if port.get("nodePort")
    }
    if spec.get("healthCheckNodePort"):
        ports.add(("TCP", spec["healthCheckNodePort"]))
    return Holding(frozenset({address} - {NONE}), frozenset(ports))


class Refused(Exception):
    """What was asked for cannot be had; *cause* tells a client why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.message)
        self.cause = cause


class Allocator:
    def __init__(self, settings: Settings, random: Random) -> None:
        self._network = IPv4Network(settings.service_cidr)
        self._range = range(settings.first_node_port, settings.last_node_port + 1)
        self._random = random
        self._reserved = frozenset({str(self._network[1]), settings.dns_ip})
        self._addresses: set[str] = set()
        self._ports: set[Port] = set()

    @property
    def held(self) -> Holding:
        """All that is taken."""
        return Holding(frozenset(self._addresses), frozenset(self._ports))

    def rebuild(self, services: Iterable[Object]) -> None:
        """Forget everything, and take what *services* have."""
        self._addresses.clear()
        self._ports.clear()
        for service in services:
            held = holding(service)
            self._addresses |= held.addresses
            self._ports |= held.ports

    def assign(self, service: Object, old: Object | None = None) -> Holding:
        """Complete *service*, which follows *old*, and return what was newly taken for it."""
        before = holding(old)
        taken = Holding()
        try:
            for more in self._assigned(service, before, (old or {}).get("spec") or {}):
                taken = Holding(taken.addresses | more.addresses, taken.ports | more.ports)
        except (Refused, ApiError):
            self.release(taken)
            raise
        return taken

    def release(self, held: Holding) -> None:
        self._addresses -= held.addresses
        self._ports -= held.ports

    def _assigned(self, service: Object, before: Holding, old: Object) -> Iterator[Holding]:
        spec = service["spec"]
        kind = spec.get("type", "ClusterIP")
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        else:
            yield self._address(spec, before)
        if kind in _WITH_PORTS and spec.get("allocateLoadBalancerNodePorts", True):
            yield from self._node_ports(spec, before)
        elif kind not in _WITH_PORTS:
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
        if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            yield self._health_port(spec, before, old)
        else:
            spec.pop("healthCheckNodePort", None)

    def _address(self, spec: Object, before: Holding) -> Holding:
        given = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if given == NONE:
            spec["clusterIP"], spec["clusterIPs"] = NONE, [NONE]
            return Holding()
        address = given or self._free_address()
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        if address in before.addresses:
            return Holding()
        self._check_address(address)
        self._addresses.add(address)
        return Holding(frozenset({address}))

    def _check_address(self, address: str) -> None:
        try:
            parsed = IPv4Address(address)
        except ValueError:
            why = "must be a valid IP address, (e.g. 10.9.8.7)"
            raise Refused(bad_value("spec.clusterIPs[0]", address, why)) from None
        if parsed not in self._network or parsed in (
            self._network.network_address,
            self._network.broadcast_address,
        ):
            why = (
                "failed to allocate IP "
                f"{address}: the provided IP ({address}) is not in the valid range. The range of "
                f"valid IPs is {self._network}"
            )
            raise Refused(_bad_addresses(address, why))
        if address in self._addresses:
            why = f"failed to allocate IP {address}: provided IP is already allocated"
            raise Refused(_bad_addresses(address, why))

    def _free_address(self) -> str:
        size = self._network.num_addresses
        for _ in range(_TRIES):
            address = str(self._network[self._random.randrange(1, size - 1)])
            if address not in self._addresses and address not in self._reserved:
                return address
        for host in self._network.hosts():
            if str(host) not in self._addresses and str(host) not in self._reserved:
                return str(host)
        raise InternalError(
            f"failed to allocate a serviceIP: all addresses of {self._network} are in use"
        )

    def _node_ports(self, spec: Object, before: Holding) -> Iterator[Holding]:
        mine: set[Port] = set()
        ports = spec.get("ports") or ()
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                wanted = (port.get("protocol", "TCP"), port["nodePort"])
                if wanted not in before.ports and wanted not in mine:
                    self._check_port(f"spec.ports[{index}].nodePort", wanted)
                    yield self._take_port(wanted)
                mine.add(wanted)
        for port in ports:
            if not port.get("nodePort"):
                protocol: str = port.get("protocol", "TCP")
                number = self._twin(ports, port, protocol) or self._free_port(protocol)
                port["nodePort"] = number
                yield self._take_port((protocol, number))

    def _health_port(self, spec: Object, before: Holding, old: Object) -> Holding:
        """Where a load balancer may ask each node whether it has endpoints of its own."""
        number = spec.get("healthCheckNodePort") or old.get("healthCheckNodePort")
        wanted = ("TCP", number or self._free_port("TCP"))
        spec["healthCheckNodePort"] = wanted[1]
        if wanted in before.ports:
            return Holding()
        if number:
            self._check_port("spec.healthCheckNodePort", wanted)
        return self._take_port(wanted)

    def _twin(self, ports: Iterable[Object], port: Object, protocol: str) -> int:
        """The node port of the same port for another protocol, if it is free for this, or 0."""
        for other in ports:
            number = other.get("nodePort") if other.get("port") == port.get("port") else None
            if number and (protocol, number) not in self._ports:
                return int(number)
        return 0

    def _check_port(self, field: str, wanted: Port) -> None:
        if wanted[1] not in self._range:
            first, last = self._range[0], self._range[-1]
            why = (
                "provided port is not in the valid range. The range of valid ports is "
                f"{first}-{last}"
            )
            raise Refused(bad_value(field, wanted[1], why))
        if wanted in self._ports:
            raise Refused(bad_value(field, wanted[1], "provided port is already allocated"))

    def _free_port(self, protocol: str) -> int:
        for _ in range(_TRIES):
            number = self._random.choice(self._range)
            if (protocol, number) not in self._ports:
                return number
        for number in self._range:
            if (protocol, number) not in self._ports:
                return number
        raise InternalError("failed to allocate a nodePort: range is full")

    def _take_port(self, port: Port) -> Holding:
        self._ports.add(port)
        return Holding(ports=frozenset({port}))


def _bad_addresses(address: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: ["{address}"]: {why}', "spec.clusterIPs")


def carry_over(old: Object, new: Object) -> None:
    """Give *new*, an update that leaves them out, the address and node ports of *old*."""
    before, spec = old.get("spec") or {}, new["spec"]
    if "ExternalName" not in {spec.get("type"), before.get("type")}:
        _carry_address(before, spec)
    if before.get("type") not in _WITH_PORTS:
        return
    if spec.get("type") in _WITH_PORTS:
        _carry_ports(before, spec)
        return
    for field in _EXTERNAL_ONLY:
        if spec.get(field) == before.get(field):
            spec.pop(field, None)


def _carry_address(before: Object, spec: Object) -> None:
    if not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for field in ("clusterIP", "clusterIPs"):
            if field in before:
                spec[field] = before[field]
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if field in before:
            spec.setdefault(field, before[field])


def _carry_ports(before: Object, spec: Object) -> None:
    known = {_port_key(port): port.get("nodePort") for port in before.get("ports") or ()}
    used = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    for port in spec.get("ports") or ():
        number = known.get(_port_key(port))
        if not port.get("nodePort") and number and number not in used:
            port["nodePort"] = number


def _port_key(port: Object) -> tuple[object, object]:
    return port.get("protocol", "TCP"), port.get("port")
