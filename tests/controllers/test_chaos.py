"""Whatever befalls the control plane, what it promised about running Pods holds."""

import asyncio
import itertools
import random
from contextlib import suppress

import pytest

from sampan.api import kinds
from sampan.api.errors import ApiError, Conflict, InternalError, ServiceUnavailable
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.controllers import deployment, garbage_collector, replicaset
from tests.controllers.cluster import is_ready, labelled, play_agents, running, until
from tests.controllers.memory_api import MemoryApi

WHICH = (deployment.CONTROLLER, replicaset.CONTROLLER, garbage_collector.CONTROLLER)
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}}
REPLICAS = 8


class Luckless:
    """Refuses writes of the control plane at random, and only those."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a repeatable bad day
        self.on = False

    def __call__(self, verb: str, kind: Kind) -> ApiError | None:
        ours = kind != kinds.PODS or verb != "patch"
        if not self.on or not ours or self.random.random() > 0.2:
            return None
        return self.random.choice([InternalError("no luck"), Conflict("somebody was faster")])


def done(api: MemoryApi, image: str) -> bool:
    status = api.objects[kinds.DEPLOYMENTS]["default", "web"].get("status") or {}
    pods = api.of(kinds.PODS)
    images = {pod["spec"]["containers"][0]["image"] for pod in pods}
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return all(status.get(c) == REPLICAS for c in counts) and images == {image}


@pytest.mark.parametrize("seed", range(8))
async def test_restarts_and_refusals_in_a_rollout_never_break_its_bounds(seed: int) -> None:
    api = MemoryApi(lag=0.02)
    luck = Luckless(seed)
    api.fault = luck
    body = labelled("Deployment", "web", replicas=REPLICAS, strategy=ROLLING)
    await api.create(kinds.DEPLOYMENTS, body)
    async with running(api, WHICH):
        await until(lambda: done(api, "v1"))

    def bounded() -> bool:
        live = [p for p in api.of(kinds.PODS) if not p["metadata"].get("deletionTimestamp")]
        assert len(live) <= REPLICAS + 2
        assert sum(map(is_ready, live)) >= REPLICAS - 1
        return done(api, "v3")

    async with asyncio.TaskGroup() as group:
        agents = group.create_task(play_agents(api))
        luck.on = True
        for image in ("v2", "v3"):
            change = {"containers": [{"name": "c", "image": image}]}
            luck.on = False
            await api.patch(
                kinds.DEPLOYMENTS, "web", {"spec": {"template": {"spec": change}}}, "default"
            )
            luck.on = True
            for _ in range(4):
                lifetime = luck.random.uniform(0.05, 0.4)
                async with running(api, WHICH, agents=False):
                    end = asyncio.get_running_loop().time() + lifetime
                    await until(lambda end=end: bounded() or passed(end))  # type: ignore[misc]
        luck.on = False
        async with running(api, WHICH, agents=False):
            await until(bounded)
        agents.cancel()
    assert len(api.of(kinds.PODS)) == REPLICAS


class Forgetful(MemoryApi):
    """Carries out every write, and then loses every third answer to the control plane."""

    def __init__(self) -> None:
        super().__init__(lag=0.02)
        self.forgets = False
        self.answers = itertools.count()

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        made = await super().create(kind, obj, subresource=subresource)
        if self.forgets and kind != kinds.EVENTS and next(self.answers) % 3 == 0:
            raise ServiceUnavailable("the connection broke")
        return made


async def test_answers_that_are_lost_leave_nothing_too_many_in_the_end() -> None:
    api = Forgetful()
    api.forgets = True
    body = labelled("Deployment", "web", replicas=REPLICAS, strategy=ROLLING)
    with suppress(ServiceUnavailable):
        await api.create(kinds.DEPLOYMENTS, body)
    async with running(api, WHICH):
        await until(lambda: done(api, "v1"))
        change = {"containers": [{"name": "c", "image": "v2"}]}
        await api.patch(
            kinds.DEPLOYMENTS, "web", {"spec": {"template": {"spec": change}}}, "default"
        )
        await until(lambda: done(api, "v2"))
        await asyncio.sleep(10)
    assert len(api.of(kinds.PODS)) == REPLICAS
    assert len(api.of(kinds.REPLICA_SETS)) == 2


def passed(end: float) -> bool:
    return asyncio.get_running_loop().time() >= end
