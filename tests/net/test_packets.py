"""Two nodes on one link, real packets: what a Service promises, seen from everywhere."""

import socket
from collections.abc import Iterator

import pytest

from sampan.net.netlink import NLM_DUMP, Netlink, attributes
from sampan.net.rules import RETURNED
from tests.net.lab import (
    DNS,
    Lab,
    LabNode,
    LabPod,
    ask,
    call,
    caller,
    names,
    needs_root,
    service,
    slice_of,
)

pytestmark = needs_root
VIP = "10.43.0.80"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.build(2)
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def pods(lab: Lab) -> list[LabPod]:
    """Two Pods on each node, answering with their names: a, b, c, d."""
    made = [node.pod(number) for node in lab.nodes for number in (2, 3)]
    for pod, name in zip(made, "abcd", strict=True):
        lab.answer(pod, 8080, name)
    return made


def serve(lab: Lab, offered: dict[str, object], *slices: dict[str, object]) -> None:
    for node in lab.nodes:
        node.serve(offered, *slices)


def test_pods_on_different_nodes_see_each_others_addresses(pods: list[LabPod]) -> None:
    a, _, c, _ = pods
    assert call(a, c.address, 8080) == ("c", a.address)
    assert call(c, a.address, 8080) == ("a", c.address)


def test_a_pod_that_is_not_there_is_known_to_be_gone(lab: Lab, pods: list[LabPod]) -> None:
    for client in (pods[0], pods[2], lab.nodes[0]):
        with pytest.raises(OSError, match="No route to host"):
            call(client, "10.42.1.99", 80)


def test_a_virtual_address_balances_over_all_endpoints(lab: Lab, pods: list[LabPod]) -> None:
    serve(lab, service("web", VIP), slice_of(*pods))
    clients: list[LabPod | LabNode] = [pods[0], pods[2], *lab.nodes]
    for client in clients:
        answers = [call(client, VIP, 80) for _ in range(60)]
        assert names(answers) == set("abcd")


def test_a_pod_keeps_its_address_on_the_way_through_a_service(lab: Lab, pods: list[LabPod]) -> None:
    a, b, c, _ = pods
    for target in (b, c):
        serve(lab, service("web", VIP), slice_of(target))
        assert call(a, VIP, 80)[1] == a.address


def test_a_pod_reaches_itself_through_its_service(lab: Lab, pods: list[LabPod]) -> None:
    serve(lab, service("web", VIP), slice_of(pods[0]))
    assert names([call(pods[0], VIP, 80) for _ in range(5)]) == {"a"}


def test_a_service_without_endpoints_refuses_at_once(lab: Lab, pods: list[LabPod]) -> None:
    serve(lab, service("web", VIP), slice_of())
    for client in (pods[0], lab.nodes[0]):
        with pytest.raises(ConnectionRefusedError):
            call(client, VIP, 80)
        with pytest.raises((ConnectionRefusedError, PermissionError)):
            ask(client, VIP, 80)


def test_an_unknown_service_address_is_refused_too(lab: Lab, pods: list[LabPod]) -> None:
    for client in (pods[0], lab.nodes[0]):
        with pytest.raises(ConnectionRefusedError):
            call(client, "10.43.99.99", 443)


def test_a_node_port_answers_outside_on_every_node(lab: Lab, pods: list[LabPod]) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    serve(lab, service("web", VIP, type="NodePort", ports=[port]), slice_of(*pods))
    for node in lab.nodes:
        answers = [call(None, node.address, 30080) for _ in range(60)]
        assert names(answers) == set("abcd")


def test_a_caller_from_outside_is_seen_by_its_own_address_whichever_node_it_came_to(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    datagrams = {"port": 80, "protocol": "UDP", "nodePort": 30080}
    for target in (pods[0], pods[2]):
        both = service("web", VIP, type="NodePort", ports=[port, datagrams])
        serve(lab, both, slice_of(target), slice_of(target, protocol="UDP"))
        for node in lab.nodes:
            assert call(None, node.address, 30080)[1] == lab.gateway
            assert said_by_udp(node.address, 30080)[1] == lab.gateway


def said_by_udp(address: object, port: int) -> list[str]:
    with caller(None, socket.SOCK_DGRAM) as asking:
        asking.connect((str(address), port))
        asking.send(b"x")
        return asking.recv(100).decode().split()


def test_large_answers_to_a_caller_from_outside_come_back_through_another_node(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30081}
    serve(
        lab,
        service("big", "10.43.0.81", type="NodePort", ports=[port]),
        slice_of(pods[2], port=7071),
    )
    with lab.echo(pods[2], 7071), caller(None, socket.SOCK_STREAM) as talking:
        talking.connect((str(lab.nodes[0].address), 30081))
        sent = bytes(range(256)) * 200
        talking.sendall(sent)
        heard = b""
        while len(heard) < len(sent) and (more := talking.recv(9000)):
            heard += more
        assert heard == sent


def test_a_node_that_calls_a_node_port_of_another_is_answered(lab: Lab, pods: list[LabPod]) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    one, other = lab.nodes
    for target in (pods[0], pods[2]):
        serve(lab, service("web", VIP, type="NodePort", ports=[port]), slice_of(target))
        assert call(one, other.address, 30080)[0] in "ac"
        assert call(other, one.address, 30080)[0] in "ac"


def test_a_load_balancer_takes_calls_from_its_source_ranges_only(
    lab: Lab, pods: list[LabPod]
) -> None:
    address = lab.nodes[0].address
    balanced = {"type": "LoadBalancer", "ingress": [{"ip": str(address)}]}

    def fence(*ranges: str) -> None:
        limits = {"loadBalancerSourceRanges": list(ranges)}
        serve(lab, service("fenced", "10.43.0.83", **balanced, **limits), slice_of(*pods))

    fence(f"{lab.gateway}/32", "203.0.113.0/24")
    assert call(None, address, 80)[0] in "abcd"
    fence("203.0.113.0/24")
    with pytest.raises(TimeoutError):
        call(None, address, 80)
    assert call(pods[2], address, 80)[0] in "abcd"
    fence()
    assert call(None, address, 80)[0] in "abcd"
    serve(lab, service("fenced", "10.43.0.83"))


def test_a_port_that_is_bound_to_one_address_is_found_at_no_other(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30085}
    bound = service("bound", "10.43.0.85", type="NodePort", ports=[port])
    bound["metadata"]["annotations"] = {"sampan.io/addresses": str(lab.nodes[1].address)}
    serve(lab, bound, slice_of(*pods))
    assert call(None, lab.nodes[1].address, 30085)[0] in "abcd"
    with pytest.raises(ConnectionRefusedError):
        call(None, lab.nodes[0].address, 30085)


def test_a_load_balancer_answers_on_every_node_address(lab: Lab, pods: list[LabPod]) -> None:
    ingress = [{"ip": str(node.address)} for node in lab.nodes]
    serve(lab, service("web", VIP, type="LoadBalancer", ingress=ingress), slice_of(*pods))
    for node in lab.nodes:
        clients: list[LabPod | LabNode | None] = [None, pods[0], *lab.nodes]
        for client in clients:
            assert names([call(client, node.address, 80) for _ in range(60)]) == set("abcd")


def test_local_traffic_policy_keeps_the_callers_address_and_stays_on_the_node(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    balanced = {"ports": [port], "ingress": [{"ip": str(lab.nodes[1].address)}]}
    policy = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    serve(lab, service("web", VIP, **policy, **balanced), slice_of(*pods))
    outside = lab.gateway
    answers = {call(None, lab.nodes[1].address, 30080) for _ in range(40)}
    assert answers == {("c", outside), ("d", outside)}
    serve(lab, service("web", VIP, **policy, **balanced), slice_of(pods[0]))
    for number in (30080, 80):
        with pytest.raises(TimeoutError):
            call(None, lab.nodes[1].address, number)
        assert call(pods[2], lab.nodes[1].address, number)[0] == "a"


def test_session_affinity_brings_a_client_to_one_endpoint_from_every_node(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = {"port": 80, "protocol": "TCP", "nodePort": 30080}
    sticky = service("web", VIP, type="NodePort", ports=[port], sessionAffinity="ClientIP")
    serve(lab, sticky, slice_of(*pods))
    answers = [call(None, n.address, 30080) for n in lab.nodes for _ in range(15)]
    assert len(names(answers)) == 1
    assert len({call(pod, VIP, 80)[0] for pod in pods for _ in range(5)}) > 1


def test_udp_moves_to_another_endpoint_when_its_own_is_gone(lab: Lab, pods: list[LabPod]) -> None:
    dns = [{"port": 53, "protocol": "UDP"}]
    first, second = (slice_of(pods[i], protocol="UDP") for i in (1, 2))
    serve(lab, service("udp", "10.43.0.53", ports=dns), first)
    with caller(pods[0], socket.SOCK_DGRAM) as flow:
        flow.connect(("10.43.0.53", 53))
        flow.send(b"x")
        assert flow.recv(100).decode().split()[0] == "b"
        serve(lab, service("udp", "10.43.0.53", ports=dns), second)
        flow.send(b"x")
        assert flow.recv(100).decode().split()[0] == "c"


def test_udp_to_a_node_port_is_served_although_the_client_began_too_early(
    lab: Lab, pods: list[LabPod]
) -> None:
    port = [{"port": 53, "protocol": "UDP", "nodePort": 30053}]
    with caller(None, socket.SOCK_DGRAM) as flow:
        flow.sendto(b"x", (str(lab.nodes[0].address), 30053))
        serve(lab, service("early", "10.43.0.54", ports=port), slice_of(pods[3], protocol="UDP"))
        flow.sendto(b"x", (str(lab.nodes[0].address), 30053))
        assert flow.recv(100).decode().split()[0] == "d"


def test_an_agent_that_was_away_when_a_udp_endpoint_went_mends_its_flows(
    lab: Lab, pods: list[LabPod]
) -> None:
    dns = service("late", "10.43.0.55", ports=[{"port": 53, "protocol": "UDP"}])
    [node, _] = lab.nodes
    node.serve(dns, slice_of(pods[1], protocol="UDP"))
    with caller(pods[0], socket.SOCK_DGRAM) as flow:
        flow.connect(("10.43.0.55", 53))
        flow.send(b"x")
        assert flow.recv(100).decode().split()[0] == "b"
        node.put(dns, slice_of(pods[2], protocol="UDP"))
        node.do(lambda: node.kernel.load(node.program))
        flow.send(b"x")
        assert flow.recv(100).decode().split()[0] == "c"


def test_more_endpoints_than_one_page_of_slots_all_get_calls(lab: Lab, pods: list[LabPod]) -> None:
    a = pods[0].endpoint
    many = [slice_of(a, port=8080)]
    for number in range(9000, 9080):
        lab.answer(pods[1], number, str(number))
        many.append(slice_of(pods[1], port=number))
    lab.nodes[0].serve(service("many", "10.43.0.90"), *many)
    answers = {call(pods[0], "10.43.0.90", 80)[0] for _ in range(600)}
    assert len(answers) > 70


def test_no_connection_keeps_the_mark_that_chose_its_endpoint(lab: Lab, pods: list[LabPod]) -> None:
    serve(lab, service("web", VIP), slice_of(*pods))
    for _ in range(8):
        call(pods[0], VIP, 80)
        call(lab.nodes[0], VIP, 80)
    marks = lab.nodes[0].do(connection_marks)
    assert len(marks) >= 16
    assert {mark for mark in marks if mark >> 16 != RETURNED >> 16} == {0}


def connection_marks() -> list[int]:
    """The marks of all connections that this namespace knows."""
    get_connections, family, mark = 1 << 8 | 1, bytes([socket.AF_INET, 0, 0, 0]), 8
    with Netlink(12) as netlink:
        messages = netlink.ask(get_connections, family, NLM_DUMP)
    found = (dict(attributes(body[4:])) for _, body in messages)
    return [int.from_bytes(connection.get(mark, b"\0"), "big") for connection in found]


def test_pods_reach_addresses_outside_the_cluster_as_their_node(
    lab: Lab, pods: list[LabPod]
) -> None:
    lab.answer(lab.nodes[1], 7070, "node")
    assert call(pods[0], lab.nodes[1].address, 7070) == ("node", str(lab.nodes[0].address))


def test_the_dns_address_is_local_to_each_node(lab: Lab, pods: list[LabPod]) -> None:
    for number, node in enumerate(lab.nodes):
        lab.answer(node, 53, node.name, DNS)
        assert call(node, DNS, 53)[0] == node.name
        assert ask(pods[2 * number], DNS, 53) == node.name


def test_while_no_dns_server_listens_clients_wait_instead_of_giving_up(
    lab: Lab, pods: list[LabPod]
) -> None:
    clients: list[LabPod | LabNode] = [pods[0], lab.nodes[0]]
    for client in clients:
        with pytest.raises(TimeoutError):
            ask(client, DNS, 54)


def test_large_packets_cross_nodes(pods: list[LabPod]) -> None:
    assert ask(pods[0], pods[2].address, 8080, size=1400) == "c"
    assert ask(pods[0], pods[2].address, 8080, size=5000) == "c"
