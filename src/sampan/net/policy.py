"""NetworkPolicies compiled: which of a node's Pods are guarded, and what may pass to and from each.

Pure. What may pass is a list of boxes: a range of addresses, a protocol, a range of ports. Boxes
of one list never overlap, because the kernel's sets refuse what does. Source of the semantics:
Kubernetes documentation, "Network Policies", and the API reference of NetworkPolicy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from msgspec import field

from sampan.api.kinds import BY_GVK
from sampan.api.objects import ContainerPort, IntOrString, Object, Pod, Resource, View
from sampan.api.selectors import EVERYTHING, Selector, from_label_selector
from sampan.net.compile import PROTOCOLS, is_ipv4

ALL_ADDRESSES: Final = (0, (1 << 32) - 1)
ALL_PORTS: Final = (0, (1 << 16) - 1)

Range: TypeAlias = tuple[int, int]
"""First and last."""


class IpBlock(View):
    cidr: str = ""
    excepted: list[str] = field(default_factory=list, name="except")


class Peer(View):
    pod_selector: Object | None = None
    namespace_selector: Object | None = None
    ip_block: IpBlock | None = None


class PolicyPort(View):
    protocol: str = "TCP"
    port: IntOrString | None = None
    end_port: int | None = None


class Rule(View):
    """One direction has `from`, the other `to`; never both."""

    from_: list[Peer] | None = field(default=None, name="from")
    to: list[Peer] | None = None
    ports: list[PolicyPort] | None = None

    @property
    def peers(self) -> Sequence[Peer]:
        return self.from_ or self.to or ()


class PolicySpec(View):
    pod_selector: Object = field(default_factory=dict)
    policy_types: list[str] = field(default_factory=list)
    ingress: list[Rule] | None = None
    egress: list[Rule] | None = None


class NetworkPolicy(Resource):
    KIND = BY_GVK["networking.k8s.io/v1", "NetworkPolicy"]
    spec: PolicySpec = PolicySpec()

    @property
    def directions(self) -> Sequence[str]:
        if self.spec.policy_types:
            return self.spec.policy_types
        return ("Ingress", "Egress") if self.spec.egress else ("Ingress",)


class Box(NamedTuple):
    """Addresses, and of one protocol ("" is any, with all its ports) the ports."""

    addresses: Range
    protocol: str = ""
    ports: Range = ALL_PORTS


Allowed: TypeAlias = tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """What may come to a Pod, and what may leave it; None is anything."""

    ingress: Allowed | None = None
    egress: Allowed | None = None


def compile_policies(
    here: Iterable[Pod],
    policies: Iterable[NetworkPolicy],
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> dict[str, Guard]:
    """Say by address how the Pods *here* are guarded; those that no policy means are left out.

    *pods* are those of the whole cluster, *namespaces* has the labels of each.
    """
    judge = _Judge([pod for pod in pods if has_address(pod)], namespaces)
    known = list(policies)
    guards = {}
    for pod in here:
        if has_address(pod):
            mine = [policy for policy in known if _means(policy, pod)]
            guard = Guard(judge.allowed(pod, mine, "Ingress"), judge.allowed(pod, mine, "Egress"))
            if guard != Guard():
                guards[pod.status.pod_ip] = guard
    return guards


def has_address(pod: Pod) -> bool:
    """Whether a Pod has an address of its own, that it will keep for now."""
    return is_ipv4(pod.status.pod_ip) and not pod.spec.host_network and not pod.finished


def _means(policy: NetworkPolicy, pod: Pod) -> bool:
    if policy.metadata.namespace != pod.metadata.namespace:
        return False
    return _selector(policy.spec.pod_selector).matches(pod.metadata.labels)


def _selector(raw: Object | None) -> Selector:
    return from_label_selector(raw) or EVERYTHING


class _Judge:
    """Knows who is who; remembers whom the peers of a rule mean."""

    def __init__(self, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._pods, self._namespaces = pods, namespaces
        self._members: dict[tuple[str, bytes], list[Pod]] = {}

    def allowed(
        self, pod: Pod, policies: Sequence[NetworkPolicy], direction: str
    ) -> Allowed | None:
        """All that one of *policies* allows; None if none of them is about *direction*."""
        about = [policy for policy in policies if direction in policy.directions]
        if not about:
            return None
        boxes: list[Box] = []
        for policy in about:
            spec = policy.spec
            for rule in (spec.ingress if direction == "Ingress" else spec.egress) or ():
                space = policy.metadata.namespace
                if direction == "Ingress":
                    boxes += self._incoming(rule, pod, space)
                else:
                    boxes += self._outgoing(rule, space)
        return disjoint(boxes)

    def _incoming(self, rule: Rule, pod: Pod, space: str) -> Iterator[Box]:
        addresses = self._addresses(rule, space)
        for protocol, ports in _numbers(rule, pod):
            yield from (Box(a, protocol, ports) for a in addresses)

    def _outgoing(self, rule: Rule, space: str) -> Iterator[Box]:
        """Named ports are those of the Pods that are called, so each Pod is asked for its own."""
        if not any(isinstance(port.port, str) for port in rule.ports or ()):
            yield from self._incoming(rule, Pod(), space)
            return
        for member in self._peers(rule, space):
            at = int(IPv4Address(member.status.pod_ip))
            for protocol, ports in _numbers(rule, member):
                yield Box((at, at), protocol, ports)
        numbered = [port for port in rule.ports or () if not isinstance(port.port, str)]
        if numbered:
            yield from self._incoming(Rule(to=rule.to, ports=numbered), Pod(), space)

    def _peers(self, rule: Rule, space: str) -> Iterable[Pod]:
        if not rule.peers:
            return self._pods
        return (pod for peer in rule.peers for pod in self._selected(peer, space))

    def _addresses(self, rule: Rule, space: str) -> list[Range]:
        if not rule.peers:
            return [ALL_ADDRESSES]
        found: list[Range] = []
        for peer in rule.peers:
            if peer.ip_block:
                found += _block(peer.ip_block)
            else:
                numbers = (int(IPv4Address(p.status.pod_ip)) for p in self._selected(peer, space))
                found += [(number, number) for number in numbers]
        return merged(found)

    def _selected(self, peer: Peer, space: str) -> Iterator[Pod]:
        if peer.ip_block or (peer.pod_selector is None and peer.namespace_selector is None):
            return
        wanted = _selector(peer.pod_selector)
        spaces = {space}
        if peer.namespace_selector is not None:
            chosen = _selector(peer.namespace_selector)
            spaces = {name for name, labels in self._namespaces.items() if chosen.matches(labels)}
        for pod in self._pods:
            if pod.metadata.namespace in spaces and wanted.matches(pod.metadata.labels):
                yield pod


def _numbers(rule: Rule, pod: Pod) -> Iterator[tuple[str, Range]]:
    """The protocols and ports that a rule means, where *pod* is who is called."""
    if not rule.ports:
        yield "", ALL_PORTS
    for port in rule.ports or ():
        if port.protocol not in PROTOCOLS:
            continue
        if port.port is None:
            yield port.protocol, ALL_PORTS
        elif isinstance(port.port, int):
            yield port.protocol, (port.port, max(port.end_port or port.port, port.port))
        else:
            for offered in _offered(pod):
                if (offered.name, offered.protocol) == (port.port, port.protocol):
                    yield port.protocol, (offered.container_port, offered.container_port)


def _offered(pod: Pod) -> Iterator[ContainerPort]:
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        yield from container.ports


def _block(block: IpBlock) -> Iterator[Range]:
    """A block without its exceptions; one of IPv6 is nobody's here."""
    whole = _network(block.cidr)
    if whole is None:
        return
    holes = merged(hole for hole in map(_network, block.excepted) if hole)
    first, last = whole
    for hole_first, hole_last in holes:
        if hole_last < first or hole_first > last:
            continue
        if first < hole_first:
            yield first, hole_first - 1
        first = hole_last + 1
    if first <= last:
        yield first, last


def _network(text: str) -> Range | None:
    try:
        network = IPv4Network(text, strict=False)
    except (AddressValueError, ValueError):
        return None
    return int(network.network_address), int(network.broadcast_address)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in as few ranges as possible, in order."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def disjoint(boxes: Iterable[Box]) -> Allowed:
    """The same space in boxes that do not overlap, in order."""
    known = set(boxes)
    open_to = merged(box.addresses for box in known if not box.protocol)
    found = [Box(addresses) for addresses in open_to]
    if open_to == [ALL_ADDRESSES]:
        return tuple(found)
    for protocol in sorted({box.protocol for box in known if box.protocol}):
        mine = [box for box in known if box.protocol == protocol]
        for ports, addresses in _slices(mine):
            found += [Box(a, protocol, ports) for a in addresses]
    return tuple(found)


def _slices(boxes: Sequence[Box]) -> Iterator[tuple[Range, list[Range]]]:
    """Cut along the ports, and put neighbours together that are open to the same addresses."""
    starting: dict[int, list[Box]] = {}
    ending: dict[int, list[Box]] = {}
    for box in boxes:
        starting.setdefault(box.ports[0], []).append(box)
        ending.setdefault(box.ports[1] + 1, []).append(box)
    cuts = sorted(starting.keys() | ending.keys())
    current: set[Box] = set()
    pending: tuple[Range, list[Range]] | None = None
    for cut, following in pairwise(cuts):
        current.difference_update(ending.get(cut, ()))
        current.update(starting.get(cut, ()))
        addresses = merged(box.addresses for box in current)
        if pending and pending[1] == addresses and pending[0][1] + 1 == cut:
            pending = (pending[0][0], following - 1), addresses
            continue
        if pending and pending[1]:
            yield pending
        pending = (cut, following - 1), addresses
    if pending and pending[1]:
        yield pending
