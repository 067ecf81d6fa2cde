"""Invariants that hold whatever comes, and counts that always equal a count made anew."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Node
from sampan.scheduler.demand import HOSTNAME, ZONE
from sampan.scheduler.views import Pod
from tests.scheduler.support import Cluster, apart, beside, likes, node, pod, spread, toleration

APPS = ("a", "b", "c")
ZONES = ("x", "y", "z")

labels = st.sampled_from(APPS).map(lambda app: {"app": app})
constraints = st.one_of(
    st.just({}),
    st.builds(
        lambda app, key: {"affinity": apart(app, key)}, labels, st.sampled_from((HOSTNAME, ZONE))
    ),
    st.builds(lambda app: {"affinity": beside(app, ZONE)}, labels),
    st.builds(lambda app: {"affinity": likes("podAntiAffinity", app)}, labels),
    st.builds(
        lambda app, skew: {"topologySpreadConstraints": [spread(app, ZONE, skew)]},
        labels,
        st.integers(1, 2),
    ),
    st.sampled_from(ZONES).map(lambda zone: {"nodeSelector": {ZONE: zone}}),
    st.just({"tolerations": [toleration("gpu:")]}),
)


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    ports = draw(st.sampled_from(((), ({"containerPort": 1, "hostPort": 80},))))
    requests = {"cpu": f"{draw(st.integers(0, 8)) * 250}m", "memory": "64Mi"}
    container = {"name": "c", "ports": list(ports), "resources": {"requests": requests}}
    owner = draw(st.sampled_from(("", "o1", "o2")))
    return pod(labels=draw(labels), owner=owner, containers=[container], **draw(constraints))


@st.composite
def nodes(draw: st.DrawFn) -> Sequence[Node]:
    return [
        node(
            f"n{i}",
            zone=draw(st.sampled_from(("", *ZONES))),
            cpu=str(draw(st.integers(1, 4))),
            pods=str(draw(st.integers(1, 6))),
            taints=draw(st.sampled_from(((), (), ("gpu:NoSchedule",)))),
        )
        for i in range(draw(st.integers(1, 6)))
    ]


Step = tuple[str, Any]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("place"), pods()),
        st.tuples(st.just("place"), pods()),
        st.tuples(st.just("remove"), st.integers(0, 20)),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("node gone"), st.integers(0, 5)),
    ),
    max_size=40,
)


def play(cluster: Cluster, members: Sequence[Node], history: Sequence[Step]) -> None:
    """Do what *history* says; `node gone` takes a node away and brings it back."""
    for what, which in history:
        if what == "place":
            cluster.place(which)
            continue
        if what == "node gone":
            member = members[which % len(members)]
            cluster.table.drop_node(member.metadata.name)
            cluster.table.set_node(member)
        elif cluster.placed:
            chosen = list(cluster.placed.values())[which % len(cluster.placed)]
            if what == "remove":
                cluster.remove(chosen)
            else:
                cluster.bind(chosen, cluster.at[chosen.metadata.uid], leaving=True)


@settings(max_examples=60, deadline=None)
@given(nodes(), steps)
def test_no_node_is_over_capacity(members: Sequence[Node], history: Sequence[Step]) -> None:
    cluster = Cluster(*members)
    play(cluster, members, history)
    rows = slice(0, cluster.table.top)
    assert (cluster.table.used[:, rows] <= cluster.table.capacity[:, rows]).all()
    assert (cluster.table.used >= 0).all()


@settings(max_examples=60, deadline=None)
@given(nodes(), steps)
def test_every_count_equals_a_count_made_anew(
    members: Sequence[Node], history: Sequence[Step]
) -> None:
    cluster = Cluster(*members)
    play(cluster, members, history)
    fresh = Cluster(*members)
    for uid, each in cluster.placed.items():
        held = cluster.table.held(uid)
        assert held is not None
        fresh.bind(each, cluster.at[uid], leaving=held.leaving)
    for wanted in (each for what, each in history if what == "place"):
        kept, anew = cluster.rating(wanted), fresh.rating(wanted)
        assert kept.keys() == anew.keys()
        assert np.allclose([kept[n] for n in anew], list(anew.values()), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(nodes(), st.lists(pods(), max_size=30))
def test_a_placed_pod_was_allowed_where_it_is_and_a_refused_one_nowhere(
    members: Sequence[Node], wanted: Sequence[Pod]
) -> None:
    cluster = Cluster(*members)
    for each in wanted:
        allowed = {
            member.metadata.name for member in members if fits_by_hand(cluster, member, each)
        }
        assert cluster.allowed(each) == allowed
        got = cluster.place(each)
        assert got in allowed if allowed else got is None


def fits_by_hand(cluster: Cluster, member: Node, wanted: Pod) -> bool:
    """Decide for one node without a single column, as the documentation of the rules says."""
    at: defaultdict[str, list[Pod]] = defaultdict(list)
    for uid, each in cluster.placed.items():
        at[cluster.at[uid]].append(each)
    domain = {HOSTNAME: {member.metadata.name}, ZONE: _zone_of(cluster, member)}
    demand = cluster.demand(wanted)
    return (
        _has_room(cluster, demand, member, at[member.metadata.name])
        and _admits(member, wanted)
        and _keeps_apart(cluster, demand, domain, at, wanted)
        and _near_friends(cluster, demand, domain, at, wanted)
        and _even(cluster, demand, member, at, wanted)
    )


def _has_room(cluster: Cluster, demand: Any, member: Node, there: Sequence[Pod]) -> bool:
    used = sum(cluster.demand(each).requests.get("cpu", 0) for each in there)
    taken = any(cluster.demand(each).ports for each in there)
    return (
        demand.requests.get("cpu", 0) <= 1000 * int(member.status.allocatable["cpu"]) - used
        and len(there) < int(member.status.allocatable["pods"])
        and not (demand.ports and taken)
    )


def _admits(member: Node, wanted: Pod) -> bool:
    tainted = any(taint.effect == "NoSchedule" for taint in member.spec.taints)
    has = member.metadata.labels
    return (not tainted or bool(wanted.spec.tolerations)) and all(
        has.get(key) == value for key, value in wanted.spec.node_selector.items()
    )


def _keeps_apart(cluster: Cluster, demand: Any, domain: Any, at: Any, wanted: Pod) -> bool:
    for pods_term in demand.anti_affinity:
        if any(_means(pods_term.term, p) for n in domain[pods_term.topology_key] for p in at[n]):
            return False
    return not any(
        cluster.at[uid] in domain[pods_term.topology_key] and _means(pods_term.term, wanted)
        for uid, here in cluster.placed.items()
        for pods_term in cluster.demand(here).anti_affinity
    )


def _near_friends(cluster: Cluster, demand: Any, domain: Any, at: Any, wanted: Pod) -> bool:
    for pods_term in demand.affinity:
        anyone = any(_means(pods_term.term, p) for p in cluster.placed.values())
        if not domain[pods_term.topology_key]:
            return False
        if not anyone and _means(pods_term.term, wanted):
            continue
        if not any(
            _means(pods_term.term, p) for n in domain[pods_term.topology_key] for p in at[n]
        ):
            return False
    return True


def _even(cluster: Cluster, demand: Any, member: Node, at: Any, wanted: Pod) -> bool:
    for constraint in demand.spreads:
        if not constraint.hard:
            continue
        mine = member.metadata.labels.get(ZONE)
        if mine is None:
            return False
        counts: Counter[str] = Counter()
        for row in np.flatnonzero(cluster.table.alive):
            if zone := cluster.table.labels[row].get(ZONE):
                counts[zone] += sum(
                    _means(constraint.term, p) for p in at[cluster.table.names[row]]
                )
        itself = _means(constraint.term, wanted)
        if counts[mine] + itself - min(counts.values()) > constraint.max_skew:
            return False
    return True


def _means(term: Any, other: Pod) -> bool:
    return bool(term.selector.matches(other.metadata.labels))


def _zone_of(cluster: Cluster, member: Node) -> set[str]:
    zone = member.metadata.labels.get(ZONE)
    everyone = {cluster.table.names[r]: cluster.table.labels[r] for r in range(cluster.table.top)}
    return {n for n, has in everyone.items() if zone is not None and has.get(ZONE) == zone}


@settings(max_examples=60, deadline=None)
@given(nodes(), steps)
def test_anti_affinity_is_never_broken(members: Sequence[Node], history: Sequence[Step]) -> None:
    cluster = Cluster(*members)
    play(cluster, members, history)
    for uid, each in cluster.placed.items():
        row = cluster.table.rows[cluster.at[uid]]
        for pods_term in cluster.demand(each).anti_affinity:
            mine = cluster.table.labels[row].get(pods_term.topology_key)
            for other, friend in cluster.placed.items():
                theirs = cluster.table.labels[cluster.table.rows[cluster.at[other]]]
                near = mine is not None and theirs.get(pods_term.topology_key) == mine
                assert other == uid or not near or not _means(pods_term.term, friend)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(0, 25), st.integers(1, 6))
def test_the_skew_is_bounded(skew: int, number: int, machines: int) -> None:
    cluster = Cluster(*(node(f"n{i}", zone=ZONES[i % 3], pods="4") for i in range(machines)))
    constraint = spread({"app": "a"}, ZONE, skew)
    for _ in range(number):
        cluster.place(pod(labels={"app": "a"}, topologySpreadConstraints=[constraint]))
    counts = Counter({ZONES[i % 3]: 0 for i in range(machines)})
    for name in cluster.at.values():
        counts[ZONES[int(name[1:]) % 3]] += 1
    assert max(counts.values()) - min(counts.values()) <= skew


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 8))
def test_replicas_on_equal_nodes_differ_by_at_most_one(number: int, machines: int) -> None:
    cluster = Cluster(*(node(f"n{i}") for i in range(machines)))
    for _ in range(number):
        cluster.place(pod(owner="web"))
    counts = Counter({f"n{i}": 0 for i in range(machines)}) + Counter(cluster.at.values())
    spread_over = [Counter(cluster.at.values())[f"n{i}"] for i in range(machines)]
    assert sum(counts.values()) == number
    assert max(spread_over) - min(spread_over) <= 1
