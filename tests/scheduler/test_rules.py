"""Each rule as a table: who may go where, and who had better."""

from typing import Any

import pytest

from sampan.api.objects import Object
from sampan.scheduler.demand import HOSTNAME, ZONE
from tests.scheduler.support import (
    PREFERRED,
    Cluster,
    apart,
    beside,
    expression,
    likes,
    node,
    pod,
    required_nodes,
    spread,
    toleration,
)

WEB = {"app": "web"}
DB = {"app": "db"}


def named(name: str) -> Object:
    return {"matchFields": [expression("metadata.name", "In", name)]}


def labelled(*expressions: Object) -> Object:
    return {"matchExpressions": list(expressions)}


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({}, "abc"),
        ({"nodeSelector": {"disk": "ssd"}}, "a"),
        ({"nodeSelector": {"disk": "ssd", "cores": "4"}}, "a"),
        ({"nodeSelector": {"disk": "tape"}}, ""),
        ({"affinity": required_nodes(labelled(expression("disk", "In", "ssd", "hdd")))}, "ab"),
        ({"affinity": required_nodes(labelled(expression("disk", "NotIn", "ssd")))}, "bc"),
        ({"affinity": required_nodes(labelled(expression("disk", "Exists")))}, "ab"),
        ({"affinity": required_nodes(labelled(expression("disk", "DoesNotExist")))}, "c"),
        ({"affinity": required_nodes(labelled(expression("cores", "Gt", "4")))}, "b"),
        ({"affinity": required_nodes(labelled(expression("cores", "Lt", "16")))}, "a"),
        ({"affinity": required_nodes(labelled(expression("disk", "Gt", "4")))}, ""),
        ({"affinity": required_nodes(named("b"))}, "b"),
        ({"affinity": required_nodes(named("nowhere"))}, ""),
        (
            {
                "affinity": required_nodes(
                    {"matchFields": [expression("metadata.name", "NotIn", "b")]}
                )
            },
            "ac",
        ),
        ({"affinity": required_nodes(named("a"), named("c"))}, "ac"),
        ({"affinity": required_nodes({})}, ""),
        ({"affinity": required_nodes(labelled(expression("no/such", "Exists")))}, ""),
        (
            {
                "nodeSelector": {"disk": "hdd"},
                "affinity": required_nodes(labelled(expression("disk", "Exists"))),
            },
            "b",
        ),
    ],
)
def test_a_pod_goes_only_where_its_selector_and_node_affinity_allow(
    spec: dict[str, Any], allowed: str
) -> None:
    cluster = Cluster(
        node("a", {"disk": "ssd", "cores": "4"}),
        node("b", {"disk": "hdd", "cores": "16"}),
        node("c"),
    )
    assert cluster.allowed(pod(**spec)) == set(allowed)


@pytest.mark.parametrize(
    ("tolerations", "allowed"),
    [
        ([], "ad"),
        (["gpu=yes:NoSchedule"], "abd"),
        (["gpu=no:NoSchedule"], "ad"),
        (["gpu:"], "abd"),
        (["gpu:NoExecute"], "ad"),
        (["old:NoExecute"], "acd"),
        ([":"], "abcde"),
        (["node.kubernetes.io/unschedulable:NoSchedule"], "ade"),
    ],
)
def test_a_taint_keeps_out_who_does_not_tolerate_it(tolerations: list[str], allowed: str) -> None:
    cluster = Cluster(
        node("a"),
        node("b", taints=("gpu=yes:NoSchedule",)),
        node("c", taints=("old:NoExecute",)),
        node("d", taints=("slow:PreferNoSchedule",)),
        node("e", unschedulable=True),
    )
    wanted = pod(tolerations=[toleration(text) for text in tolerations])
    assert cluster.allowed(wanted) == set(allowed)


def test_a_node_that_is_not_ready_is_tainted_before_anybody_has_said_so() -> None:
    cluster = Cluster(node("a", ready=False), node("b"))
    assert cluster.allowed(pod()) == {"b"}
    daemon = pod(tolerations=[toleration("node.kubernetes.io/not-ready:")])
    assert cluster.allowed(daemon) == {"a", "b"}


@pytest.mark.parametrize(
    ("cpu", "memory", "allowed"),
    [("1", "1Gi", "ab"), ("3", "1Gi", "b"), ("1", "7Gi", "a"), ("3", "7Gi", ""), ("", "", "ab")],
)
def test_a_pod_goes_only_where_its_requests_fit(cpu: str, memory: str, allowed: str) -> None:
    cluster = Cluster(node("a", cpu="2", memory="8Gi"), node("b", cpu="4", memory="4Gi"))
    assert cluster.allowed(pod(cpu=cpu, memory=memory)) == set(allowed)


def test_what_runs_on_a_node_counts_until_it_is_gone() -> None:
    cluster = Cluster(node("a", cpu="2"))
    first, second = pod(cpu="1500m"), pod(cpu="1")
    assert cluster.place(first) == "a"
    assert cluster.place(second) is None
    cluster.remove(first)
    assert cluster.place(second) == "a"


def test_a_node_takes_no_more_pods_than_it_says() -> None:
    cluster = Cluster(node("a", pods="2"))
    assert [cluster.place(pod()) for _ in range(3)] == ["a", "a", None]


def test_an_extended_resource_is_counted_like_any_other() -> None:
    cluster = Cluster(node("a"), node("b", **{"example.com/gpu": "1"}))
    gpu = {"resources": {"limits": {"example.com/gpu": "1"}}, "name": "c"}
    assert cluster.place(pod(containers=[gpu])) == "b"
    assert cluster.place(pod(containers=[gpu])) is None


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
        ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.1"}, False),
        ({}, {}, True),
    ],
)
def test_a_host_port_is_given_once(first: Object, second: Object, together: bool) -> None:  # noqa: FBT001
    cluster = Cluster(node("a"))

    def serving(port: Object) -> Any:
        return pod(containers=[{"name": "c", "ports": [{"containerPort": 8080, **port}]}])

    one = serving(first)
    assert cluster.place(one) == "a"
    assert cluster.allowed(serving(second)) == ({"a"} if together else set())
    cluster.remove(one)
    assert cluster.allowed(serving(second)) == {"a"}


# ---- spreading


def zones() -> Cluster:
    return Cluster(
        node("a1", zone="a"), node("a2", zone="a"), node("b1", zone="b"), node("nowhere")
    )


@pytest.mark.parametrize(
    ("running", "skew", "allowed"),
    [
        ([], 1, {"a1", "a2", "b1"}),
        (["a1"], 1, {"b1"}),
        (["a1"], 2, {"a1", "a2", "b1"}),
        (["a1", "b1"], 1, {"a1", "a2", "b1"}),
        (["a1", "a2", "b1"], 1, {"b1"}),
        (["nowhere", "nowhere"], 1, {"a1", "a2", "b1"}),
    ],
)
def test_a_hard_spread_bounds_the_skew_between_zones(
    running: list[str], skew: int, allowed: set[str]
) -> None:
    cluster = zones()
    for name in running:
        cluster.bind(pod(labels=WEB), name)
    wanted = pod(labels=WEB, topologySpreadConstraints=[spread(WEB, skew=skew)])
    assert cluster.allowed(wanted) == allowed


def test_pods_that_are_leaving_do_not_count_for_spreading() -> None:
    cluster = zones()
    cluster.bind(pod(labels=WEB), "a1", leaving=True)
    wanted = pod(labels=WEB, topologySpreadConstraints=[spread(WEB)])
    assert cluster.allowed(wanted) == {"a1", "a2", "b1"}


def test_too_few_domains_count_as_empty_ones() -> None:
    cluster = zones()
    cluster.bind(pod(labels=WEB), "a1")
    cluster.bind(pod(labels=WEB), "b1")
    wanted = pod(labels=WEB, topologySpreadConstraints=[spread(WEB, minDomains=3)])
    assert cluster.allowed(wanted) == set()


def test_a_pod_that_its_own_selector_does_not_mean_adds_no_skew() -> None:
    cluster = zones()
    cluster.bind(pod(labels=WEB), "a1")
    wanted = pod(labels=DB, topologySpreadConstraints=[spread(WEB)])
    assert cluster.allowed(wanted) == {"a1", "a2", "b1"}


def test_only_the_same_revision_counts_with_match_label_keys() -> None:
    cluster = zones()
    cluster.bind(pod(labels={**WEB, "rev": "1"}), "a1")
    constraint = spread(WEB, matchLabelKeys=["rev"])
    wanted = pod(labels={**WEB, "rev": "2"}, topologySpreadConstraints=[constraint])
    assert cluster.allowed(wanted) == {"a1", "a2", "b1"}


def test_nodes_that_the_pod_could_not_use_make_no_domain() -> None:
    cluster = Cluster(
        node("a", {"pool": "x"}, zone="a"),
        node("b", {"pool": "x"}, zone="b"),
        node("c", {"pool": "y"}, zone="c"),
        node("d", {"pool": "x"}, zone="d", taints=("gpu:NoSchedule",)),
    )
    cluster.bind(pod(labels=WEB), "a")
    cluster.bind(pod(labels=WEB), "b")

    def wanted(**policy: Any) -> Any:
        constraint = spread(WEB, **policy)
        return pod(labels=WEB, nodeSelector={"pool": "x"}, topologySpreadConstraints=[constraint])

    assert cluster.allowed(wanted()) == set(), "the tainted zone d is empty and counts"
    assert cluster.allowed(wanted(nodeTaintsPolicy="Honor")) == {"a", "b"}
    assert (
        cluster.allowed(wanted(nodeTaintsPolicy="Honor", nodeAffinityPolicy="Ignore")) == set()
    ), "zone c counts although the selector excludes it"


def test_a_soft_spread_prefers_the_emptier_zone_and_refuses_nothing() -> None:
    cluster = zones()
    cluster.bind(pod(labels=WEB), "a1")
    wanted = pod(labels=WEB, topologySpreadConstraints=[spread(WEB, hard=False)])
    rating = cluster.rating(wanted)
    assert rating.keys() == {"a1", "a2", "b1", "nowhere"}
    assert rating["b1"] > rating["a2"]


# ---- affinity


def pair() -> Cluster:
    return Cluster(
        node("a1", zone="a"), node("a2", zone="a"), node("b1", zone="b"), node("nowhere")
    )


@pytest.mark.parametrize(
    ("affinity", "allowed"),
    [
        (apart(WEB), {"a2", "b1", "nowhere"}),
        (apart(WEB, ZONE), {"b1", "nowhere"}),
        (apart(DB), {"a1", "a2", "b1", "nowhere"}),
        (apart(WEB, namespaces=["other"]), {"a1", "a2", "b1", "nowhere"}),
        (apart(WEB, namespaces=["default", "other"]), {"a2", "b1", "nowhere"}),
        (apart(WEB, namespaceSelector={}), {"a2", "b1", "nowhere"}),
        (
            apart(WEB, namespaceSelector={"matchLabels": {"team": "x"}}),
            {"a2", "b1", "nowhere"},
        ),
        (
            apart(WEB, namespaceSelector={"matchLabels": {"team": "y"}}),
            {"a1", "a2", "b1", "nowhere"},
        ),
        (beside(WEB), {"a1"}),
        (beside(WEB, ZONE), {"a1", "a2"}),
        (beside({"app": "cache"}), set()),
    ],
)
def test_required_affinity_looks_at_who_is_near(affinity: Object, allowed: set[str]) -> None:
    cluster = pair()
    cluster.table.set_namespace("default", {"team": "x"})
    cluster.bind(pod(labels=WEB), "a1")
    assert cluster.allowed(pod(labels=DB, affinity=affinity)) == allowed


def test_a_pod_keeps_later_ones_away_that_its_anti_affinity_means() -> None:
    cluster = pair()
    guard = pod(labels=DB, affinity=apart(WEB, ZONE))
    cluster.bind(guard, "a1")
    assert cluster.allowed(pod(labels=WEB)) == {"b1", "nowhere"}
    assert cluster.allowed(pod(labels=DB)) == {"a1", "a2", "b1", "nowhere"}
    cluster.remove(guard)
    assert cluster.allowed(pod(labels=WEB)) == {"a1", "a2", "b1", "nowhere"}


def test_the_first_of_a_group_that_wants_its_own_company_may_go_anywhere_with_the_label() -> None:
    cluster = pair()
    wanted = pod(labels=WEB, affinity=beside(WEB, ZONE))
    assert cluster.allowed(wanted) == {"a1", "a2", "b1"}
    cluster.bind(pod(labels=WEB), "b1")
    assert cluster.allowed(wanted) == {"b1"}


def test_only_pods_that_all_terms_mean_satisfy_affinity() -> None:
    cluster = pair()
    cluster.bind(pod(labels=WEB), "a1")
    cluster.bind(pod(labels={"tier": "front"}), "a1")
    terms = beside(WEB)["podAffinity"]
    [[required, first]] = terms.items()
    [second] = beside({"tier": "front"})["podAffinity"][required]
    wanted = pod(affinity={"podAffinity": {required: [*first, second]}})
    assert cluster.allowed(wanted) == set()
    cluster.bind(pod(labels={**WEB, "tier": "front"}), "b1")
    assert cluster.allowed(wanted) == {"b1"}


def test_a_namespace_that_gets_a_label_is_counted_from_then_on() -> None:
    cluster = pair()
    cluster.bind(pod(labels=WEB, namespace="shop"), "a1")
    chosen = {"matchLabels": {"team": "x"}}
    wanted = pod(affinity=apart(WEB, namespaceSelector=chosen))
    assert "a1" in cluster.allowed(wanted)
    assert cluster.table.set_namespace("shop", {"team": "x"})
    assert "a1" not in cluster.allowed(wanted)
    assert cluster.table.set_namespace("shop", {"team": "y"})
    assert "a1" in cluster.allowed(wanted)


@pytest.mark.parametrize(("sort", "best"), [("podAffinity", "a1"), ("podAntiAffinity", "b1")])
def test_preferred_affinity_rates_by_who_is_near(sort: str, best: str) -> None:
    cluster = Cluster(node("a1"), node("b1"))
    cluster.bind(pod(labels=WEB), "a1")
    assert cluster.place(pod(affinity=likes(sort, WEB))) == best


def test_the_wishes_of_those_who_are_there_count_too() -> None:
    cluster = Cluster(node("a1"), node("b1"))
    cluster.bind(pod(labels=DB, affinity=likes("podAntiAffinity", WEB)), "b1")
    cluster.bind(pod(labels=DB, cpu="500m"), "a1")
    assert cluster.place(pod(labels=WEB)) == "a1"


# ---- preferences about nodes


def test_a_preferred_node_is_better_but_not_the_only_one() -> None:
    cluster = Cluster(node("a"), node("b", {"disk": "ssd"}, pods="1"))
    wish = {"weight": 50, "preference": labelled(expression("disk", "In", "ssd"))}
    picky = {"nodeAffinity": {PREFERRED: [wish]}}
    assert [cluster.place(pod(affinity=picky)) for _ in range(2)] == ["b", "a"]


def test_a_node_that_would_rather_be_left_alone_comes_last() -> None:
    cluster = Cluster(node("a", taints=("old:PreferNoSchedule",)), node("b", pods="1"))
    assert [cluster.place(pod()) for _ in range(2)] == ["b", "a"]
    assert cluster.rating(pod(tolerations=[toleration("old:")]))["a"] > 190


def test_the_emptier_node_is_better() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.bind(pod(cpu="2", memory="2Gi"), "a")
    assert cluster.place(pod(cpu="1", memory="1Gi")) == "b"


def test_a_node_whose_cpu_and_memory_would_be_used_alike_is_better() -> None:
    cluster = Cluster(node("a", cpu="4", memory="4Gi"), node("b", cpu="4", memory="4Gi"))
    cluster.bind(pod(cpu="2", memory="256Mi"), "a")
    cluster.bind(pod(cpu="256m", memory="2Gi"), "b")
    assert cluster.place(pod(cpu="200m", memory="1Gi")) == "a"


def test_a_large_image_that_is_there_already_is_worth_a_little() -> None:
    image = "docker.io/library/web:latest"
    cluster = Cluster(node("a"), node("b", images={image: 900 * 1024**2}))
    rating = cluster.rating(pod())
    assert 10 < rating["b"] - rating["a"] < 50
    cluster.table.set_node(node("b"))
    assert abs(cluster.rating(pod())["b"] - rating["a"]) < 0.01


def test_hostname_is_a_domain_for_each_node() -> None:
    cluster = Cluster(node("a"), node("b"))
    guarded = [pod(labels=WEB, affinity=apart(WEB, HOSTNAME)) for _ in range(3)]
    assert sorted(str(cluster.place(p)) for p in guarded) == ["None", "a", "b"]
