"""The cluster's names, read back by another DNS implementation."""

from ipaddress import IPv4Network
from typing import Any

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import EndpointSlice, Service
from sampan.net.zone import Elsewhere, Zone, service_records
from tests.net.objects import endpoint, service, slice_of

DOMAIN = "cluster.local"


def zone(**held: tuple[Service, list[EndpointSlice]]) -> Zone:
    made = Zone(DOMAIN, pods=IPv4Network("10.42.0.0/16"), services=IPv4Network("10.43.0.0/16"))
    for key, (offered, slices) in held.items():
        made.put(key, service_records(offered, slices, DOMAIN))
    return made


HEADLESS = (
    service("None", name="db"),
    [
        slice_of(
            endpoint("10.42.1.5", host="db-0"),
            endpoint("10.42.2.6"),
            endpoint("10.42.2.7", ready=False),
        )
    ],
)
ALIAS = service("", name="out", type="ExternalName", externalName="www.example.org")
INNER = service("", name="in", type="ExternalName", externalName="web.default.svc.cluster.local")
ZONE = zone(web=(service(), []), db=HEADLESS, out=(ALIAS, []), inner=(INNER, []))


def ask(name: str, kind: str = "A", using: Zone = ZONE, **header: Any) -> DNSRecord:
    query = DNSRecord.question(name, kind)
    for key, value in header.items():
        setattr(query.header, key, value)
    answer = using.answer(bytes(query.pack()))
    assert isinstance(answer, bytes), f"{name} was passed on"
    read = DNSRecord.parse(answer)
    assert read.header.id == query.header.id
    assert read.header.qr == 1
    assert str(read.q.qname).lower() == f"{name.rstrip('.')}.".lower()
    return read


def said(answer: DNSRecord) -> set[str]:
    return {str(record.rdata) for record in answer.rr}


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("web.default.svc.cluster.local", "A", {"10.43.0.80"}),
        ("WEB.default.SVC.cluster.Local.", "A", {"10.43.0.80"}),
        ("_http._tcp.web.default.svc.cluster.local", "SRV",
         {"0 100 80 web.default.svc.cluster.local."}),
        ("80.0.43.10.in-addr.arpa", "PTR", {"web.default.svc.cluster.local."}),
        ("db.default.svc.cluster.local", "A", {"10.42.1.5", "10.42.2.6"}),
        ("db-0.db.default.svc.cluster.local", "A", {"10.42.1.5"}),
        ("10-42-2-6.db.default.svc.cluster.local", "A", {"10.42.2.6"}),
        ("_http._tcp.db.default.svc.cluster.local", "SRV",
         {"0 100 8080 db-0.db.default.svc.cluster.local.",
          "0 100 8080 10-42-2-6.db.default.svc.cluster.local."}),
        ("5.1.42.10.in-addr.arpa", "PTR", {"db-0.db.default.svc.cluster.local."}),
        ("10-42-7-9.default.pod.cluster.local", "A", {"10.42.7.9"}),
        ("out.default.svc.cluster.local", "CNAME", {"www.example.org."}),
        ("in.default.svc.cluster.local", "A", {"web.default.svc.cluster.local.", "10.43.0.80"}),
    ],
)  # fmt: skip
def test_names_of_the_cluster_resolve(name: str, kind: str, data: set[str]) -> None:
    answer = ask(name, kind)
    assert answer.header.rcode == RCODE.NOERROR
    assert said(answer) == data
    assert all(record.ttl == 5 for record in answer.rr)


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("web.default.svc.cluster.local", "AAAA", RCODE.NOERROR),
        ("db-0.db.default.svc.cluster.local", "AAAA", RCODE.NOERROR),
        ("default.svc.cluster.local", "A", RCODE.NOERROR),
        ("svc.cluster.local", "A", RCODE.NOERROR),
        ("cluster.local", "A", RCODE.NOERROR),
        ("default.pod.cluster.local", "AAAA", RCODE.NOERROR),
        ("10-42-7-9.default.pod.cluster.local", "AAAA", RCODE.NOERROR),
        ("absent.default.svc.cluster.local", "A", RCODE.NXDOMAIN),
        ("web.absent.svc.cluster.local", "A", RCODE.NXDOMAIN),
        ("web.default.cluster.local", "A", RCODE.NXDOMAIN),
        ("10-9-7-9.default.pod.cluster.local", "A", RCODE.NXDOMAIN),
        ("1.0.43.10.in-addr.arpa", "PTR", RCODE.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_denied_at_once(name: str, kind: str, code: int) -> None:
    answer = ask(name, kind)
    assert answer.header.rcode == code
    assert answer.rr == []
    [authority] = answer.auth
    assert QTYPE[authority.rtype] == "SOA"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("www.example.org", "A"),
        ("absent", "A"),
        ("1.2.0.192.in-addr.arpa", "PTR"),
        ("cluster.local.example.org", "A"),
        ("out.default.svc.cluster.local", "A"),
    ],
)
def test_other_names_are_asked_elsewhere(name: str, kind: str) -> None:
    assert isinstance(ZONE.answer(bytes(DNSRecord.question(name, kind).pack())), Elsewhere)


def test_several_addresses_take_turns_at_being_the_first() -> None:
    firsts = {str(ask("db.default.svc.cluster.local").rr[0].rdata) for _ in range(4)}
    assert len(firsts) == 2


def test_before_the_zone_is_complete_unknown_names_are_not_denied() -> None:
    young = zone(web=(service(), []))
    young.complete = False
    assert ask("db.default.svc.cluster.local", using=young).header.rcode == RCODE.SERVFAIL
    assert said(ask("web.default.svc.cluster.local", using=young)) == {"10.43.0.80"}


def test_a_service_that_goes_takes_its_names_along() -> None:
    changing = zone(db=HEADLESS, web=(service(), []))
    changing.put("db", ())
    for name in ("db", "db-0.db", "10-42-2-6.db"):
        gone = ask(f"{name}.default.svc.cluster.local", using=changing)
        assert gone.header.rcode == RCODE.NXDOMAIN
    changing.put("web", ())
    fresh = ask("default.svc.cluster.local", using=changing)
    assert fresh.header.rcode == RCODE.NXDOMAIN
    assert changing.keys() == set()


def many(count: int) -> Zone:
    ends = [endpoint(f"10.42.{i // 200}.{i % 200 + 2}") for i in range(count)]
    return zone(db=(service("None", name="db"), [slice_of(*ends)]))


def test_an_answer_that_does_not_fit_says_so_and_fits_over_tcp() -> None:
    crowd = many(200)
    query = DNSRecord.question("db.default.svc.cluster.local")
    short, whole = crowd.answer(bytes(query.pack())), crowd.answer(bytes(query.pack()), stream=True)
    assert isinstance(short, bytes)
    assert isinstance(whole, bytes)
    assert len(short) <= 512
    assert DNSRecord.parse(short).header.tc == 1
    assert len(DNSRecord.parse(short).rr) > 20
    assert len(DNSRecord.parse(whole).rr) == 200


def test_a_client_that_takes_larger_answers_gets_them() -> None:
    query = DNSRecord.question("db.default.svc.cluster.local")
    query.add_ar(EDNS0(udp_len=4096))
    answer = many(60).answer(bytes(query.pack()))
    assert isinstance(answer, bytes)
    read = DNSRecord.parse(answer)
    assert len(read.rr) == 60
    assert len(read.ar) == 1


def test_other_operations_are_refused() -> None:
    assert ask("web.default.svc.cluster.local", opcode=2).header.rcode == RCODE.NOTIMP


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_upset_the_server(query: bytes) -> None:
    answer = ZONE.answer(query)
    assert isinstance(answer, bytes | Elsewhere)
    if isinstance(answer, bytes) and answer:
        assert answer[:2] == query[:2]
        assert answer[2] & 0x80


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_damage_to_a_query_upsets_the_server(junk: bytes, at: int) -> None:
    query = bytes(DNSRecord.question("web.default.svc.cluster.local").pack())
    assert isinstance(ZONE.answer(query[:at] + junk + query[at:]), bytes | Elsewhere)
    assert isinstance(ZONE.answer(query[:at]), bytes | Elsewhere)


def test_an_answer_is_never_answered() -> None:
    query = bytearray(DNSRecord.question("web.default.svc.cluster.local").pack())
    query[2] |= 0x80
    assert ZONE.answer(bytes(query)) == b""
