"""What a node does for one Service, as tables: frontends in, targets out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Pod
from sampan.net.compile import (
    From,
    Frontend,
    Group,
    Otherwise,
    Part,
    Target,
    compile_host_ports,
    compile_service,
)
from tests.net.objects import NODE, compiled, endpoint, service, slice_of

HERE, THERE = endpoint("10.42.1.5", "node-1"), endpoint("10.42.2.5", "node-2")
BOTH = slice_of(HERE, THERE)
AT_HERE, AT_THERE = Target("10.42.1.5", 8080), Target("10.42.2.5", 8080)


def served(part: Part, frontend: Frontend) -> Group | None:
    return next((group for group in part if frontend in group.frontends), None)


def tcp(address: str, port: int = 80, clients: From = From.ANYWHERE) -> Frontend:
    return Frontend(address, "TCP", port, clients)


@pytest.mark.parametrize(
    ("spec", "frontends"),
    [
        ({}, [tcp("10.43.0.80")]),
        ({"externalIPs": ["192.0.2.7"]}, [tcp("10.43.0.80"), tcp("192.0.2.7")]),
        (
            {"ports": [{"name": "http", "port": 80, "nodePort": 30080}]},
            [tcp("10.43.0.80"), tcp("", 30080)],
        ),
        (
            {"ingress": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
            [tcp("10.43.0.80"), tcp("10.0.0.1"), tcp("10.0.0.2")],
        ),
        ({"ingress": [{"ip": "10.0.0.1", "ipMode": "Proxy"}]}, [tcp("10.43.0.80")]),
        ({"ingress": [{"hostname": "lb.example"}]}, [tcp("10.43.0.80")]),
        ({"clusterIPs": ["10.43.0.80", "fd00::80"]}, [tcp("10.43.0.80")]),
        ({"externalIPs": ["1.2.3.4 : drop }; flush ruleset"]}, [tcp("10.43.0.80")]),
    ],
)
def test_a_service_answers_at_each_of_its_addresses(
    spec: dict[str, Any], frontends: list[Frontend]
) -> None:
    [group] = compiled(service(**spec), BOTH)
    assert list(group.frontends) == frontends
    assert group.targets == (AT_HERE, AT_THERE)


@pytest.mark.parametrize(
    "offered",
    [
        service("None"),
        service("", type="ExternalName", externalName="example.org"),
        service(NODE.dns_ip),
        service(ports=[{"port": 80, "protocol": "QUIC"}]),
    ],
)
def test_headless_and_external_names_and_the_dns_address_need_no_rules(offered: Any) -> None:
    assert compiled(offered, BOTH) == ()


def test_ports_are_matched_by_name() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    numbers = [{"name": "admin", "port": 9000}, {"name": "http", "port": 8080}]
    part = compiled(service(ports=ports), slice_of(HERE, ports=numbers))
    assert [g.targets for g in part] == [(AT_HERE,), (Target("10.42.1.5", 9000),)]


@pytest.mark.parametrize(
    ("endpoints", "targets"),
    [
        ([HERE, endpoint("10.42.1.6", ready=False)], [AT_HERE]),
        ([HERE, endpoint("10.42.1.6", ready=False, ending=True)], [AT_HERE]),
        ([endpoint("10.42.1.5", ready=False, ending=True)], [AT_HERE]),
        ([endpoint("10.42.1.5", ready=False)], []),
        ([endpoint("10.42.1.5\n drop"), HERE], [AT_HERE]),
        ([HERE, HERE], [AT_HERE]),
        ([], []),
    ],
)
def test_ready_endpoints_serve_and_ending_ones_only_when_there_is_no_other(
    endpoints: list[dict[str, Any]], targets: list[Target]
) -> None:
    [group] = compiled(service(), slice_of(*endpoints))
    assert list(group.targets) == targets


def test_slices_of_ipv6_are_left_alone() -> None:
    [group] = compiled(service(), slice_of(endpoint("fd00::5"), addressType="IPv6"))
    assert group.targets == ()


def test_internal_policy_local_keeps_to_this_node() -> None:
    port = {"name": "http", "port": 80, "nodePort": 30080}
    part = compiled(service(internalTrafficPolicy="Local", ports=[port]), BOTH)
    inside, outside = served(part, tcp("10.43.0.80")), served(part, tcp("", 30080))
    assert inside
    assert inside.targets == (AT_HERE,)
    assert outside
    assert outside.targets == (AT_HERE, AT_THERE)


def test_external_policy_local_keeps_outside_callers_to_this_node() -> None:
    port = {"name": "http", "port": 80, "nodePort": 30080}
    local = service(externalTrafficPolicy="Local", ports=[port])
    part = compiled(local, BOTH)
    pods, outside = served(part, tcp("", 30080)), served(part, tcp("", 30080, From.OUTSIDE))
    assert pods
    assert pods.targets == (AT_HERE, AT_THERE)
    assert outside
    assert outside.targets == (AT_HERE,)


def test_external_policy_local_drops_here_what_only_others_serve() -> None:
    port = {"name": "http", "port": 80, "nodePort": 30080}
    local = service(externalTrafficPolicy="Local", ports=[port])
    dropped = served(compiled(local, slice_of(THERE)), tcp("", 30080, From.OUTSIDE))
    assert dropped
    assert (dropped.targets, dropped.otherwise) == ((), Otherwise.DROP)
    refused = compiled(local, slice_of())
    assert [(g.targets, g.otherwise) for g in refused] == [((), Otherwise.REJECT)]


def test_a_host_port_leads_to_its_pod() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]
    raw = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": "10.42.1.5"},
    }
    [group] = compile_host_ports(Pod.of(raw))
    assert group.frontends == (tcp("", 8080),)
    assert group.targets == (Target("10.42.1.5", 80),)
    raw["status"]["phase"] = "Succeeded"  # type: ignore[index]
    assert compile_host_ports(Pod.of(raw)) == ()


endpoints = st.builds(
    endpoint,
    st.integers(2, 250).map(lambda n: f"10.42.{n % 3}.{n}"),
    st.sampled_from(["node-1", "node-2"]),
    ready=st.booleans(),
    ending=st.booleans(),
)
policies = st.sampled_from(["Local", "Cluster"])


@settings(deadline=None)
@given(
    behind=st.lists(endpoints, max_size=8),
    internal=policies,
    external=policies,
    split=st.booleans(),
)
def test_every_ready_endpoint_is_behind_the_cluster_ip_of_a_service_that_serves_everywhere(
    *, behind: list[dict[str, Any]], internal: str, external: str, split: bool
) -> None:
    port = {"name": "http", "port": 80, "nodePort": 30080}
    offered = service(internalTrafficPolicy=internal, externalTrafficPolicy=external, ports=[port])
    halves = [behind[::2], behind[1::2]] if split else [behind]
    part = compile_service(offered, [slice_of(*half) for half in halves], NODE)
    group = served(part, tcp("10.43.0.80"))
    assert group
    near = [e for e in behind if internal == "Cluster" or e["nodeName"] == NODE.name]
    ready = {Target(e["addresses"][0], 8080) for e in near if e["conditions"]["ready"]}
    ending = {Target(e["addresses"][0], 8080) for e in near if e["conditions"]["terminating"]}
    assert set(group.targets) == (ready or ending)
    assert len({f for g in part for f in g.frontends}) == sum(len(g.frontends) for g in part)


def test_traffic_stays_as_near_as_the_service_prefers_while_somebody_is_ready_there() -> None:
    here = endpoint("10.42.1.5")
    near = {**endpoint("10.42.2.5", "node-2"), "zone": "a"}
    far = {**endpoint("10.42.3.5", "node-3"), "zone": "b"}

    def chosen(wish: str, *endpoints: dict[str, Any]) -> set[str]:
        offered = service(trafficDistribution=wish)
        [group] = compile_service(offered, [slice_of(*endpoints)], NODE, "a")
        return {target.address for target in group.targets}

    assert chosen("PreferSameNode", here, near, far) == {"10.42.1.5"}
    assert chosen("PreferSameNode", near, far) == {"10.42.2.5"}
    assert chosen("PreferSameZone", {**here, "zone": "a"}, near, far) == {"10.42.1.5", "10.42.2.5"}
    assert chosen("PreferClose", near, far) == {"10.42.2.5"}
    assert chosen("PreferClose", far) == {"10.42.3.5"}
    ending = {**near, "conditions": {"ready": False, "serving": True, "terminating": True}}
    assert chosen("PreferClose", ending, far) == {"10.42.3.5"}
    assert len(chosen("", here, near, far)) == 3


def test_node_ports_answer_only_at_the_addresses_that_are_asked_for() -> None:
    port = {"name": "http", "port": 80, "nodePort": 30080}
    offered = service(ports=[port])
    offered.metadata.annotations["sampan.io/addresses"] = "192.0.2.1, 192.0.2.2, eth0; drop"
    [group] = compiled(offered, BOTH)
    assert [f.address for f in group.frontends] == ["10.43.0.80", "192.0.2.1", "192.0.2.2"]
    offered.metadata.annotations["sampan.io/addresses"] = ""
    [group] = compiled(offered, BOTH)
    assert [f.address for f in group.frontends] == ["10.43.0.80"]


def test_source_ranges_fence_the_load_balancers_addresses_only() -> None:
    ranges = ["192.0.2.0/25", "192.0.2.128/25", "fd00::/8", "x"]
    offered = service(ingress=[{"ip": "10.0.0.1"}], loadBalancerSourceRanges=ranges)
    [group] = compiled(offered, BOTH)
    assert {f.address: f.sources for f in group.frontends} == {
        "10.43.0.80": None,
        "10.0.0.1": ("192.0.2.0/24",),
    }
