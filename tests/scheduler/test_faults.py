"""Random histories with faults: lost answers, lagging watches, dying nodes, restarts, rivals.

After every change of the API the whole cluster is counted by hand: what the Pods of each node ask
for against what the node has. Nothing here knows of columns.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.quantities import milli
from sampan.testing.clock import VirtualTimeLoop
from tests.scheduler.api import BindingApi, scheduling, until
from tests.scheduler.support import raw_node, raw_pod

MOST_PODS = 4
HOPELESS = 3000


@dataclass
class Judge:
    """Counts by hand what no scheduler may ever do."""

    api: "JudgedApi"
    bound: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    def look(self) -> None:
        asked: defaultdict[str, int] = defaultdict(int)
        number: Counter[str] = Counter()
        for pod in self.api.of(kinds.PODS):
            node = pod["spec"].get("nodeName")
            finished = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
            if node and not finished:
                [container] = pod["spec"]["containers"]
                asked[node] += milli(container["resources"]["requests"].get("cpu", 0))
                number[node] += 1
        for node in self.api.of(kinds.NODES):
            name, has = node["metadata"]["name"], node["status"]["allocatable"]
            if asked[name] > milli(has["cpu"]) or number[name] > int(has["pods"]):
                self.wrongs.append(f"{name}: {asked[name]}m of {has['cpu']}, {number[name]} Pods")
        self.wrongs += [f"{uid} was bound twice" for uid, n in self.bound.items() if n > 1]


class JudgedApi(BindingApi):
    def __init__(self, *, lag: float = 0.0) -> None:
        super().__init__(lag=lag)
        self.judge = Judge(self)
        self.judging = True

    def _put(self, type_: Any, kind: Kind, new: Object) -> Object:
        old = self.objects[kind].get(
            (new["metadata"].get("namespace", ""), new["metadata"]["name"])
        )
        answer = super()._put(type_, kind, new)
        if kind is kinds.PODS:
            if old and not old["spec"].get("nodeName") and new["spec"].get("nodeName"):
                self.judge.bound[new["metadata"]["uid"]] += 1
            if self.judging:
                self.judge.look()
        return answer


SORTS = (
    *("pod", "pod", "pod", "pod", "delete", "stop", "finish", "wait"),
    *("node goes", "node comes", "cordon", "refuse", "lose answer"),
)
Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(SORTS),
        st.integers(0, 20),
        st.integers(0, 3),
    ),
    max_size=40,
)


class History:
    def __init__(self, api: JudgedApi) -> None:
        self.api = api
        self.made = 0
        self.refusals: list[bool] = []
        api.refuses = self._refuse

    def _refuse(self, name: str, node: str) -> ApiError | None:
        if not self.refusals:
            return None
        lost_after = self.refusals.pop()
        pod = self.api.objects[kinds.PODS].get(("default", name))
        if lost_after and pod:
            if pod["spec"].get("nodeName"):
                return Conflict("has a node already")
            self.api._store(kinds.PODS, {**pod, "spec": {**pod["spec"], "nodeName": node}})
        return ServiceUnavailable("the connection was lost")

    async def do(self, what: str, which: int, number: int) -> None:
        match what:
            case "pod":
                self.made += 1
                cpu = f"{which % 9 * 250}m"
                await self.api.add(kinds.PODS, raw_pod(f"p{self.made}", cpu=cpu, priority=number))
            case "delete" | "finish" | "stop":
                await self._to_a_pod(what, which)
            case "node goes" | "node comes" | "cordon":
                await self._to_a_node(what, f"n{number}", which)
            case "refuse":
                self.refusals += [False] * (number + 1)
            case "lose answer":
                self.refusals.append(True)
            case "wait":
                await asyncio.sleep(which * 0.05)

    async def _to_a_pod(self, what: str, which: int) -> None:
        pods = sorted(self.api.objects[kinds.PODS].items())
        if not pods:
            return
        (space, name), pod = pods[which % len(pods)]
        if what == "delete":
            await self.api.delete(kinds.PODS, name, space)
        elif what == "stop":
            self.stop_one()
        elif pod["spec"].get("nodeName"):
            await self.api.patch(kinds.PODS, name, {"status": {"phase": "Succeeded"}}, space)

    async def _to_a_node(self, what: str, name: str, which: int) -> None:
        known = ("", name) in self.api.objects[kinds.NODES]
        if what == "node comes" and not known:
            await self.api.add(kinds.NODES, machine(name))
        elif what == "node goes":
            await self.node_goes(name)
        elif what == "cordon" and known:
            patch = {"spec": {"unschedulable": which % 2 == 0}}
            await self.api.patch(kinds.NODES, name, patch)

    async def node_goes(self, name: str) -> None:
        """Let a node vanish, and its Pods with it, as the controllers would have them."""
        if ("", name) in self.api.objects[kinds.NODES]:
            await self.api.delete(kinds.NODES, name)
        for pod in self.api.of(kinds.PODS):
            if pod["spec"].get("nodeName") == name:
                self.api.gone(kinds.PODS, pod)

    def stop_one(self) -> None:
        """Let one Pod that was told to go be gone."""
        for pod in self.api.of(kinds.PODS):
            if pod["metadata"].get("deletionTimestamp"):
                self.api.gone(kinds.PODS, pod)
                return


def machine(name: str) -> Object:
    return raw_node(name, cpu="2", pods=str(MOST_PODS))


async def play(history: Sequence[Step], lag: float, schedulers: int) -> JudgedApi:
    api = JudgedApi(lag=lag)
    api.judging = schedulers == 1
    await api.add(kinds.NODES, *(machine(f"n{i}") for i in range(3)))
    course = History(api)
    middle = len(history) // 2
    for part in (history[:middle], history[middle:]):  # a restart in between
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(_schedule(api)) for _ in range(schedulers)]
            await asyncio.sleep(0.01)
            for step in part:
                await course.do(*step)
            await asyncio.sleep(0.001)
            for task in running:
                task.cancel()
    await _settle(api, course)
    return api


async def _schedule(api: JudgedApi) -> None:
    async with scheduling(api):
        await asyncio.Event().wait()


async def _settle(api: JudgedApi, course: History) -> None:
    """End all faults, and see everybody placed for whom there is room."""
    course.refusals.clear()
    async with scheduling(api):
        while any(p["metadata"].get("deletionTimestamp") for p in api.of(kinds.PODS)):
            course.stop_one()
            await asyncio.sleep(0.5)
        await api.add(kinds.NODES, raw_node("spare", cpu="200", pods="200"))
        await until(
            lambda: all(
                p["spec"].get("nodeName") or p["metadata"].get("deletionTimestamp")
                for p in api.of(kinds.PODS)
            )
        )


def in_virtual_time(history: Sequence[Step], lag: float, schedulers: int = 1) -> JudgedApi:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(play(history, lag, schedulers))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.sampled_from((0.0, 0.0, 0.02, 0.3)))
def test_whatever_fails_no_node_is_over_capacity_no_pod_bound_twice_and_all_end_placed(
    history: Sequence[Step], lag: float
) -> None:
    assert in_virtual_time(history, lag).judge.wrongs == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_two_schedulers_at_once_bind_no_pod_twice_and_leave_none(history: Sequence[Step]) -> None:
    api = in_virtual_time(history, 0.02, schedulers=2)
    assert max(api.judge.bound.values(), default=0) <= 1


async def test_thousands_of_hopeless_pods_do_not_slow_the_others() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1", cpu="8"))
    async with scheduling(api) as scheduler:
        for i in range(HOPELESS):
            await api.add(kinds.PODS, raw_pod(f"big-{i}", cpu="64", priority=100))
        await until(lambda: scheduler.statistics().parked == HOPELESS)
        begun = asyncio.get_running_loop().time()
        asked = sum(spent.calls for spent in scheduler.rule_times().values())
        await api.add(kinds.PODS, *(raw_pod(f"p{i}", cpu="100m") for i in range(50)))
        await until(lambda: all(api.node_of(f"p{i}") for i in range(50)))
        assert asyncio.get_running_loop().time() - begun < 1
        again = sum(spent.calls for spent in scheduler.rule_times().values()) - asked
        assert again < 50 * 60, "the hopeless ones were not asked about again, one by one"


async def test_a_large_pod_is_not_starved_by_small_ones_of_less_importance() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1", cpu="4"))
    async with scheduling(api):
        await api.add(kinds.PODS, *(raw_pod(f"s{i}", cpu="1") for i in range(4)))
        await until(lambda: all(api.node_of(f"s{i}") for i in range(4)))
        await api.add(kinds.PODS, raw_pod("large", cpu="3", priority=1, preemptionPolicy="Never"))
        await until(lambda: api.why("large"))
        for i in range(4, 40):
            await api.add(kinds.PODS, raw_pod(f"s{i}", cpu="1"))
            await api.delete(kinds.PODS, f"s{i - 4}", "default", grace_seconds=0)
            await asyncio.sleep(0.1)
            if api.node_of("large"):
                break
        await api.add(kinds.PODS, raw_pod("larger", cpu="4", priority=2))
        await until(lambda: api.events("Preempted"))


async def test_a_node_that_vanishes_after_the_decision_costs_its_pod_only_another_try() -> None:
    api = BindingApi()
    await api.add(kinds.NODES, raw_node("n1", cpu="1"))
    gone = False

    def refuses(_name: str, node: str) -> ApiError | None:
        nonlocal gone
        if node == "n1" and not gone:
            gone = True
            api.gone(kinds.NODES, api.objects[kinds.NODES]["", "n1"])
            return ServiceUnavailable("no such node")
        return None

    api.refuses = refuses
    async with scheduling(api):
        await api.add(kinds.PODS, raw_pod("web", cpu="1"))
        await until(lambda: gone)
        await api.add(kinds.NODES, raw_node("n2", cpu="1"))
        await until(lambda: api.node_of("web") == "n2")
