"""The scheduler over an API, in virtual time."""

import asyncio
from collections import Counter
from functools import partial

import pytest

from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import Object
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import apart, beside, raw_node, raw_pod, required_nodes


async def cluster(*nodes: Object) -> BindingApi:
    api = BindingApi()
    await api.add(kinds.NODES, *(nodes or (raw_node("n1"), raw_node("n2"), raw_node("n3"))))
    return api


async def test_a_burst_of_replicas_is_spread_evenly_and_each_is_told_of() -> None:
    api = await cluster()
    async with scheduling(api):
        await api.add(kinds.PODS, *(raw_pod(f"web-{i}", owner="web") for i in range(6)))
        await until(lambda: all(api.node_of(f"web-{i}") for i in range(6)))
        await until(lambda: len(api.events("Scheduled")) == 6)
    assert Counter(api.node_of(f"web-{i}") for i in range(6)) == {"n1": 2, "n2": 2, "n3": 2}
    told = {e["involvedObject"]["name"]: e["message"] for e in api.events("Scheduled")}
    assert told["web-0"] == f"Successfully assigned default/web-0 to {api.node_of('web-0')}"


async def test_a_burst_is_spread_evenly_even_if_the_watch_lags() -> None:
    api = BindingApi(lag=0.3)
    await api.add(kinds.NODES, raw_node("n1"), raw_node("n2"), raw_node("n3"))
    async with scheduling(api):
        await asyncio.sleep(2)
        await api.add(kinds.PODS, *(raw_pod(f"web-{i}", owner="web") for i in range(6)))
        await until(lambda: all(api.node_of(f"web-{i}") for i in range(6)))
    assert Counter(api.node_of(f"web-{i}") for i in range(6)) == {"n1": 2, "n2": 2, "n3": 2}
    assert len(api.bindings) == 6


async def test_pods_behind_a_service_are_spread_without_an_owner() -> None:
    api = await cluster()
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"a": "b"}},
    }
    await api.add(kinds.SERVICES, service)
    await api.add(
        kinds.PODS, *(raw_pod(f"web-{i}", {"a": "b"}, cpu=f"{i + 1}00m") for i in range(6))
    )
    async with scheduling(api):
        await until(lambda: all(api.node_of(f"web-{i}") for i in range(6)))
    assert Counter(api.node_of(f"web-{i}") for i in range(6)) == {"n1": 2, "n2": 2, "n3": 2}


async def test_a_refused_pod_says_why_and_is_placed_when_a_node_comes() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("big", cpu="2"))
        await until(lambda: api.events("FailedScheduling"))
        text = "0/1 nodes are available: 1 Insufficient cpu. n1: needs 2 CPU, 1 free."
        assert api.why("big") == text
        assert api.events("FailedScheduling")[0]["message"] == text
        await api.add(kinds.NODES, raw_node("n2"))
        await until(lambda: api.node_of("big") == "n2", within=1)


async def test_a_refused_pod_is_placed_as_soon_as_another_is_gone() -> None:
    api = await cluster(raw_node("n1", cpu="2"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("one", cpu="2"), raw_pod("two", cpu="2"))
        await until(lambda: api.node_of("one") and api.why("two"))
        await api.delete(kinds.PODS, "one", "default", grace_seconds=0)
        await until(lambda: api.node_of("two") == "n1", within=1)


async def test_a_finished_pod_makes_room() -> None:
    api = await cluster(raw_node("n1", cpu="2"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("one", cpu="2"), raw_pod("two", cpu="2"))
        await until(lambda: api.node_of("one") and api.why("two"))
        await api.patch(kinds.PODS, "one", {"status": {"phase": "Succeeded"}}, "default")
        await until(lambda: api.node_of("two") == "n1", within=1)


async def test_a_refused_pod_follows_the_friend_that_it_waits_for() -> None:
    api = await cluster()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("late", affinity=beside({"app": "db"})))
        await until(lambda: api.why("late"))
        await api.add(kinds.PODS, raw_pod("db", {"app": "db"}))
        await until(lambda: api.node_of("late"), within=1)
        assert api.node_of("late") == api.node_of("db")


async def test_nothing_is_tried_again_while_nothing_changes() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("big", cpu="2"))
        await until(lambda: api.events("FailedScheduling"))
        before = len(api.log)
        await asyncio.sleep(3600)
        assert len(api.log) == before


async def test_many_equal_pods_that_fit_nowhere_wait_and_go_in_order_when_they_fit() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    names = [f"big-{i}" for i in range(20)]
    async with scheduling(api) as scheduler:
        await api.add(kinds.PODS, *(raw_pod(name, cpu="2") for name in names))
        await until(lambda: all(api.why(name) for name in names))
        assert (scheduler.statistics().parked, scheduler.statistics().lots) == (20, 1)
        await api.add(kinds.NODES, raw_node("n2", cpu="20"))
        await until(lambda: sum(bool(api.node_of(name)) for name in names) == 10, within=1)
        await asyncio.sleep(1)
    assert [name for name in names if api.node_of(name)] == names[:10]


async def test_the_more_important_pod_goes_first() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    await api.add(
        kinds.PODS,
        raw_pod("low", cpu="1"),
        raw_pod("high", cpu="1", priority=100),
        raw_pod("middle", cpu="1", priority=10),
    )
    async with scheduling(api):
        await until(lambda: api.node_of("high") and api.why("low") and api.why("middle"))
        await api.delete(kinds.PODS, "high", "default", grace_seconds=0)
        await until(lambda: api.node_of("middle"))
        assert not api.node_of("low")


async def test_a_gated_pod_waits_for_its_gates() -> None:
    api = await cluster()
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("gated", schedulingGates=[{"name": "quota"}]))
        await until(lambda: "gates" in api.why("gated"))
        await asyncio.sleep(100)
        assert not api.node_of("gated")
        await api.patch(kinds.PODS, "gated", {"spec": {"schedulingGates": None}}, "default")
        await until(lambda: api.node_of("gated"))


async def test_another_schedulers_pods_are_left_to_it_but_count() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("theirs", cpu="1", schedulerName="other"))
        await api.add(kinds.PODS, raw_pod("ours", cpu="1"))
        await until(lambda: api.node_of("ours"))
        await asyncio.sleep(1)
        assert not api.node_of("theirs")
        await api.patch(kinds.PODS, "theirs", {"spec": {"nodeName": "n1"}}, "default")
        await api.delete(kinds.PODS, "ours", "default", grace_seconds=0)
        await asyncio.sleep(1)
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.why("next"))


async def test_a_failed_binding_is_taken_back_and_tried_again() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    failures = [ServiceUnavailable("the store is busy")] * 3
    api.refuses = lambda _pod, _node: failures.pop() if failures else None
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("web", cpu="1"))
        await until(lambda: api.node_of("web"))
        [event] = api.events("FailedScheduling")
        assert event["message"] == "binding to n1 failed: the store is busy"
        await until(lambda: api.events("FailedScheduling")[0]["count"] == 3)
    assert len(api.bindings) == 4


@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_a_binding_that_succeeded_behind_an_error_counts_and_is_not_made_twice(
    seconds: float,
) -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    api.refusal_takes = seconds
    lost = [True]

    def refuses(name: str, node: str) -> ServiceUnavailable | None:
        if lost and lost.pop():
            pod = api.pod(name)
            api._store(kinds.PODS, {**pod, "spec": {**pod["spec"], "nodeName": node}})
            return ServiceUnavailable("connection lost")
        return None

    api.refuses = refuses
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("web", cpu="1"))
        await until(lambda: api.node_of("web"))
        await asyncio.sleep(5)
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: "Insufficient cpu" in api.why("next"))
    assert api.bindings == [("web", "n1")]


async def test_a_pod_that_is_deleted_before_its_binding_is_forgotten() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("gone", cpu="1"))
        await api.delete(kinds.PODS, "gone", "default")
        await api.add(kinds.PODS, raw_pod("next", cpu="1"))
        await until(lambda: api.node_of("next") == "n1")


async def test_a_restarted_scheduler_knows_what_runs_where() -> None:
    api = await cluster(raw_node("n1", cpu="2"), raw_node("n2", cpu="2"))
    async with scheduling(api):
        await api.add(
            kinds.PODS, raw_pod("one", {"app": "x"}, cpu="1", affinity=apart({"app": "x"}))
        )
        await until(lambda: api.node_of("one"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("two", {"app": "x"}, cpu="1"))
        await api.add(kinds.PODS, raw_pod("three", cpu="2"))
        await until(lambda: api.node_of("two") and api.why("three"))
    assert api.node_of("one") != api.node_of("two")


async def test_a_cordoned_node_gets_nothing_new_until_it_is_uncordoned() -> None:
    api = await cluster(raw_node("n1", unschedulable=True))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("web"))
        await until(lambda: "1 node(s) were unschedulable" in api.why("web"))
        await api.patch(kinds.NODES, "n1", {"spec": {"unschedulable": False}})
        await until(lambda: api.node_of("web") == "n1", within=1)


def says(api: BindingApi, text: str) -> bool:
    return text in api.why("big")


async def test_repeated_refusals_are_one_event_that_counts() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("big", cpu="9"))
        for i in range(2, 6):
            await until(partial(says, api, f"0/{i - 1} nodes"))
            await api.add(kinds.NODES, raw_node(f"n{i}", cpu="1"))
        await until(lambda: "0/5 nodes" in api.why("big"))
        await until(lambda: api.events("FailedScheduling")[0]["count"] == 5)
    assert len(api.events("FailedScheduling")) == 1
    assert len({c["type"] for c in api.pod("big")["status"]["conditions"]}) == 1


async def test_a_pod_that_makes_no_sense_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = await cluster()
    nonsense = required_nodes({"matchExpressions": [{"operator": "In"}]})
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("odd", affinity=nonsense), raw_pod("web"))
        await until(lambda: api.node_of("web"))
        await until(lambda: api.why("odd").startswith("the scheduler cannot read"))
        await api.patch(kinds.PODS, "odd", {"spec": {"nodeName": "n1"}}, "default")
        await api.add(kinds.PODS, raw_pod("next"))
        await until(lambda: api.node_of("next"))
    assert "default/odd" in caplog.text


async def test_a_bound_pod_that_changes_its_labels_is_counted_as_what_it_is_now() -> None:
    api = await cluster(raw_node("n1"))
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("db", {"app": "db"}))
        await until(lambda: api.node_of("db"))
        await api.add(kinds.PODS, raw_pod("shy", affinity=apart({"app": "db"})))
        await until(lambda: "anti-affinity" in api.why("shy"))
        patch = {"metadata": {"labels": {"app": "cache"}}}
        await api.patch(kinds.PODS, "db", patch, "default")
        await until(lambda: api.node_of("shy"), within=1)


async def test_the_more_kinds_of_pods_wait_the_longer_they_rest_between_tries() -> None:
    api = await cluster(raw_node("n1", cpu="1"))
    async with scheduling(api) as scheduler:
        await api.add(kinds.PODS, *(raw_pod(f"p{i}", cpu=f"{2000 + i}m") for i in range(400)))
        await until(lambda: scheduler.statistics().lots == 400)
        await asyncio.sleep(10)
        loop = asyncio.get_running_loop()
        await api.add(kinds.NODES, raw_node("n2", cpu="1"))
        await asyncio.sleep(0.01)
        begun = loop.time()
        await api.add(kinds.NODES, raw_node("n3", cpu="2"))
        await until(lambda: api.node_of("p0"))
        assert 0.3 < loop.time() - begun < 0.6
