"""The cluster's names as ready-made DNS answers.

A record is kept as the bytes that go on the wire: its owner's name is always the question's, which
a two-byte pointer says. Answering is a dictionary look-up and a few concatenations; nothing is
parsed but where the question ends.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from itertools import count
from typing import Final, NamedTuple

from sampan.api.objects import Endpoint, EndpointSlice, Service, ServicePort
from sampan.net.compile import is_ipv4, is_port

A, CNAME, SOA, PTR, SRV, ANY = 1, 5, 6, 12, 33, 255
TTL: Final = 5
LONGEST_LABEL: Final = 63

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4
_HEADER: Final = struct.Struct(">HHHHHH")
_RECORD: Final = struct.Struct(">HHIH")
_AT_QUESTION: Final = 0xC00C
_IN: Final = b"\0\1"
_OURS: Final = 0x8480
"""This is an answer, with authority, and recursion is to be had."""
_TRUNCATED: Final = 0x0200
_OPT: Final = b"\0\0\x29"
_SMALLEST, _LARGEST = 512, 1400
_REVERSE: Final = b"\x07in-addr\x04arpa\0"


def wire(name: str) -> bytes:
    """Encode a name; labels longer than DNS allows raise ValueError."""
    labels = [label.encode() for label in name.lower().rstrip(".").split(".")]
    if any(len(label) > LONGEST_LABEL for label in labels):
        raise ValueError(f"{name!r} has a part of more than {LONGEST_LABEL} characters")
    return b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0"


class Record(NamedTuple):
    name: bytes
    kind: int
    data: bytes


def service_records(
    service: Service, slices: Iterable[EndpointSlice], domain: str
) -> tuple[Record, ...]:
    """All that DNS says about one Service: *slices* are those that belong to it."""
    spec, meta = service.spec, service.metadata
    name = wire(f"{meta.name}.{meta.namespace}.svc.{domain}")
    if spec.type == "ExternalName":
        return _alias(name, spec.external_name)
    if spec.headless:
        sets = (_of_endpoint(name, endpoint, part) for endpoint, part in _published(slices))
        return tuple(dict.fromkeys(record for records in sets for record in records))
    return tuple(_clustered(name, spec.ports, [spec.cluster_ip, *spec.cluster_ips]))


def _alias(name: bytes, stands_for: str) -> tuple[Record, ...]:
    try:
        return (Record(name, CNAME, wire(stands_for)),)
    except ValueError:
        return ()  # nobody can resolve such a name


def _clustered(
    name: bytes, ports: Sequence[ServicePort], addresses: Sequence[str]
) -> Iterator[Record]:
    for address in dict.fromkeys(addresses):
        if is_ipv4(address):
            yield Record(name, A, IPv4Address(address).packed)
            yield Record(_reversed(address), PTR, name)
    for port in ports:
        if port.name:
            yield _service_location(name, port.name, port.protocol, port.port, name)


def _published(slices: Iterable[EndpointSlice]) -> Iterator[tuple[Endpoint, EndpointSlice]]:
    for part in slices:
        if part.address_type != "IPv4":
            continue
        for endpoint in part.endpoints:
            sayable = len(endpoint.hostname) <= LONGEST_LABEL
            if endpoint.conditions.ready and is_ipv4(*endpoint.addresses[:1]) and sayable:
                yield endpoint, part


def _of_endpoint(name: bytes, endpoint: Endpoint, part: EndpointSlice) -> Iterator[Record]:
    address = endpoint.addresses[0]
    host = wire(endpoint.hostname or address.replace(".", "-"))[:-1] + name
    packed = IPv4Address(address).packed
    yield Record(name, A, packed)
    yield Record(host, A, packed)
    yield Record(_reversed(address), PTR, host)
    for port in part.ports:
        if port.name and is_port(port.port):
            yield _service_location(name, port.name, port.protocol, port.port, host)


def _service_location(name: bytes, port: str, protocol: str, number: int, host: bytes) -> Record:
    owner = wire(f"_{port[: LONGEST_LABEL - 1]}._{protocol}")[:-1] + name
    return Record(owner, SRV, struct.pack(">HHH", 0, 100, number) + host)


def _reversed(address: str) -> bytes:
    return wire(".".join(reversed(address.split("."))))[:-1] + _REVERSE


class Question(NamedTuple):
    """The first question of a query, and how large an answer may be."""

    query: bytes
    name: bytes
    kind: int
    end: int
    edns: bool
    limit: int

    @property
    def id(self) -> int:
        return int.from_bytes(self.query[:2], "big")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The answer is not ours to give: ask for *name*, and tell of *alias* if that led there."""

    question: Question
    name: bytes
    alias: bytes = b""


def read(query: bytes, *, stream: bool = False) -> Question | None:
    """Take a query apart as far as needed; None if it is none that anybody could answer."""
    try:
        at = 12
        while size := query[at]:
            at += size + 1
            if size > LONGEST_LABEL:  # a question has no pointers
                return None
        if query[4:6] != b"\0\1" or len(query) < at + 5:
            return None
        kind = query[at + 1] << 8 | query[at + 2]
        edns = query[10:12] != b"\0\0" and query[at + 5 : at + 8] == _OPT
        offered = query[at + 8] << 8 | query[at + 9] if edns else _SMALLEST
    except IndexError:
        return None
    limit = 65535 if stream else min(max(offered, _SMALLEST), _LARGEST)
    return Question(query, query[12 : at + 1].lower(), kind, at + 5, edns, limit)


class Zone:
    """All names of a cluster; Services are put in one at a time."""

    def __init__(self, domain: str, *, pods: IPv4Network, services: IPv4Network) -> None:
        self._suffix = wire(domain)
        self._pods, self._networks = wire(f"pod.{domain}"), (pods, services)
        self.complete = True
        """False while there may be names that this zone has not heard of."""
        self._filed: dict[str, tuple[Record, ...]] = {}
        self._names: defaultdict[bytes, dict[int, list[bytes]]] = defaultdict(dict)
        self._parents: Counter[bytes] = Counter()
        for name in (f"svc.{domain}", f"pod.{domain}"):
            self._count_parents(wire(f"_.{name}"), 1)
        self._turns = count()
        mail, server = wire(f"hostmaster.{domain}"), wire(f"ns.dns.{domain}")
        numbers = struct.pack(">IIIII", 1, 7200, 1800, 86400, TTL)
        authority = server + mail + numbers
        self._authority = self._suffix + _RECORD.pack(SOA, 1, TTL, len(authority)) + authority

    def keys(self) -> set[str]:
        return set(self._filed)

    def put(self, key: str, records: tuple[Record, ...]) -> None:
        """File *records* under *key* in place of what is there; none removes it."""
        old = self._filed.pop(key, ())
        if records:
            self._filed[key] = records
        if records == old:
            return
        for record in old:
            kinds = self._names[record.name]
            kinds[record.kind].remove(_resource(record))
            if not kinds[record.kind]:
                del kinds[record.kind]
            if not kinds:
                del self._names[record.name]
            self._count_parents(record.name, -1)
        for record in records:
            self._names[record.name].setdefault(record.kind, []).append(_resource(record))
            self._count_parents(record.name, 1)

    def answer(self, query: bytes, *, stream: bool = False) -> bytes | Elsewhere:
        """Answer *query*, or say where else to ask; empty if it deserves no answer."""
        question = read(query, stream=stream)
        if question is None or query[2] & 0x80:
            return _unread(query)
        if query[2] & 0x78:
            return reply(question, code=NOTIMP)
        if question.query[question.end - 2 : question.end] != _IN:
            return Elsewhere(question, question.name)
        if kinds := self._names.get(question.name):
            return self._known(question, kinds)
        return self._unknown(question)

    def _known(self, question: Question, kinds: dict[int, list[bytes]]) -> bytes | Elsewhere:
        if records := kinds.get(question.kind):
            return reply(question, self._rotated(records))
        if aliases := kinds.get(CNAME):
            return self._follow(question, aliases[0])
        if question.kind == ANY:
            return reply(question, [r for records in kinds.values() for r in records])
        return self._none(question, NOERROR)

    def _follow(self, question: Question, alias: bytes) -> bytes | Elsewhere:
        """Say what the alias leads to as well: the resolvers of libcs do not ask again."""
        name = alias[2 + _RECORD.size :]
        found = self._names.get(name, {}).get(question.kind)
        if found:
            full = [name + record[2:] for record in self._rotated(found)]
            return reply(question, [alias, *full])
        if name.endswith(self._suffix):
            return reply(question, [alias])
        return Elsewhere(question, name, alias)

    def _unknown(self, question: Question) -> bytes | Elsewhere:
        name = question.name
        if name.endswith(_REVERSE):
            address = _address(_labels(name[: -len(_REVERSE)])[::-1])
            if not address or not any(address in network for network in self._networks):
                return Elsewhere(question, name)
            return self._none(question, NXDOMAIN)
        if not name.endswith(self._suffix):
            return Elsewhere(question, name)
        if name in self._parents or name == self._suffix:
            return self._none(question, NOERROR)
        if name.endswith(self._pods):
            return self._pod(question, name[: -len(self._pods)])
        return self._none(question, NXDOMAIN)

    def _pod(self, question: Question, labels: bytes) -> bytes:
        """10-42-1-7.NAMESPACE.pod.DOMAIN is what it says it is."""
        first = labels[1 : 1 + labels[0]]
        if len(labels) == 1 + len(first):
            return self._none(question, NOERROR)  # a namespace, which has no address
        address = _address([first], "-")
        if not address or address not in self._networks[0]:
            return self._none(question, NXDOMAIN)
        if question.kind != A:
            return self._none(question, NOERROR)
        return reply(question, [_resource(Record(b"", A, address.packed))])

    def _none(self, question: Question, code: int) -> bytes:
        if not self.complete:
            return reply(question, code=SERVFAIL)
        return reply(question, code=code, authority=self._authority)

    def _rotated(self, records: list[bytes]) -> list[bytes]:
        """Begin with another record each time: many clients take the first."""
        if len(records) == 1:
            return records
        start = next(self._turns) % len(records)
        return records[start:] + records[:start]

    def _count_parents(self, name: bytes, change: int) -> None:
        """Names that only have names below them exist too, and have no records."""
        while name.endswith(self._suffix) and len(name) > len(self._suffix):
            name = name[1 + name[0] :]
            self._parents[name] += change
            if not self._parents[name]:
                del self._parents[name]


def reply(
    question: Question,
    records: Sequence[bytes] = (),
    *,
    code: int = NOERROR,
    authority: bytes = b"",
) -> bytes:
    """Put an answer together; what does not fit is left out, and the answer says so."""
    query = question.query
    asked, opt = query[12 : question.end], _OPT + b"\5\x78\0\0\0\0\0\0" if question.edns else b""
    flags = _OURS | (query[2] & 1) << 8 | code
    room = question.limit - 12 - len(asked) - len(opt) - len(authority)
    body = b"".join(records)
    number = len(records)
    if len(body) > room:
        body, number = _as_fits(records, room)
        flags |= _TRUNCATED
    head = _HEADER.pack(
        question.id, flags, 1, number, 1 if authority else 0, 1 if question.edns else 0
    )
    return head + asked + body + authority + opt


def _as_fits(records: Sequence[bytes], room: int) -> tuple[bytes, int]:
    body, number = b"", 0
    for record in records:
        if len(body) + len(record) > room:
            break
        body, number = body + record, number + 1
    return body, number


def _unread(query: bytes) -> bytes:
    """Say that a query was not understood; but never answer an answer."""
    if len(query) < 12 or query[2] & 0x80:  # noqa: PLR2004 - a header's size
        return b""
    flags = _OURS | (query[2] & 1) << 8 | FORMERR
    return query[:2] + struct.pack(">HHHHH", flags, 0, 0, 0, 0)


def _resource(record: Record) -> bytes:
    head = _RECORD.pack(record.kind, 1, TTL, len(record.data))
    return _AT_QUESTION.to_bytes(2, "big") + head + record.data


def _labels(name: bytes) -> list[bytes]:
    found = []
    while name and name[0]:
        found.append(name[1 : 1 + name[0]])
        name = name[1 + name[0] :]
    return found


def _address(parts: Sequence[bytes], dot: str = ".") -> IPv4Address | None:
    try:
        return IPv4Address(b".".join(parts).decode("ascii").replace(dot, "."))
    except (AddressValueError, UnicodeDecodeError):
        return None
