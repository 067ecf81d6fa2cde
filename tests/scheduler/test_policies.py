"""Each policy by its word: where the next Pod goes, and that what users wrote still counts."""

from collections import Counter
from typing import Any

import pytest

from sampan.api import kinds
from sampan.scheduler.place import Placer
from sampan.scheduler.policies import POLICIES, requested_to_capacity_ratio
from sampan.scheduler.profile import DEFAULT, profiles, with_policy
from sampan.scheduler.rules import Score
from sampan.scheduler.views import Pod
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import (
    PREFERRED,
    Cluster,
    expression,
    node,
    pod,
    raw_node,
    raw_pod,
    spread,
)


def by(word: str, *args: Any, **kwargs: Any) -> Pod:
    raw = raw_pod(*args, **kwargs)
    raw["metadata"]["annotations"] = {"sampan.io/placement": word}
    return Pod.of(raw)


def three(**more: Any) -> Cluster:
    return Cluster(*(node(f"n{i}", **more) for i in range(3)))


def went(cluster: Cluster, word: str, number: int, **asked: Any) -> list[str | None]:
    return [cluster.place(by(word, **asked)) for _ in range(number)]


def test_spread_takes_the_emptiest() -> None:
    assert len(set(went(three(), "spread", 3, cpu="1"))) == 3


def test_binpack_fills_a_node_before_it_begins_the_next() -> None:
    placed = went(three(cpu="4"), "binpack", 9, cpu="1", memory="1Gi")
    assert sorted(Counter(placed).values()) == [1, 4, 4]


def test_binpack_does_not_strand_memory_where_another_node_fits_as_well() -> None:
    cluster = Cluster(node("cpu-bound", cpu="4", memory="8Gi"), node("even", cpu="4", memory="8Gi"))
    cluster.bind(pod(cpu="2", memory="4Gi"), "even")
    cluster.bind(pod(cpu="3", memory="2Gi"), "cpu-bound")
    assert cluster.place(by("binpack", cpu="1", memory="1Gi")) == "even"
    assert cluster.place(by("binpack", cpu="500m", memory="3Gi")) in {"even", "cpu-bound"}


def test_first_fit_takes_the_first_that_fits() -> None:
    assert went(three(cpu="2"), "first-fit", 5, cpu="1") == ["n0", "n0", "n1", "n1", "n2"]


def test_round_robin_takes_one_after_the_other() -> None:
    assert went(three(), "round-robin", 4) == ["n0", "n1", "n2", "n0"]
    cluster = Cluster(node("a"), node("b", unschedulable=True), node("c"))
    assert went(cluster, "round-robin", 4) == ["a", "c", "a", "c"]


def test_random_is_another_node_each_time_but_the_same_for_the_same_history() -> None:
    first, second = went(three(), "random", 60), went(three(), "random", 60)
    assert first == second
    assert min(Counter(first).values()) >= 10


def test_dot_product_puts_what_needs_memory_where_memory_is_free() -> None:
    cluster = Cluster(node("a", cpu="8", memory="8Gi"), node("b", cpu="8", memory="8Gi"))
    cluster.bind(pod(cpu="6", memory="1Gi"), "a")
    cluster.bind(pod(cpu="1", memory="6Gi"), "b")
    assert cluster.place(by("dot-product", cpu="100m", memory="2Gi")) == "a"
    assert cluster.place(by("dot-product", cpu="2", memory="64Mi")) == "b"


def test_most_allocated_takes_the_fullest() -> None:
    cluster = three(cpu="4")
    cluster.bind(pod(cpu="2", memory="1Gi"), "n1")
    assert cluster.place(by("most-allocated", cpu="1", memory="1Gi")) == "n1"


@pytest.mark.parametrize(
    ("shape", "best"), [(((0, 0), (100, 10)), "full"), (((0, 10), (100, 0)), "empty")]
)
def test_requested_to_capacity_ratio_follows_its_shape(
    shape: tuple[tuple[float, float], ...], best: str
) -> None:
    cluster = Cluster(node("full", cpu="4"), node("empty", cpu="4"))
    cluster.bind(pod(cpu="2"), "full")
    score = Score("RequestedToCapacityRatio", 1, requested_to_capacity_ratio(shape, {"cpu": 1}))
    ask = cluster.placer.ask(cluster.demand(pod(cpu="1")))
    rated = score.rates(ask, cluster.table, ask.rows)
    assert rated is not None
    assert cluster.table.names[int(rated.argmax())] == best
    assert sorted(rated.tolist()) == [25.0, 75.0]


@pytest.mark.parametrize("word", sorted(POLICIES))
def test_no_policy_overrules_a_filter_or_a_preference_that_a_user_wrote(word: str) -> None:
    cluster = Cluster(
        node("small", cpu="1"), node("wanted", {"disk": "ssd"}, cpu="4"), node("big", cpu="4")
    )
    assert cluster.place(by(word, cpu="2", nodeSelector={"disk": "ssd"})) == "wanted"
    assert cluster.place(by(word, cpu="3")) == "big"
    assert cluster.place(by(word, cpu="3")) is None


def test_only_spread_spreads_replicas_that_did_not_ask_for_it() -> None:
    cluster = three()
    placed = [cluster.place(by("binpack", owner="web", cpu="100m")) for _ in range(6)]
    assert len(set(placed)) == 1
    constraint = spread({"app": "x"}, "kubernetes.io/hostname", hard=True)
    apart = [
        cluster.place(by("binpack", labels={"app": "x"}, topologySpreadConstraints=[constraint]))
        for _ in range(3)
    ]
    assert len(set(apart)) == 3


def test_a_preferred_node_still_counts_where_room_is_equal() -> None:
    wish = {
        "weight": 100,
        "preference": {"matchExpressions": [expression("disk", "In", "ssd")]},
    }
    cluster = Cluster(node("a"), node("b", {"disk": "ssd"}))
    picky = by("binpack", cpu="1", affinity={"nodeAffinity": {PREFERRED: [wish]}})
    assert cluster.place(picky) == "b"


def test_the_scheduler_name_chooses_the_profile_and_the_annotation_the_policy() -> None:
    cluster = three(cpu="4")
    cluster.placer = Placer(cluster.table, {**profiles(), "mine": with_policy("first-fit")})
    assert [cluster.place(pod(schedulerName="mine", cpu="1")) for _ in range(2)] == ["n0", "n0"]
    packed = [cluster.place(pod(schedulerName="sampan-binpack", cpu="1")) for _ in range(2)]
    assert packed == ["n0", "n0"]
    assert cluster.place(by("spread", schedulerName="mine", cpu="1")) != "n0"
    assert cluster.placer.ask(cluster.demand(pod())).profile is DEFAULT


async def test_a_pod_of_any_profile_is_placed_and_told_of_by_its_name() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, *(raw_node(f"n{i}", cpu="4") for i in range(3)))
    async with scheduling(api):
        await api.add(
            kinds.PODS,
            *(raw_pod(f"p{i}", cpu="1", schedulerName="sampan-binpack") for i in range(4)),
        )
        await until(lambda: len(api.events("Scheduled")) == 4)
    assert len({api.node_of(f"p{i}") for i in range(4)}) == 1
    assert api.events("Scheduled")[0]["source"]["component"] == "sampan-binpack"


async def test_an_unknown_word_is_told_of_and_changes_nothing() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1"))
    odd = raw_pod("odd")
    odd["metadata"]["annotations"] = {"sampan.io/placement": "tetris"}
    async with scheduling(api):
        await api.add(kinds.PODS, odd)
        await until(lambda: api.node_of("odd"))
        await until(lambda: api.events("UnknownPlacement"))
    assert "binpack" in api.events("UnknownPlacement")[0]["message"]
