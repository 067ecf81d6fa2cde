from datetime import timedelta
from typing import Any

import pytest

from sampan.api.objects import Node, Pod, Taint
from sampan.controllers import taint_eviction
from sampan.controllers.plan import CheckAgain, Delete
from tests.controllers.cluster import world
from tests.controllers.memory_api import EPOCH

GPU = {"key": "gpu", "value": "no", "effect": "NoExecute", "timeAdded": EPOCH.isoformat()}


def plan(
    *tolerations: dict[str, Any],
    after: int = 0,
    taint: dict[str, Any] | None = None,
    failover: str = "",
) -> Any:
    raw = taint or GPU
    node = Node.of({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": {"taints": [raw]}})
    pod = Pod.of(
        {
            "metadata": {
                "name": "p",
                "namespace": "d",
                "uid": "u",
                "resourceVersion": "1",
                "annotations": {"sampan.io/failover": failover},
            },
            "spec": {"nodeName": "n", "tolerations": list(tolerations)},
        }
    )
    now = EPOCH + timedelta(seconds=after)
    return list(taint_eviction.reconcile(node, world(node, pod, now=now)))


def test_a_pod_that_tolerates_nothing_goes_at_once() -> None:
    (delete,) = plan()
    assert isinstance(delete, Delete)
    assert delete.done
    assert delete.done.message == "Marking for deletion Pod d/p"


def test_a_pod_that_tolerates_the_taint_stays_for_ever() -> None:
    assert plan({"key": "gpu", "operator": "Exists"}) == []


def test_a_pod_with_a_limit_goes_when_it_is_over() -> None:
    limited = {"key": "gpu", "operator": "Exists", "tolerationSeconds": 30}
    assert plan(limited, after=10) == [CheckAgain(20)]
    assert isinstance(plan(limited, after=30)[0], Delete)


def test_a_node_that_says_it_is_not_ready_keeps_its_pods_for_five_minutes() -> None:
    unready = {**GPU, "key": "node.kubernetes.io/not-ready", "value": ""}
    assert plan(taint=unready, after=100) == [CheckAgain(200)]


def test_no_schedule_evicts_nobody() -> None:
    assert plan(taint={**GPU, "effect": "NoSchedule"}) == []


@pytest.mark.parametrize(
    ("seconds", "left"), [([], None), ([5], 5), ([5, 60], 5), ([None, 60], 60), ([None], None)]
)
def test_of_several_tolerations_the_shortest_limit_counts(
    seconds: list[int | None], left: int | None
) -> None:
    tolerations = [
        {"key": "gpu", "operator": "Exists", **({"tolerationSeconds": s} if s else {})}
        for s in seconds
    ]
    pod = Pod.of({"metadata": {"name": "p"}, "spec": {"tolerations": tolerations}})
    taint = Taint("gpu", "no", "NoExecute", time_added=EPOCH)
    expected = left if tolerations else 0
    assert taint_eviction.evicted_in(pod, [taint], EPOCH) == expected


@pytest.mark.parametrize(
    ("failover", "unreachable", "unready"),
    [("", 0, 300), ("fast", 0, 30), ("normal", 300, 300), ("never", None, None), ("odd", 0, 300)],
)
def test_how_soon_a_pod_is_replaced_is_its_own_choice(
    failover: str, unreachable: int | None, unready: int | None
) -> None:
    for name, seconds in (("unreachable", unreachable), ("not-ready", unready)):
        lost = {**GPU, "key": f"node.kubernetes.io/{name}", "value": ""}
        if seconds is None:
            assert plan(taint=lost, failover=failover, after=10**6) == []
            continue
        assert isinstance(plan(taint=lost, failover=failover, after=seconds)[0], Delete)
        if seconds:
            assert plan(taint=lost, failover=failover, after=seconds - 1) == [CheckAgain(1)]
