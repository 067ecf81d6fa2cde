"""What many placements in a row come to."""

from collections import Counter

import numpy as np

from sampan.scheduler.demand import ZONE, Demands
from sampan.scheduler.place import KEPT, Placer, Refused
from tests.scheduler.support import Cluster, apart, node, pod, spread

WEB = {"app": "web"}


def three() -> Cluster:
    return Cluster(node("n1"), node("n2"), node("n3"))


def test_six_replicas_go_two_by_two_to_three_nodes() -> None:
    cluster = three()
    replicas = [pod(owner="web") for _ in range(6)]
    for each in replicas:
        cluster.place(each)
    assert cluster.spread(*replicas) == [2, 2, 2]


def test_three_replicas_go_one_by_one_even_if_one_node_is_busier() -> None:
    cluster = three()
    cluster.bind(pod(cpu="2", memory="5Gi"), "n1")
    replicas = [pod(owner="web", cpu="100m", memory="64Mi") for _ in range(3)]
    for each in replicas:
        cluster.place(each)
    assert cluster.spread(*replicas) == [1, 1, 1]


def test_deployments_that_come_mixed_are_each_spread_evenly() -> None:
    cluster = three()
    sets = {name: [pod(owner=name) for _ in range(6)] for name in ("a", "b", "c", "d")}
    for together in zip(*sets.values(), strict=True):
        for each in together:
            cluster.place(each)
    assert [cluster.spread(*replicas) for replicas in sets.values()] == [[2, 2, 2]] * 4


def test_a_lost_replica_goes_back_to_where_it_is_missing() -> None:
    cluster = three()
    replicas = [pod(owner="web") for _ in range(6)]
    for each in replicas:
        cluster.place(each)
    lost = cluster.at[replicas[3].metadata.uid]
    cluster.remove(replicas[3])
    assert cluster.place(pod(owner="web")) == lost


def test_replicas_spread_over_zones_and_then_over_hosts() -> None:
    cluster = Cluster(
        node("a1", zone="a"), node("a2", zone="a"), node("b1", zone="b"), node("b2", zone="b")
    )
    replicas = [pod(owner="web") for _ in range(4)]
    zones: Counter[str] = Counter()
    for each in replicas[:2]:
        zones[str(cluster.place(each))[0]] += 1
    assert zones == {"a": 1, "b": 1}
    for each in replicas[2:]:
        cluster.place(each)
    assert cluster.spread(*replicas) == [1, 1, 1, 1]


def test_thirty_replicas_on_unequal_nodes_fill_the_small_ones_and_then_the_large() -> None:
    cluster = Cluster(node("small", cpu="1"), node("large", cpu="16", memory="64Gi"))
    replicas = [pod(owner="web", cpu="200m", memory="64Mi") for _ in range(30)]
    for each in replicas:
        assert cluster.place(each) is not None
    assert cluster.spread(*replicas) == [5, 25]


def test_equal_nodes_are_chosen_in_turn_and_not_always_the_first() -> None:
    cluster = Cluster(*(node(f"n{i}") for i in range(10)))
    firsts = set()
    for i in range(30):
        single = pod(labels={"n": str(i)})
        firsts.add(cluster.place(single))
        cluster.remove(single)
    assert len(firsts) > 5


def test_the_same_history_gives_the_same_placements() -> None:
    def history() -> list[str | None]:
        cluster = Cluster(*(node(f"n{i}", zone=f"z{i % 3}") for i in range(20)))
        return [
            cluster.place(pod(owner=f"o{i % 3}", cpu=f"{100 + i}m", memory="64Mi"))
            for i in range(50)
        ]

    assert history() == history()


def test_ratings_kept_up_to_date_row_by_row_equal_ratings_made_anew() -> None:
    cluster = Cluster(*(node(f"n{i}", {"pool": "ab"[i % 2]}, zone=f"z{i % 3}") for i in range(12)))
    demands = [
        pod(cpu="300m", memory="100Mi"),
        pod(cpu="200m", nodeSelector={"pool": "a"}),
        pod(labels=WEB, affinity=apart(WEB, ZONE), nodeSelector={"pool": "b"}),
        pod(labels=WEB, owner="w"),
        pod(labels=WEB, topologySpreadConstraints=[spread(WEB, skew=2)]),
    ]
    for turn in range(40):
        each = demands[turn % len(demands)]
        again = pod(
            labels=each.metadata.labels, cpu="50m", memory="64Mi", owner=str(turn % 2 or "")
        )
        cluster.place(again)
        if turn % 7 == 0:
            cluster.table.set_node(node(f"n{turn % 12}", {"pool": "b"}, cpu="8"))
        if turn % 5 == 0:
            cluster.remove(again)
        for wanted in demands:
            kept = cluster.rating(wanted)
            fresh = Placer(cluster.table)
            anew = fresh.ratings(fresh.ask(cluster.demand(wanted)))
            assert kept.keys() == anew.keys()
            assert np.allclose(list(kept.values()), [anew[name] for name in kept], atol=1e-3)


def test_a_table_grows_and_nothing_is_lost() -> None:
    cluster = Cluster(*(node(f"n{i}", pods="1", zone=f"z{i % 7}") for i in range(100)))
    guarded = [
        pod(labels=WEB, affinity=apart(WEB), topologySpreadConstraints=[spread(WEB, skew=1)])
        for _ in range(100)
    ]
    placed = [cluster.place(each) for each in guarded[:50]]
    for i in range(100, 200):
        cluster.table.set_node(node(f"n{i}", pods="1", zone=f"z{i % 7}"))
    placed += [cluster.place(each) for each in guarded[50:]]
    assert len(set(placed)) == 100
    assert None not in placed


def test_a_node_that_goes_and_comes_back_is_empty_of_what_was_removed() -> None:
    cluster = three()
    alone = pod(cpu="4")
    cluster.bind(alone, "n1")
    cluster.table.drop_node("n1")
    assert cluster.allowed(pod(cpu="1")) == {"n2", "n3"}
    cluster.table.set_node(node("n1"))
    assert cluster.allowed(pod(cpu="1")) == {"n2", "n3"}, "its Pod still counts"
    cluster.table.drop_node("n1")
    cluster.remove(alone)
    cluster.table.set_node(node("n4"))
    assert cluster.allowed(pod(cpu="4")) == {"n2", "n3", "n4"}
    cluster.table.set_node(node("n1"))
    assert cluster.allowed(pod(cpu="4")) == {"n1", "n2", "n3", "n4"}


def test_pods_may_be_known_before_their_node() -> None:
    cluster = Cluster()
    cluster.bind(pod(cpu="4"), "n1")
    cluster.table.set_node(node("n1"))
    assert cluster.allowed(pod(cpu="1")) == set()


def test_more_demands_than_are_kept_still_see_each_other() -> None:
    cluster = Cluster(*(node(f"n{i}") for i in range(4)))
    for i in range(KEPT + 50):
        assert cluster.place(pod(labels={"n": str(i)}, cpu=f"{i + 1}u", memory="1Mi")) is not None
    assert cluster.place(pod(labels={"n": "0"}, affinity=apart({"n": "1"}))) is not None
    holds_one = next(u for u, p in cluster.placed.items() if p.metadata.labels == {"n": "1"})
    avoided = pod(labels={"n": "0"}, affinity=apart({"n": "1"}))
    assert cluster.at[holds_one] not in cluster.allowed(avoided)


def test_nothing_is_placed_where_there_is_no_node() -> None:
    table = Cluster().table
    demand = Demands().of(pod())
    assert list(Placer(table).place([("u", demand)])) == [Refused("u", demand)]


def test_an_absurd_request_overflows_nothing() -> None:
    cluster = Cluster(node("n1"), node("n2"))
    for _ in range(100):
        cluster.bind(pod(cpu="1E", memory="1000E"), "n1")
    assert cluster.place(pod(memory="1000E")) is None
    assert cluster.allowed(pod(cpu="1")) == {"n2"}
