"""Cluster addresses and node ports: each to one Service only."""

import asyncio
from ipaddress import IPv4Address, IPv4Network
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import AlreadyExists, InternalError, Invalid
from sampan.apiserver.allocation import Allocator, Holding, Refused, holding
from sampan.apiserver.settings import Settings
from tests.apiserver.support import Api, service, started


def node_port(number: int, **port: Any) -> list[dict[str, Any]]:
    return [{"port": 80, "nodePort": number, **port}]


async def test_a_service_gets_an_address_of_the_range(api: Api) -> None:
    made = await api.create(kinds.SERVICES, service())
    address = made["spec"]["clusterIP"]
    assert IPv4Address(address) in IPv4Network("10.43.0.0/16")
    assert made["spec"]["clusterIPs"] == [address]
    assert made["spec"]["ipFamilies"] == ["IPv4"]
    assert "nodePort" not in made["spec"]["ports"][0]


async def test_all_addresses_but_the_reserved_are_given_and_then_no_more() -> None:
    api = await started(service_cidr="10.43.0.0/28", dns_ip="10.43.0.10")
    for number in range(12):
        await api.create(kinds.SERVICES, service(f"s{number}"))
    services = await api.page(kinds.SERVICES)
    given_ = {entry.object["spec"]["clusterIP"] for entry in services.items}
    assert given_ == {f"10.43.0.{host}" for host in range(1, 15) if host != 10}
    with pytest.raises(InternalError, match=r"all addresses of 10\.43\.0\.0/28 are in use"):
        await api.create(kinds.SERVICES, service("more"))
    dns = await api.create(kinds.SERVICES, service("dns", clusterIP="10.43.0.10"))
    assert dns["spec"]["clusterIP"] == "10.43.0.10"


async def test_an_address_may_be_asked_for_once(api: Api) -> None:
    await api.create(kinds.SERVICES, service(clusterIP="10.43.7.7"))
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await api.create(kinds.SERVICES, service("other", clusterIP="10.43.7.7"))
    await api.delete(kinds.SERVICES, "web")
    await api.create(kinds.SERVICES, service("other", clusterIP="10.43.7.7"))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("10.44.0.1", "is not in the valid range. The range of valid IPs is 10.43.0.0/16"),
        ("10.43.0.0", "is not in the valid range"),
        ("10.43.255.255", "is not in the valid range"),
        ("ten", "must be a valid IP address"),
    ],
)
async def test_an_address_that_cannot_be_is_refused(api: Api, address: str, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        await api.create(kinds.SERVICES, service(clusterIP=address))


async def test_headless_and_external_services_have_no_address(api: Api) -> None:
    headless = await api.create(kinds.SERVICES, service("a", clusterIP="None"))
    assert headless["spec"]["clusterIPs"] == ["None"]
    external = {"type": "ExternalName", "externalName": "example.com", "ports": []}
    made = await api.create(kinds.SERVICES, {"metadata": {"name": "b"}, "spec": external})
    assert "clusterIP" not in made["spec"]


async def test_a_node_port_is_given_or_asked_for(api: Api) -> None:
    chosen = await api.create(kinds.SERVICES, service("a", type="NodePort"))
    assert 30000 <= chosen["spec"]["ports"][0]["nodePort"] <= 32767
    asked = service("b", type="NodePort", ports=node_port(31999))
    await api.create(kinds.SERVICES, asked)
    with pytest.raises(Invalid) as refused:
        await api.create(kinds.SERVICES, service("c", type="NodePort", ports=node_port(31999)))
    assert refused.value.message == (
        'Service "c" is invalid: spec.ports[0].nodePort: Invalid value: 31999: provided port is '
        "already allocated"
    )
    with pytest.raises(Invalid, match="The range of valid ports is 30000-32767"):
        await api.create(kinds.SERVICES, service("c", type="NodePort", ports=node_port(80)))


async def test_udp_and_tcp_of_one_port_share_a_number(api: Api) -> None:
    ports = [
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "udp", "port": 53, "protocol": "UDP"},
    ]
    made = await api.create(kinds.SERVICES, service(type="NodePort", ports=ports))
    assert len({port["nodePort"] for port in made["spec"]["ports"]}) == 1


async def test_an_update_keeps_address_and_node_port(api: Api) -> None:
    made = await api.create(kinds.SERVICES, service(type="NodePort"))
    again = service(type="NodePort", ports=[{"port": 80, "targetPort": 8080}])
    updated = await api.update(kinds.SERVICES, again)
    assert updated["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert updated["spec"]["ports"][0]["nodePort"] == made["spec"]["ports"][0]["nodePort"]


async def test_a_balanced_service_of_local_endpoints_gets_a_port_for_health_checks(
    api: Api,
) -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    made = await api.create(kinds.SERVICES, service(**local))
    number = made["spec"]["healthCheckNodePort"]
    assert 30000 <= number <= 32767
    assert number != made["spec"]["ports"][0]["nodePort"]
    with pytest.raises(Invalid, match="already allocated"):
        await api.create(kinds.SERVICES, service("b", **local, healthCheckNodePort=number))
    kept = await api.update(kinds.SERVICES, service(**local))
    assert kept["spec"]["healthCheckNodePort"] == number
    other = await api.update(kinds.SERVICES, service(type="LoadBalancer"))
    assert "healthCheckNodePort" not in other["spec"]
    again = await api.create(kinds.SERVICES, service("b", **local, healthCheckNodePort=number))
    assert again["spec"]["healthCheckNodePort"] == number


async def test_an_address_cannot_be_changed(api: Api) -> None:
    made = await api.create(kinds.SERVICES, service())
    with pytest.raises(Invalid, match="may not change once set"):
        await api.patch(
            kinds.SERVICES, "web", {"spec": {"clusterIP": "10.43.9.9", "clusterIPs": None}}
        )
    assert await api.get(kinds.SERVICES, "web") == made


async def test_a_node_port_is_free_again_when_the_type_changes(api: Api) -> None:
    await api.create(kinds.SERVICES, service(type="NodePort", ports=node_port(31999)))
    patched = await api.patch(kinds.SERVICES, "web", {"spec": {"type": "ClusterIP"}})
    assert "nodePort" not in patched["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in patched["spec"]
    await api.create(kinds.SERVICES, service("b", type="NodePort", ports=node_port(31999)))


async def test_a_refused_service_keeps_nothing(api: Api) -> None:
    ports = [
        {"name": "a", "port": 80, "nodePort": 31000},
        {"name": "b", "port": 81, "nodePort": 99},
    ]
    with pytest.raises(Invalid):
        await api.create(kinds.SERVICES, service(type="NodePort", ports=ports))
    await api.create(kinds.SERVICES, service(type="NodePort", ports=node_port(31000)))
    with pytest.raises(AlreadyExists):
        await api.create(kinds.SERVICES, service(type="NodePort", ports=node_port(31001)))
    await api.create(kinds.SERVICES, service("b", type="NodePort", ports=node_port(31001)))


async def test_concurrent_creates_never_share(api: Api) -> None:
    creates = (api.create(kinds.SERVICES, service(f"s{n}", type="NodePort")) for n in range(50))
    made = await asyncio.gather(*creates)
    assert len({one["spec"]["clusterIP"] for one in made}) == 50
    assert len({one["spec"]["ports"][0]["nodePort"] for one in made}) == 50


specs = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        "ports": st.lists(
            st.fixed_dictionaries(
                {"port": st.integers(80, 82), "protocol": st.sampled_from(["TCP", "UDP"])},
                optional={"nodePort": st.integers(30000, 30003)},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={"clusterIP": st.sampled_from(["None", "10.43.0.2", "10.43.0.3"])},
)


@given(st.lists(specs, max_size=8), st.integers(0, 2**32))
def test_what_is_taken_is_always_what_services_have(specs: list[Any], seed: int) -> None:
    settings = Settings(service_cidr="10.43.0.0/29", first_node_port=30000, last_node_port=30003)
    allocator = Allocator(settings, Random(seed))  # noqa: S311 - seeded, so that failures repeat
    everything = Holding()
    for spec in specs:
        made = {"spec": spec}
        try:
            taken = allocator.assign(made)
        except (Refused, InternalError):
            continue
        assert taken == holding(made)
        assert not taken.addresses & everything.addresses
        assert not taken.ports & everything.ports
        everything = Holding(everything.addresses | taken.addresses, everything.ports | taken.ports)
    assert allocator.held == everything
