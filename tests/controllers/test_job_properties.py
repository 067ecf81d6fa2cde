"""A Job counts each of its Pods once, whatever is late, refused or interrupted."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import kinds
from sampan.api.errors import ApiError, InternalError
from sampan.api.objects import Object
from sampan.controllers import job, job_indexes
from sampan.controllers.job_tally import TRACKING
from tests.controllers.cluster import running
from tests.controllers.jobs import finish, raw_job, start_all
from tests.controllers.memory_api import MemoryApi


@given(st.sets(st.integers(0, 60)))
def test_indexes_read_as_they_were_written(indexes: set[int]) -> None:
    assert job_indexes.parse(job_indexes.written(indexes), 61) == indexes


def test_indexes_are_written_as_kubernetes_writes_them() -> None:
    assert job_indexes.written([0, 1, 2, 4, 6, 7, 9]) == "0-2,4,6,7,9"
    assert job_indexes.parse("0-2,4,6,7,9", 7) == {0, 1, 2, 4, 6}


class Life:
    """Pods that end by chance, seen from outside: every end is noted once."""

    def __init__(self, api: MemoryApi, seed: int) -> None:
        self.api = api
        self.chance = random.Random(seed)  # noqa: S311 - chance, not secrets
        self.ended: dict[str, str] = {}

    async def go_on(self) -> None:
        await start_all(self.api)
        for pod in self.api.of(kinds.PODS):
            if pod["metadata"].get("deletionTimestamp"):
                self.api.gone(kinds.PODS, pod)
            elif pod["status"]["phase"] == "Running" and self.chance.random() < 0.5:
                phase = self.chance.choice(["Succeeded", "Succeeded", "Failed"])
                await finish(self.api, pod, phase, code=phase == "Failed")
                self.ended[pod["metadata"]["uid"]] = phase

    def refuse(self, _verb: str, _kind: kinds.Kind) -> ApiError | None:
        return InternalError("no luck") if self.chance.random() < 0.2 else None

    @property
    def state(self) -> Object:
        found: Object = self.api.of(kinds.JOBS)[0].get("status") or {}
        return found


INDEXED: Object = {"completionMode": "Indexed"}


@pytest.mark.parametrize("more", [{}, INDEXED, {**INDEXED, "backoffLimitPerIndex": 5}])
@pytest.mark.parametrize("seed", range(6))
async def test_a_job_never_counts_a_pod_twice(seed: int, more: Object) -> None:
    api = MemoryApi(lag=0.03)
    life = Life(api, seed)
    raw = raw_job(parallelism=4, completions=9, backoffLimit=99, **more)
    await api.create(kinds.JOBS, raw)
    for _ in range(400):
        await interrupted(life)
        if any(c["type"] == "Complete" for c in life.state.get("conditions", ())):
            break
    ends = list(life.ended.values())
    assert life.state["succeeded"] == 9
    assert life.state.get("failed", 0) == ends.count("Failed")
    if not more:
        assert ends.count("Succeeded") == 9
    assert life.state["uncountedTerminatedPods"] == {}
    assert not any(TRACKING in p["metadata"].get("finalizers", ()) for p in api.of(kinds.PODS))


async def interrupted(life: Life) -> None:
    """Run the controller for a while, with writes that fail, and then end it in the middle."""
    async with running(life.api, (job.CONTROLLER,), agents=False):
        for _ in range(life.chance.randint(1, 4)):
            life.api.fault = life.refuse
            await asyncio.sleep(life.chance.random() * 20)
            life.api.fault = lambda _verb, _kind: None
            await life.go_on()
        life.api.fault = life.refuse
        await asyncio.sleep(life.chance.random() * 0.2)
    life.api.fault = lambda _verb, _kind: None
