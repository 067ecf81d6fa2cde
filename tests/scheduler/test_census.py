from sampan.scheduler.ask import bind, release
from sampan.scheduler.demand import ZONE
from sampan.scheduler.profile import DEFAULT
from tests.scheduler.support import Cluster, apart, beside, likes, node, pod, spread

WEB = {"app": "web"}


def test_nothing_is_kept_of_pods_and_demands_that_are_gone() -> None:
    cluster = Cluster(node("n1", zone="a"), node("n2", zone="b"))
    census = cluster.table.census
    several = [
        pod(labels=WEB, affinity=apart({"app": "db"})),
        pod(labels=WEB, affinity=beside(WEB, ZONE)),
        pod(labels=WEB, owner="rs", affinity=likes("podAffinity", WEB)),
        pod(labels=WEB, topologySpreadConstraints=[spread(WEB)]),
        pod(labels=WEB, affinity=apart({"app": "db"}, namespaceSelector={})),
    ]
    asks = [bind(cluster.demand(each), cluster.table, DEFAULT) for each in several]
    for each in several:
        cluster.bind(each, "n1")
        cluster.bind(each, "n2", leaving=True)
    for each in several:
        cluster.remove(each)
    for ask in asks:
        assert all(not tally.counts.any() for tally in ask.company.tallies)
        release(ask, cluster.table)
    kept = (census._kin, census._tallies, census._claims, census._local)
    assert kept == ({}, {}, {}, {})
    assert not census._in_namespace
    assert not census._of_owner


def test_a_claim_that_nobody_holds_any_more_is_taken_from_those_it_meant() -> None:
    cluster = Cluster(node("n1"))
    guard = pod(labels={"app": "db"}, affinity=apart(WEB))
    cluster.bind(pod(labels=WEB), "n1")
    cluster.bind(guard, "n1")
    ask = bind(cluster.demand(pod(labels=WEB)), cluster.table, DEFAULT)
    assert len(ask.kin.claims) == 1
    cluster.remove(guard)
    assert ask.kin.claims == []


def test_a_tally_that_comes_late_counts_who_is_there_already() -> None:
    cluster = Cluster(node("n1"))
    cluster.bind(pod(labels=WEB), "n1")
    cluster.bind(pod(labels=WEB), "n1", leaving=True)
    constraint = spread(WEB)
    wanted = pod(labels=WEB, affinity=apart(WEB), topologySpreadConstraints=[constraint])
    ask = bind(cluster.demand(wanted), cluster.table, DEFAULT)
    [(_, staying)], [(_, everyone)] = ask.company.hard, ask.company.apart
    assert (staying.counts[0], everyone.counts[0]) == (1, 2)
