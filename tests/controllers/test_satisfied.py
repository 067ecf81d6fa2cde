"""What every controller inherits: on a satisfied cluster it plans nothing, and writes nothing."""

import asyncio
import itertools
from pathlib import Path

import pytest

from sampan.api import kinds
from sampan.api.errors import InternalError
from sampan.client.cache import Cache, Delta
from sampan.controllers import garbage_collector
from sampan.controllers.certificates import SigningRequest
from sampan.controllers.plan import CheckAgain, Controller, DeleteAll, World
from sampan.controllers.roster import controllers
from sampan.controllers.views_policy import BUDGETS
from sampan.controllers.views_scaling import AUTOSCALERS
from tests.controllers.cluster import (
    add_node,
    beat,
    labelled,
    namespace,
    replication_controller,
    running,
    service,
    until,
)
from tests.controllers.jobs import raw_cron, raw_job
from tests.controllers.memory_api import MemoryApi

EVERYONE = controllers("CA PEM")


PODS = 3 + 2 + 2 + 3 + 2
CLAIM = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
SCRATCH = {"name": "x", "ephemeral": {"volumeClaimTemplate": {"spec": CLAIM["spec"]}}}
VOLUME = {
    "metadata": {"name": "v"},
    "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
}
STATEFUL = {"replicas": 2, "podManagementPolicy": "Parallel", "volumeClaimTemplates": [CLAIM]}


async def a_cluster(api: MemoryApi) -> None:
    for name in ("default", "kube-node-lease", "other"):
        await api.create(kinds.NAMESPACES, namespace(name))
    for name in ("n1", "n2", "n3"):
        await add_node(api, name)
    await api.patch(kinds.NODES, "n3", {"spec": {"unschedulable": True}})
    web = labelled("Deployment", "web", replicas=3)
    web["metadata"]["annotations"] = {"sampan.io/on-change": "restart"}
    await api.create(kinds.DEPLOYMENTS, web)
    await api.create(kinds.REPLICATION_CONTROLLERS, replication_controller("old", 2))
    await api.create(kinds.STATEFUL_SETS, labelled("StatefulSet", "db", **STATEFUL))
    log = labelled("DaemonSet", "log")
    log["spec"]["template"]["spec"]["volumes"] = [SCRATCH]
    await api.create(kinds.DAEMON_SETS, log)
    await api.create(kinds.PERSISTENT_VOLUMES, VOLUME)
    await api.create(kinds.JOBS, raw_job(parallelism=2, completions=5))
    await api.create(kinds.CRON_JOBS, raw_cron(schedule="0 0 1 7 *"))
    await api.create(kinds.SERVICES, service("web", type="LoadBalancer"))
    await api.create(kinds.SERVICES, service("nobody"))
    await api.create(kinds.SERVICES, service("kubernetes", selector={}))
    selector = {"matchLabels": {"app": "web"}}
    spec = {"maxUnavailable": "50%", "selector": selector}
    meta = {"name": "web", "namespace": "default"}
    await api.create(BUDGETS, {"metadata": meta, "spec": spec})
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaling = {"metadata": meta, "spec": {"scaleTargetRef": target, "maxReplicas": 5}}
    await api.create(AUTOSCALERS, scaling)
    asking = {"request": "", "signerName": "example.com/other", "usages": []}
    await api.create(SigningRequest.KIND, {"metadata": {"name": "r"}, "spec": asking})
    selectors = {"clusterRoleSelectors": [{"matchLabels": {"to": "all"}}]}
    everything = {"metadata": {"name": "all"}, "aggregationRule": selectors}
    await api.create(kinds.CLUSTER_ROLES, everything)


def keys(controller: Controller, cache: Cache) -> set[str]:
    """Every key that any object as it is now would wake."""
    return {
        key
        for view, trigger in controller.triggers.items()
        for obj in cache.all(view)
        for delta in (Delta(view, None, obj), Delta(view, obj, None))
        for key in trigger(delta, cache)
    }


@pytest.mark.parametrize("controller", EVERYONE, ids=lambda c: c.name)
async def test_on_a_satisfied_cluster_it_plans_nothing(controller: Controller) -> None:
    api = MemoryApi()
    await a_cluster(api)
    alive = {"n1", "n2", "n3"}
    async with running(api, EVERYONE, beat(api, alive)) as cache:
        await until(lambda: len(api.of(kinds.PODS)) == PODS)
        await asyncio.sleep(30)
        woken = keys(controller, cache)
        assert woken or controller is garbage_collector.CONTROLLER
        clock = asyncio.get_running_loop().time()
        world = World(cache, api.now(), clock, dict.fromkeys(alive, clock))
        planned = {key: list(controller.reconcile(key, world)) for key in woken}
    quiet = CheckAgain | DeleteAll
    actions = [(key, action) for key, plan in planned.items() for action in plan]
    assert [entry for entry in actions if not isinstance(entry[1], quiet)] == []


async def test_a_satisfied_cluster_is_written_to_by_heartbeats_only() -> None:
    api = MemoryApi()
    await a_cluster(api)
    async with running(api, EVERYONE, beat(api, {"n1", "n2", "n3"})):
        await until(lambda: len(api.of(kinds.PODS)) == PODS)
        await asyncio.sleep(30)
        before = len(api.log)
        await asyncio.sleep(3700)
    assert {kind for _, kind, _ in api.log[before:]} == {kinds.LEASES}


COUNTED = (
    kinds.PODS, kinds.REPLICA_SETS, kinds.ENDPOINT_SLICES, kinds.ENDPOINTS,
    kinds.SERVICE_ACCOUNTS, kinds.CONFIGMAPS, kinds.CONTROLLER_REVISIONS,
    kinds.PERSISTENT_VOLUME_CLAIMS,
)  # fmt: skip


async def shape(api: MemoryApi) -> dict[str, int]:
    """How many objects of each kind there are once all is quiet."""
    async with running(api, EVERYONE, agents=False):
        await asyncio.sleep(14)
    return {kind.kind: len(api.of(kind)) for kind in COUNTED}


async def test_failing_writes_and_late_watches_change_nothing_about_where_it_ends() -> None:
    well, ill = MemoryApi(), MemoryApi(lag=0.05)
    await a_cluster(well)
    await a_cluster(ill)
    attempts = itertools.count()

    def every_fourth(_verb: str, _kind: kinds.Kind) -> InternalError | None:
        return InternalError("no luck") if next(attempts) % 4 == 0 else None

    ill.fault = every_fourth
    assert await shape(ill) == await shape(well)
    created = [name for event, kind, name in ill.log if (event, kind) == ("ADDED", kinds.PODS)]
    assert len(created) == PODS


def test_every_controller_is_in_the_design_note() -> None:
    note = Path("docs/design/controllers.md").read_text()
    rows = {name for line in note.splitlines() if line.startswith("| ") for name in cells(line)}
    assert {controller.name.removesuffix("-controller") for controller in EVERYONE} <= rows


def cells(row: str) -> list[str]:
    return [name.strip() for name in row.split("|")[1].split(",")]
