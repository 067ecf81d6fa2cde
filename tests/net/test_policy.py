"""NetworkPolicies compiled: who may talk to whom, as Kubernetes documents it."""

from ipaddress import IPv4Address
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Object, Pod
from sampan.net.policy import (
    ALL_ADDRESSES,
    ALL_PORTS,
    Box,
    Guard,
    NetworkPolicy,
    compile_policies,
    disjoint,
)

SPACES = {"default": {"team": "a"}, "other": {"team": "b"}, "third": {"team": "b", "x": "y"}}


def pod(address: str, space: str = "default", *, ports: Any = (), **labels: str) -> Pod:
    container = {"name": "c", "ports": list(ports)}
    return Pod.of(
        {
            "metadata": {"name": f"p{address}", "namespace": space, "labels": labels},
            "spec": {"containers": [container]},
            "status": {"podIP": address, "phase": "Running"},
        }
    )


HTTP = {"name": "http", "containerPort": 8080}
WEB = pod("10.42.1.2", app="web", ports=[HTTP])
DB = pod("10.42.1.3", app="db", ports=[{"name": "http", "containerPort": 9090}])
FAR = pod("10.42.2.2", "other", app="web")
PODS = [WEB, DB, FAR]


def policy(selector: Object | None = None, **spec: Any) -> NetworkPolicy:
    meta = {"name": "p", "namespace": "default"}
    return NetworkPolicy.of({"metadata": meta, "spec": {"podSelector": selector or {}, **spec}})


def labelled(**labels: str) -> Object:
    return {"matchLabels": labels}


def guard(*policies: NetworkPolicy, of: Pod = WEB) -> Guard:
    return compile_policies([of], policies, PODS, SPACES).get(of.status.pod_ip, Guard())


def only(pod: Pod, protocol: str = "", first: int = 0, last: int = 65535) -> Box:
    at = int(IPv4Address(pod.status.pod_ip))
    return Box((at, at), protocol, (first, last))


def test_pods_that_no_policy_means_are_free() -> None:
    assert guard() == Guard()
    assert guard(policy(labelled(app="db"))) == Guard()
    elsewhere = NetworkPolicy.of({"metadata": {"namespace": "other"}, "spec": {"podSelector": {}}})
    assert guard(elsewhere) == Guard()


def test_a_policy_without_rules_denies_the_directions_that_it_is_about() -> None:
    assert guard(policy()) == Guard(ingress=())
    assert guard(policy(policyTypes=["Egress"])) == Guard(egress=())
    assert guard(policy(policyTypes=["Ingress", "Egress"])) == Guard(ingress=(), egress=())
    assert guard(policy(egress=[{}])) == Guard(ingress=(), egress=(Box(ALL_ADDRESSES),))


def test_an_empty_rule_allows_everything_and_rules_add_up() -> None:
    assert guard(policy(ingress=[{}])) == Guard(ingress=(Box(ALL_ADDRESSES),))
    assert guard(policy(), policy(ingress=[{}])) == Guard(ingress=(Box(ALL_ADDRESSES),))


def test_peers_are_selected_by_pod_and_by_namespace() -> None:
    def peers(**peer: Any) -> tuple[Box, ...] | None:
        return guard(policy(ingress=[{"from": [peer]}])).ingress

    assert peers(podSelector={}) == (Box((only(WEB).addresses[0], only(DB).addresses[0])),)
    assert peers(podSelector=labelled(app="db")) == (only(DB),)
    assert peers(namespaceSelector=labelled(team="b")) == (only(FAR),)
    web_of_b = {"namespaceSelector": labelled(team="b"), "podSelector": labelled(app="web")}
    assert peers(**web_of_b) == (only(FAR),)
    assert peers(namespaceSelector=labelled(team="b"), podSelector=labelled(app="db")) == ()
    assert len(peers(namespaceSelector={}) or ()) == 2
    assert (
        peers(podSelector={"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}) == ()
    )


def test_blocks_have_exceptions() -> None:
    block = {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/26", "192.0.2.128/25", "10.0.0.0/8"]}
    [box] = guard(policy(ingress=[{"from": [{"ipBlock": block}]}])).ingress or ()
    assert box.addresses == (int(IPv4Address("192.0.2.64")), int(IPv4Address("192.0.2.127")))
    for cidr in ("2001:db8::/32", "nonsense; flush ruleset"):
        assert guard(policy(ingress=[{"from": [{"ipBlock": {"cidr": cidr}}]}])).ingress == ()


def test_ports_are_numbers_ranges_or_all_of_a_protocol() -> None:
    ports = [{"port": 80}, {"port": 100, "endPort": 200}, {"protocol": "UDP"}]
    allowed = guard(policy(ingress=[{"ports": ports}])).ingress
    assert allowed == (
        Box(ALL_ADDRESSES, "TCP", (80, 80)),
        Box(ALL_ADDRESSES, "TCP", (100, 200)),
        Box(ALL_ADDRESSES, "UDP", ALL_PORTS),
    )


def test_a_named_port_is_that_of_the_pod_that_is_called() -> None:
    ports = [{"port": "http"}]
    coming = policy(ingress=[{"ports": ports}])
    assert guard(coming).ingress == (Box(ALL_ADDRESSES, "TCP", (8080, 8080)),)
    assert guard(coming, of=DB).ingress == (Box(ALL_ADDRESSES, "TCP", (9090, 9090)),)
    going = policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}], "ports": ports}])
    assert set(guard(going).egress or ()) == {
        only(WEB, "TCP", 8080, 8080),
        only(DB, "TCP", 9090, 9090),
    }


def test_pods_on_the_hosts_network_are_not_guarded_nor_are_those_that_ended() -> None:
    raw: Object = {
        "metadata": {"name": "h", "namespace": "default"},
        "spec": {"hostNetwork": True},
        "status": {"podIP": "192.0.2.1"},
    }
    ended = {**raw, "spec": {}, "status": {"podIP": "10.42.1.9", "phase": "Succeeded"}}
    assert compile_policies(map(Pod.of, (raw, ended)), [policy()], PODS, SPACES) == {}


_small = st.integers(0, 7)
_ranges = st.tuples(_small, _small).map(lambda pair: (min(pair), max(pair)))
_boxes = st.builds(Box, _ranges, st.sampled_from(["TCP", "UDP", ""]), _ranges)


def _has(boxes: Any, address: int, protocol: str, port: int) -> int:
    return sum(
        box.addresses[0] <= address <= box.addresses[1]
        and box.protocol in {"", protocol}
        and (not box.protocol or box.ports[0] <= port <= box.ports[1])
        for box in boxes
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(_boxes, max_size=6))
def test_disjoint_boxes_allow_the_same_and_never_overlap(boxes: list[Box]) -> None:
    result = disjoint(boxes)
    for protocol in ("TCP", "UDP"):
        own = [box for box in result if box.protocol == protocol]
        for address in range(8):
            for port in range(8):
                before = _has(boxes, address, protocol, port)
                assert bool(before) == bool(_has(result, address, protocol, port))
                assert _has(own, address, protocol, port) <= 1


def test_a_policy_of_ten_thousand_blocks_is_ten_thousand_boxes_at_most() -> None:
    cidrs = (f"20.{i >> 8}.{i & 255}.0/24" for i in range(0, 20000, 2))
    blocks = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
    rules = [{"from": [block], "ports": [{"port": 80}]} for block in blocks]
    allowed = guard(policy(ingress=rules)).ingress or ()
    assert len(allowed) == 10000
