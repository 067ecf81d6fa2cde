"""Who has to go for a more important Pod, and who never."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api.objects import Node
from sampan.api.selectors import from_labels
from sampan.scheduler.demand import ZONE
from sampan.scheduler.preempt import Budget, Circumstances, Preemption, preempt
from sampan.scheduler.views import Pod
from tests.scheduler.support import Cluster, apart, beside, node, pod, spread

WEB = {"app": "web"}


def making_room(cluster: Cluster, wanted: Pod, **about: Any) -> Preemption | None:
    ask = cluster.placer.ask(cluster.demand(wanted))
    return preempt(cluster.placer, ask, Circumstances(**about))


def victims(cluster: Cluster, wanted: Pod, **about: Any) -> tuple[str, set[str]]:
    """Return the node, and the names of the Pods that have to go."""
    found = making_room(cluster, wanted, **about)
    if found is None:
        return "", set()
    names = {uid: p.metadata.name for uid, p in cluster.placed.items()}
    return found.node, {names[held.uid] for held in found.victims}


def full(*residents: tuple[str, str, int], cpu: str = "2") -> Cluster:
    """Make a cluster of the nodes that *residents* (node, Pod, priority) name; each asks 1 CPU."""
    cluster = Cluster(*(node(n, cpu=cpu) for n in dict.fromkeys(n for n, _, _ in residents)))
    for where, name, priority in residents:
        cluster.bind(pod(name, cpu="1", priority=priority), where)
    return cluster


def test_no_more_pods_go_than_have_to() -> None:
    cluster = full(("n1", "a", 0), ("n1", "b", 0))
    _, gone = victims(cluster, pod(cpu="1", priority=10))
    assert len(gone) == 1
    assert victims(cluster, pod(cpu="2", priority=10)) == ("n1", {"a", "b"})


def test_equal_and_higher_priorities_are_never_evicted() -> None:
    cluster = full(("n1", "a", 10), ("n1", "b", 11))
    assert making_room(cluster, pod(cpu="1", priority=10)) is None
    assert victims(cluster, pod(cpu="1", priority=11)) == ("n1", {"a"})


def test_a_pod_that_shall_never_preempt_does_not() -> None:
    cluster = full(("n1", "a", 0), ("n1", "b", 0))
    never = pod(cpu="1", priority=10, preemptionPolicy="Never")
    assert making_room(cluster, never) is None


def test_the_less_important_of_two_on_a_node_goes() -> None:
    cluster = full(("n1", "a", 5), ("n1", "b", 1))
    assert victims(cluster, pod(cpu="1", priority=10)) == ("n1", {"b"})


def test_of_equals_the_one_that_started_last_goes() -> None:
    cluster = full(("n1", "a", 0), ("n1", "b", 0))
    since = {uid: {"a": 100.0, "b": 50.0}[p.metadata.name] for uid, p in cluster.placed.items()}
    wanted = pod(cpu="1", priority=10)
    assert victims(cluster, wanted, started=since.__getitem__) == ("n1", {"a"})


@pytest.mark.parametrize(
    ("residents", "chosen"),
    [
        ([("n1", "a", 5), ("n1", "b", 0), ("n2", "c", 4), ("n2", "d", 4)], "n2"),
        ([("n1", "a", 5), ("n1", "b", 0), ("n2", "c", 5), ("n2", "d", 4)], "n1"),
    ],
    ids=["the lowest of the most important victims", "the lowest sum of priorities"],
)
def test_the_node_where_it_hurts_least_is_chosen(
    residents: list[tuple[str, str, int]], chosen: str
) -> None:
    wanted = pod(cpu="2", priority=10)
    assert victims(full(*residents), wanted)[0] == chosen
    assert victims(full(*reversed(residents)), wanted)[0] == chosen


def test_fewer_victims_are_better() -> None:
    cluster = Cluster(node("n1", cpu="2"), node("n2", cpu="2"))
    for name in ("a", "b"):
        cluster.bind(pod(name, cpu="1"), "n1")
    cluster.bind(pod("c", cpu="2"), "n2")
    assert victims(cluster, pod(cpu="2", priority=10)) == ("n2", {"c"})


@pytest.mark.parametrize("latest", ["a", "b"])
def test_of_equal_nodes_the_one_whose_victim_started_last_is_chosen(latest: str) -> None:
    cluster = full(("n1", "a", 0), ("n2", "b", 0), cpu="1")
    since = {uid: float(p.metadata.name == latest) for uid, p in cluster.placed.items()}
    _, gone = victims(cluster, pod(cpu="1", priority=10), started=since.__getitem__)
    assert gone == {latest}


def test_a_disruption_budget_is_broken_only_where_nothing_else_helps() -> None:
    cluster = Cluster(node("n1", cpu="1"), node("n2", cpu="1"))
    cluster.bind(pod("guarded", WEB, cpu="1"), "n1")
    cluster.bind(pod("other", cpu="1", priority=5), "n2")
    budget = Budget("default", from_labels(WEB), allowed=0)
    wanted = pod(cpu="1", priority=10)
    assert victims(cluster, wanted) == ("n1", {"guarded"})
    assert victims(cluster, wanted, budgets=[budget]) == ("n2", {"other"})
    higher = pod(cpu="1", priority=5)
    assert victims(cluster, higher, budgets=[budget]) == ("n1", {"guarded"})


def test_a_budget_spares_its_pods_before_others_on_the_same_node() -> None:
    cluster = Cluster(node("n1", cpu="2"))
    cluster.bind(pod("guarded", WEB, cpu="1", priority=0), "n1")
    cluster.bind(pod("other", cpu="1", priority=5), "n1")
    budget = Budget("default", from_labels(WEB), allowed=0)
    wanted = pod(cpu="1", priority=10)
    assert victims(cluster, wanted) == ("n1", {"guarded"})
    assert victims(cluster, wanted, budgets=[budget]) == ("n1", {"other"})
    allowed = Budget("default", from_labels(WEB), allowed=1)
    assert victims(cluster, wanted, budgets=[allowed]) == ("n1", {"guarded"})


def test_nodes_that_are_wrong_for_other_reasons_lose_nobody() -> None:
    cluster = Cluster(
        node("n1", cpu="1"), node("n2", {"disk": "ssd"}, cpu="1", taints=("x:NoSchedule",))
    )
    cluster.bind(pod("a", cpu="1"), "n1")
    cluster.bind(pod("b", cpu="1"), "n2")
    assert making_room(cluster, pod(cpu="1", priority=10, nodeSelector={"disk": "ssd"})) is None
    assert making_room(cluster, pod(cpu="2", priority=10)) is None


def test_who_is_in_the_way_by_anti_affinity_goes() -> None:
    cluster = Cluster(node("n1", zone="a"), node("n2", zone="a"))
    cluster.bind(pod("web", WEB), "n1")
    cluster.bind(pod("idle"), "n1")
    wanted = pod(priority=10, affinity=apart(WEB), nodeSelector={"kubernetes.io/hostname": "n1"})
    assert victims(cluster, wanted) == ("n1", {"web"})
    guard = pod("guard", affinity=apart({"app": "new"}))
    cluster.bind(guard, "n2")
    shunned = pod(labels={"app": "new"}, priority=10, nodeSelector={"kubernetes.io/hostname": "n2"})
    assert victims(cluster, shunned) == ("n2", {"guard"})


def test_nobody_goes_for_a_pod_that_needs_one_of_them() -> None:
    """Kubernetes: "inter-Pod affinity on lower-priority Pods"."""
    cluster = Cluster(node("n1", cpu="2"))
    cluster.bind(pod("friend", WEB, cpu="1"), "n1")
    cluster.bind(pod("other", cpu="1"), "n1")
    wanted = pod(cpu="1", priority=10, affinity=beside(WEB))
    assert making_room(cluster, wanted) is None
    cluster.bind(pod("equal friend", WEB, priority=10), "n1")
    assert len(victims(cluster, wanted)[1]) == 1


def test_a_hard_spread_is_minded_when_room_is_made() -> None:
    cluster = Cluster(node("n1", zone="a", cpu="1"), node("n2", zone="b", cpu="1"))
    cluster.bind(pod("same", WEB, cpu="1"), "n1")
    cluster.bind(pod("other", cpu="1", priority=5), "n2")
    constraint = spread(WEB, ZONE)
    wanted = pod(labels=WEB, cpu="1", priority=10, topologySpreadConstraints=[constraint])
    assert victims(cluster, wanted) == ("n1", {"same"})
    cluster.bind(pod("important", WEB, priority=10), "n1")
    assert victims(cluster, wanted) == ("n2", {"other"})


def test_a_host_port_is_taken_from_the_less_important() -> None:
    port = [{"containerPort": 80, "hostPort": 80}]
    cluster = Cluster(node("n1"))
    cluster.bind(pod("low", containers=[{"name": "c", "ports": port}]), "n1")
    cluster.bind(pod("idle"), "n1")
    wanted = pod(priority=10, containers=[{"name": "c", "ports": port}])
    assert victims(cluster, wanted) == ("n1", {"low"})
    equal = pod(priority=0, containers=[{"name": "c", "ports": port}])
    assert making_room(cluster, equal) is None


def test_pods_that_leave_anyway_are_nobodys_victims() -> None:
    cluster = Cluster(node("n1", cpu="1"))
    cluster.bind(pod("leaving", cpu="1"), "n1", leaving=True)
    found = making_room(cluster, pod(cpu="1", priority=10))
    assert found is not None
    assert (len(found.victims), len(found.leaving)) == (0, 1)


def test_promised_room_is_kept_from_equals_and_taken_by_betters() -> None:
    cluster = Cluster(node("n1", cpu="1"))
    promised = pod("promised", cpu="1", priority=10)
    cluster.placer.nominate(promised.metadata.uid, cluster.demand(promised), "n1")
    assert cluster.place(pod(cpu="1", priority=10)) is None
    assert making_room(cluster, pod(cpu="1", priority=10)) is None
    found = making_room(cluster, pod(cpu="1", priority=11))
    assert found is not None
    assert (found.victims, found.lifted) == ((), (promised.metadata.uid,))
    assert cluster.place(promised) == "n1", "its own promise does not stand in its way"
    assert not cluster.table.reserved


def test_a_promise_outlives_a_try_that_came_too_early() -> None:
    cluster = Cluster(node("n1", cpu="1"))
    low, promised = pod(cpu="1"), pod(cpu="1", priority=10)
    cluster.bind(low, "n1")
    cluster.placer.nominate(promised.metadata.uid, cluster.demand(promised), "n1")
    assert cluster.place(promised) is None
    cluster.remove(low)
    assert cluster.place(pod(cpu="1", priority=10)) is None
    assert cluster.place(promised) == "n1"


def test_nobody_slips_in_whom_the_promised_pod_shuns() -> None:
    cluster = Cluster(node("n1"))
    promised = pod(priority=10, affinity=apart(WEB))
    cluster.placer.nominate(promised.metadata.uid, cluster.demand(promised), "n1")
    assert cluster.place(pod(labels=WEB)) is None
    assert cluster.place(pod())
    cluster.placer.denominate(promised.metadata.uid)
    assert cluster.place(pod(labels=WEB))


priorities = st.integers(0, 3)
asked = st.builds(
    lambda cpu, priority, extra: pod(cpu=f"{cpu}00m", priority=priority, **extra),
    st.integers(1, 20),
    priorities,
    st.sampled_from(
        (
            {},
            {"labels": WEB, "affinity": apart(WEB)},
            {"labels": WEB, "topologySpreadConstraints": [spread(WEB)]},
            {"labels": WEB},
        )
    ),
)
machines = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(
    lambda cpus: [node(f"n{i}", cpu=str(c), zone="ab"[i % 2]) for i, c in enumerate(cpus)]
)


@settings(max_examples=150, deadline=None)
@given(machines, st.lists(asked, max_size=15), asked)
def test_room_that_is_made_is_enough_and_costs_only_lower_priorities(
    members: Sequence[Node], others: Sequence[Pod], wanted: Pod
) -> None:
    cluster = Cluster(*members)
    for each in others:
        cluster.place(each)
    used = cluster.table.used.copy()
    if cluster.allowed(wanted):
        return
    found = making_room(cluster, wanted)
    assert (cluster.table.used == used).all(), "deciding changes nothing"
    if found is None:
        assert _nothing_helps(cluster, wanted)
        return
    assert all(h.demand.priority < wanted.spec.priority for h in found.victims)
    for held in found.victims:
        cluster.table.remove(held.uid)
    assert found.node in cluster.allowed(wanted)
    for held in found.victims:
        cluster.table.add(held.uid, held.demand, found.node)
        assert found.node not in cluster.allowed(wanted), "each victim has to go"
        cluster.table.remove(held.uid)


def _nothing_helps(cluster: Cluster, wanted: Pod) -> bool:
    """Say whether the Pod fits nowhere even if everybody less important on one node went."""
    for row in range(cluster.table.top):
        name = cluster.table.names[row]
        lower = [
            h
            for h in cluster.table.residents[row].values()
            if h.demand.priority < wanted.spec.priority
        ]
        for held in lower:
            cluster.table.remove(held.uid)
        fits = name in cluster.allowed(wanted)
        for held in lower:
            cluster.table.add(held.uid, held.demand, name)
        if fits:
            return False
    return True
