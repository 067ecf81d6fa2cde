"""GPUs, whole and shared: none is given twice, and fragments are avoided where that is asked."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.scheduler.devices import Workload
from sampan.scheduler.views import Pod
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import Cluster, node, pod, raw_node, raw_pod

GPU = "nvidia.com/gpu"
SHARE = "sampan.io/gpu-milli"


def whole(number: int, **more: object) -> Pod:
    return _asking({GPU: str(number)}, **more)


def share(milli: int, **more: object) -> Pod:
    return _asking({SHARE: str(milli)}, **more)


def _asking(requests: dict[str, str], **more: object) -> Pod:
    word = str(more.pop("by", ""))
    raw = raw_pod(containers=[{"name": "c", "resources": {"requests": requests}}], **more)  # type: ignore[arg-type]
    raw["metadata"]["annotations"] = {"sampan.io/placement": word} if word else {}
    return Pod.of(raw)


def gpu_nodes(*numbers: int) -> Cluster:
    return Cluster(*(node(f"n{i}", cpu="32", **{GPU: str(n)}) for i, n in enumerate(numbers)))


def test_shares_of_one_gpu_sum_up_to_no_more_than_all_of_it() -> None:
    cluster = gpu_nodes(1)
    assert [cluster.place(share(400)) for _ in range(3)] == ["n0", "n0", None]
    assert cluster.place(share(200)) == "n0"
    assert cluster.place(whole(1)) is None


def test_two_halves_of_different_gpus_are_not_a_whole_one() -> None:
    cluster = gpu_nodes(2)
    first, second = share(600), share(600)
    assert cluster.place(first)
    assert cluster.place(second)
    why = str(cluster.why(whole(1)))
    assert "1 Insufficient nvidia.com/gpu" in why
    assert "needs 1 whole GPU(s), 0 of 2 are wholly free" in why
    assert "needs 0.5 of one GPU, the freest of 2 has 0.4 left" in str(cluster.why(share(500)))
    cluster.remove(first)
    assert cluster.place(whole(1)) == "n0"


def test_a_share_goes_to_the_fullest_gpu_that_will_do() -> None:
    cluster = gpu_nodes(3)
    cluster.place(share(300))
    cluster.place(share(300))
    assert sorted(cluster.table.devices.free[:, 0].tolist()) == [400, 1000, 1000]


def test_a_node_without_gpus_takes_nobody_who_wants_one() -> None:
    cluster = gpu_nodes(0)
    assert cluster.place(share(1)) is None
    assert cluster.place(whole(1)) is None
    assert cluster.place(pod())


def test_gpus_of_a_node_that_changes_are_counted_anew() -> None:
    cluster = gpu_nodes(1)
    cluster.place(share(700))
    cluster.table.set_node(node("n0", cpu="32", **{GPU: "2"}))
    assert sorted(cluster.table.devices.free[:, 0].tolist()) == [300, 1000]
    cluster.table.drop_node("n0")
    assert not cluster.table.devices.free[:, 0].any()


def test_fgd_keeps_whole_gpus_whole() -> None:
    def free_whole(word: str) -> int:
        cluster = gpu_nodes(4, 4)
        for _ in range(20):
            eight = whole(4, by=word)
            if cluster.place(eight):
                cluster.remove(eight)
        for _ in range(6):
            cluster.place(share(150, by=word))
        return int((cluster.table.devices.free[:, :2] == 1000).sum())

    assert free_whole("fgd") == 7
    assert free_whole("spread") < 7


def test_what_no_typical_pod_can_use_is_a_fragment() -> None:
    workload = Workload()
    cluster = gpu_nodes(1)
    for _ in range(16):
        workload.note(cluster.demand(whole(1, cpu="4")))
    cpu, memory = np.array([4000.0, 4000.0, 1000.0]), np.full(3, 2.0**34)
    gpus = np.array([[1000.0, 600.0, 1000.0]])
    demand = cluster.demand(whole(1, cpu="4"))
    assert demand.gpus == (1, 0)
    lost = workload.fragments(cpu, memory, gpus).tolist()
    assert lost[:2] == [0.0, 600.0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.lists(
        st.one_of(
            st.builds(lambda n, w: whole(n, by=w), st.integers(1, 4), st.sampled_from(("", "fgd"))),
            st.builds(
                lambda m, w: share(m, by=w), st.integers(1, 999), st.sampled_from(("", "fgd"))
            ),
            st.integers(0, 30),
        ),
        max_size=40,
    ),
)
def test_no_gpu_is_given_twice(numbers: list[int], history: list[Pod | int]) -> None:
    cluster = gpu_nodes(*numbers)
    for step in history:
        if isinstance(step, Pod):
            cluster.place(step)
        elif cluster.placed:
            cluster.remove(list(cluster.placed.values())[step % len(cluster.placed)])
    used: defaultdict[tuple[int, int], int] = defaultdict(int)
    for uid in cluster.placed:
        held = cluster.table.held(uid)
        assert held is not None
        assert len(held.devices) == held.demand.gpus[0]
        for line in held.devices:
            used[held.row, line] += held.demand.gpus[1] or 1000
    free = cluster.table.devices.free
    for row, number in enumerate(numbers):
        for line in range(number):
            assert free[line, row] == 1000 - used[row, line] >= 0


async def test_the_gpus_that_a_pod_got_are_written_on_it_and_outlive_the_scheduler() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1", **{GPU: "2"}))  # type: ignore[arg-type]
    asks = {"name": "c", "resources": {"requests": {SHARE: "600"}}}
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("a", containers=[asks]), raw_pod("b", containers=[asks]))
        await until(lambda: api.node_of("a") and api.node_of("b"))
    given = {api.pod(n)["metadata"]["annotations"]["sampan.io/gpus"] for n in "ab"}
    assert given == {"0", "1"}
    await api.delete(kinds.PODS, "a", "default", grace_seconds=0)
    async with scheduling(api):
        one = {"name": "c", "resources": {"requests": {GPU: "1"}}}
        await api.add(kinds.PODS, raw_pod("c", containers=[one]))
        await until(lambda: api.node_of("c"))
    left = api.pod("b")["metadata"]["annotations"]["sampan.io/gpus"]
    assert {left, api.pod("c")["metadata"]["annotations"]["sampan.io/gpus"]} == {"0", "1"}


@pytest.mark.parametrize("priority", [0, 10])
def test_a_gpu_is_taken_from_the_less_important(priority: int) -> None:
    from sampan.scheduler.preempt import Circumstances, preempt

    cluster = gpu_nodes(1)
    cluster.place(share(600))
    ask = cluster.placer.ask(cluster.demand(whole(1, priority=priority)))
    found = preempt(cluster.placer, ask, Circumstances())
    assert (found is not None) == (priority > 0)
