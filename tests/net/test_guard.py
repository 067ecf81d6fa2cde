"""Policies with real packets: Pods on two nodes, Services, and connections that stand already."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.api.objects import Pod
from sampan.net.guard import table
from sampan.net.policy import NetworkPolicy, compile_policies
from tests.net.lab import Lab, LabNode, LabPod, ask, call, caller, needs_root, service, slice_of

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
def pods(lab: Lab) -> dict[str, LabPod]:
    """Two on each node: a and b, c and d."""
    made = [node.pod(number) for node in lab.nodes for number in (2, 3)]
    for pod, name in zip(made, "abcd", strict=True):
        lab.answer(pod, 8080, name)
        lab.answer(pod, 9090, name)
    for node in lab.nodes:
        node.serve(service("web", VIP), slice_of(made[1]))
    return dict(zip("abcd", made, strict=True))


@pytest.fixture(autouse=True)
def _free(lab: Lab) -> Iterator[None]:
    yield
    for node in lab.nodes:
        keep(node, table({}))


def keep(node: LabNode, text: str) -> None:
    node.do(lambda: node.kernel.guard(text))


def enforce(lab: Lab, pods: dict[str, LabPod], *policies: dict[str, Any]) -> None:
    views = {
        name: Pod.of(
            {
                "metadata": {"name": name, "namespace": "default", "labels": {"name": name}},
                "status": {"podIP": pod.address, "phase": "Running"},
            }
        )
        for name, pod in pods.items()
    }
    meta = {"name": "p", "namespace": "default"}
    read = [NetworkPolicy.of({"metadata": meta, "spec": spec}) for spec in policies]
    for node in lab.nodes:
        here = [views[name] for name, pod in pods.items() if pod.node is node]
        guards = compile_policies(here, read, list(views.values()), {"default": {}})
        keep(node, table(guards))


def named(*names: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "name", "operator": "In", "values": list(names)}]}


def denied(where: Any, address: object, port: int = 8080) -> bool:
    with caller(where, socket.SOCK_STREAM) as dialled:
        dialled.settimeout(0.3)
        try:
            dialled.connect((str(address), port))
        except TimeoutError:
            return True
    return False


def test_a_denied_pod_hears_only_its_own_node(lab: Lab, pods: dict[str, LabPod]) -> None:
    enforce(lab, pods, {"podSelector": named("b"), "policyTypes": ["Ingress"]})
    a, b, c = (pods[name] for name in "abc")
    assert denied(a, b.address)
    assert denied(c, b.address)
    assert denied(a, VIP, 80)
    assert denied(lab.nodes[1], b.address)
    with pytest.raises(TimeoutError):
        ask(c, b.address, 8080)
    assert call(lab.nodes[0], b.address, 8080)[0] == "b"
    assert call(b, b.address, 8080)[0] == "b"
    assert call(b, VIP, 80)[0] == "b"
    assert call(b, c.address, 8080)[0] == "c"
    assert call(a, c.address, 8080)[0] == "c"


def test_who_is_allowed_gets_through_by_service_and_directly(
    lab: Lab, pods: dict[str, LabPod]
) -> None:
    allowed = {"from": [{"podSelector": named("c")}], "ports": [{"port": 8080}]}
    enforce(lab, pods, {"podSelector": named("b"), "ingress": [allowed]})
    a, b, c = (pods[name] for name in "abc")
    assert call(c, b.address, 8080)[0] == "b"
    assert call(c, VIP, 80)[0] == "b"
    assert denied(c, b.address, 9090)
    assert denied(a, b.address)
    with pytest.raises(TimeoutError):
        ask(c, b.address, 8080)


def test_what_leaves_a_pod_is_limited_too(lab: Lab, pods: dict[str, LabPod]) -> None:
    block = {"cidr": f"{pods['c'].address}/31", "except": [f"{pods['d'].address}/32"]}
    rule = {"to": [{"ipBlock": block}], "ports": [{"port": 8000, "endPort": 8100}]}
    enforce(lab, pods, {"podSelector": named("a"), "policyTypes": ["Egress"], "egress": [rule]})
    a, b, c, d = (pods[name] for name in "abcd")
    assert call(a, c.address, 8080)[0] == "c"
    assert denied(a, c.address, 9090)
    assert denied(a, d.address)
    assert denied(a, b.address)
    assert denied(a, VIP, 80)
    assert denied(a, lab.gateway, 80)
    assert call(b, a.address, 8080)[0] == "a"
    assert ask(d, a.address, 8080) == "a"


def test_the_name_server_of_the_node_is_always_reached(lab: Lab, pods: dict[str, LabPod]) -> None:
    lab.answer(lab.nodes[0], 53, "dns", "10.43.0.10")
    enforce(lab, pods, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    assert ask(pods["a"], "10.43.0.10", 53) == "dns"


def test_a_standing_connection_is_ended_by_a_policy_that_does_not_allow_it(
    lab: Lab, pods: dict[str, LabPod]
) -> None:
    a, c = pods["a"], pods["c"]
    with lab.echo(c, 7777), caller(a, socket.SOCK_STREAM) as talking:
        talking.connect((c.address, 7777))
        talking.sendall(b"x")
        assert talking.recv(1) == b"x"
        enforce(lab, pods, {"podSelector": named("c"), "policyTypes": ["Ingress"]})
        talking.sendall(b"y")
        with pytest.raises(ConnectionResetError):
            talking.recv(1)


def test_answers_are_stopped_at_their_source_too(lab: Lab, pods: dict[str, LabPod]) -> None:
    a, c = pods["a"], pods["c"]
    with caller(a, socket.SOCK_DGRAM) as client, caller(c, socket.SOCK_DGRAM) as server:
        server.bind(("", 7778))
        client.connect((c.address, 7778))
        client.send(b"hello")
        _, back = server.recvfrom(10)
        enforce(lab, pods, {"podSelector": named("a"), "policyTypes": ["Egress"]})
        server.sendto(b"answer", back)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)


def test_rules_are_replaced_and_taken_away_without_a_trace(
    lab: Lab, pods: dict[str, LabPod]
) -> None:
    enforce(lab, pods, {"podSelector": named("b"), "policyTypes": ["Ingress"]})
    enforce(lab, pods, {"podSelector": named("c"), "policyTypes": ["Ingress"]})
    assert denied(pods["a"], pods["c"].address)
    assert call(pods["a"], pods["b"].address, 8080)[0] == "b"
    enforce(lab, pods)
    assert call(pods["a"], pods["c"].address, 8080)[0] == "c"
    assert not lab.nodes[0].do(lab.nodes[0].kernel.touched)


def test_ten_thousand_rules_are_loaded_and_still_let_the_right_ones_through(
    lab: Lab, pods: dict[str, LabPod]
) -> None:
    blocks = [
        {
            "from": [{"ipBlock": {"cidr": f"20.{i >> 7}.{2 * (i & 127)}.0/24"}}],
            "ports": [{"port": i}],
        }
        for i in range(1, 10001)
    ]
    mine = {"from": [{"podSelector": named("a")}], "ports": [{"port": 8080}]}
    enforce(lab, pods, {"podSelector": named("c"), "ingress": [*blocks, mine]})
    assert call(pods["a"], pods["c"].address, 8080)[0] == "c"
    assert denied(pods["b"], pods["c"].address)
