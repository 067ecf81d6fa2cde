"""PodDisruptionBudgets: how many Pods may go, from numbers and percentages."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.objects import Object, Pod, condition
from sampan.api.time import timestamp
from sampan.controllers.disruption import needed, reconcile, resolve
from sampan.controllers.plan import Patch, World
from sampan.controllers.roster import controllers
from sampan.controllers.views_policy import BUDGETS, Budget
from tests.controllers.cluster import add_node, beat, labelled, running, until, world
from tests.controllers.memory_api import EPOCH, MemoryApi

EVERYONE = controllers("CA")


def budget(name: str = "web", **spec: Any) -> Object:
    meta = {"name": name, "namespace": "default"}
    spec = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta,
        "spec": spec,
    }


def bare(name: str, *, ready: bool = True) -> Pod:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    meta = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    return Pod.of({"metadata": meta, "status": {"phase": "Running", "conditions": conditions}})


def status_of(raw: Object, *pods: Pod, **more: Any) -> dict[str, Any]:
    """The status that a plan writes for a budget."""
    [patch] = [a for a in reconcile(Budget.of(raw), seen(*pods, **more)) if isinstance(a, Patch)]
    return dict(patch.patch["status"])


def seen(*pods: Pod, **more: Any) -> World:
    return world(*pods, **more)


@pytest.mark.parametrize(
    ("spec", "numbers"),
    [
        ({"minAvailable": 2}, (3, 2, 1)),
        ({"minAvailable": "50%"}, (3, 2, 1)),
        ({"minAvailable": "100%"}, (3, 3, 0)),
        ({"maxUnavailable": 1}, (3, 2, 1)),
        ({"maxUnavailable": "34%"}, (3, 1, 2)),
        ({"maxUnavailable": 0}, (3, 3, 0)),
        ({"minAvailable": 9}, (3, 9, 0)),
    ],
)
async def test_numbers_and_percentages_are_of_what_the_owner_asks_for(
    spec: Object, numbers: tuple[int, int, int]
) -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=3))
    await api.create(BUDGETS, budget(**spec))

    def told() -> bool:
        [held] = api.of(BUDGETS)
        got = held.get("status") or {}
        expected, desired, allowed = numbers
        return got.get("currentHealthy") == 3 and (
            got["expectedPods"], got["desiredHealthy"], got["disruptionsAllowed"]
        ) == (expected, desired, allowed)  # fmt: skip

    async with running(api, EVERYONE, beat(api, {"n1"})):
        await until(told)
    [held] = api.of(BUDGETS)
    [verdict] = held["status"]["conditions"]
    allowed = numbers[2] > 0
    assert verdict["status"] == ("True" if allowed else "False")
    assert verdict["reason"] == ("SufficientPods" if allowed else "InsufficientPods")
    assert held["status"]["observedGeneration"] == held["metadata"]["generation"]


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_percentage_is_rounded_up_and_never_beyond_the_whole(total: int, share: int) -> None:
    amount = resolve(f"{share}%", total)
    assert share * total <= amount * 100 < share * total + 100
    assert 0 <= amount <= total


@given(st.lists(st.booleans(), max_size=8), st.integers(0, 9))
def test_never_more_go_than_leave_enough_healthy(health: list[bool], least: int) -> None:
    pods = [bare(f"p{i}", ready=ready) for i, ready in enumerate(health)]
    status = status_of(budget(minAvailable=least), *pods)
    healthy = sum(health)
    assert status["currentHealthy"] == healthy
    assert healthy - status["disruptionsAllowed"] >= min(least, healthy)
    assert status["disruptionsAllowed"] == max(healthy - least, 0)


def test_an_evicted_pod_counts_as_gone_until_two_minutes_have_passed() -> None:
    pods = [bare("a"), bare("b"), bare("c")]
    raw = budget(minAvailable=1)
    raw["status"] = {"disruptedPods": {"a": timestamp(EPOCH), "long-gone": timestamp(EPOCH)}}
    soon = status_of(raw, *pods, now=EPOCH + timedelta(seconds=90))
    assert (soon["currentHealthy"], soon["disruptionsAllowed"]) == (2, 1)
    assert soon["disruptedPods"]["long-gone"] is None
    assert soon["disruptedPods"]["a"] == "2026-01-01T00:00:00Z"
    later = status_of(raw, *pods, now=EPOCH + timedelta(seconds=121))
    assert (later["currentHealthy"], later["disruptedPods"]["a"]) == (3, None)


def test_a_percentage_of_pods_whose_owner_has_no_scale_fails_and_says_so() -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": True}
    raw = {"metadata": {"name": "a", "namespace": "default", "uid": "a", "labels": {"app": "web"},
                        "ownerReferences": [owner]}}  # fmt: skip
    status = status_of(budget(maxUnavailable=1), Pod.of(raw))
    assert status["disruptionsAllowed"] == 0
    [verdict] = status["conditions"]
    assert verdict["reason"] == "SyncFailed"
    assert "scale subresource" in verdict["message"]


def test_pods_without_an_owner_count_only_for_a_plain_minimum() -> None:
    pods = [bare("a"), bare("b")]
    by_number = needed(Budget.of(budget(minAvailable=1)), pods, seen(*pods).objects)
    by_share = needed(Budget.of(budget(minAvailable="50%")), pods, seen(*pods).objects)
    assert (by_number.expected, by_share.expected) == (2, 0)


async def test_pods_of_a_silent_node_are_not_healthy_and_an_eviction_wins_over_a_report() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=2))
    await api.create(BUDGETS, budget(minAvailable=1))
    alive = {"n1"}
    async with running(api, EVERYONE, beat(api, alive)):
        await until(lambda: _allowed(api) == 1)
        status = {"disruptionsAllowed": 0, "disruptedPods": {"absent": timestamp(api.now())}}
        await api.patch(BUDGETS, "web", {"status": status}, "default")
        await until(
            lambda: _allowed(api) == 1 and not api.of(BUDGETS)[0]["status"]["disruptedPods"]
        )
        alive.clear()
        await until(lambda: _allowed(api) == 0, within=10)


def _allowed(api: MemoryApi) -> int | None:
    [held] = api.of(BUDGETS)
    allowed: int | None = (held.get("status") or {}).get("disruptionsAllowed")
    return allowed


async def test_a_satisfied_budget_is_written_once() -> None:
    api = MemoryApi()
    await add_node(api, "n1")
    await api.create(kinds.DEPLOYMENTS, labelled("Deployment", "web", replicas=2))
    await api.create(BUDGETS, budget(maxUnavailable="50%"))
    async with running(api, EVERYONE, beat(api, {"n1"})):
        await until(lambda: _allowed(api) == 1)
        await asyncio.sleep(5)
        before = len(api.log)
        await asyncio.sleep(600)
    assert BUDGETS not in {kind for _, kind, _ in api.log[before:]}
    view = Budget.of(api.of(BUDGETS)[0])
    verdict = condition(view.status.conditions, "DisruptionAllowed")
    assert verdict
    assert verdict.observed_generation == 1
