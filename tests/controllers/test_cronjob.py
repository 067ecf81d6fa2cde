import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.controllers import cronjob, job_ttl
from sampan.controllers.plan import CheckAgain, Create, Delete, Patch, RecordEvent
from sampan.controllers.views_batch import CronJob, Job
from tests.controllers.cluster import running, until, world
from tests.controllers.jobs import raw_cron
from tests.controllers.memory_api import EPOCH, MemoryApi

ONLY = (cronjob.CONTROLLER,)


def a_cron(created: int = 90, status: Object | None = None, **spec: Any) -> CronJob:
    return CronJob.of(raw_cron(created, status, **spec))


def a_job(name: str, minutes: int = 60, end: str = "", **meta: Any) -> Job:
    """A run that was due so many minutes before the epoch; *end* is Complete or Failed."""
    at = timestamp(EPOCH - timedelta(minutes=minutes))
    owner = {"kind": "CronJob", "name": "tick", "uid": "cron", "controller": True}
    raw: Object = {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "creationTimestamp": at,
            "annotations": {cronjob.DUE: at},
            "ownerReferences": [owner],
            **meta,
        },
        "status": {"startTime": at},
    }
    if end:
        raw["status"]["conditions"] = [{"type": end, "status": "True", "lastTransitionTime": at}]
    if end == "Complete":
        raw["status"]["completionTime"] = at
    return Job.of(raw)


def plan(cron: CronJob, *objects: Any, **given: Any) -> list[Any]:
    return list(cronjob.reconcile(cron, world(cron, *objects, **given)))


def created(actions: Sequence[Any]) -> list[Object]:
    return [a.body for a in actions if isinstance(a, Create)]


def deleted(actions: Sequence[Any]) -> list[str]:
    return sorted(a.obj.metadata.name for a in actions if isinstance(a, Delete))


def events(actions: Sequence[Any]) -> list[str]:
    return [a.reason for a in actions if isinstance(a, RecordEvent)]


def status(actions: Sequence[Any]) -> Object:
    found = [a.patch["status"] for a in actions if isinstance(a, Patch)]
    told: Object = found[0] if found else {}
    return told


def test_a_run_is_named_by_the_minute_it_was_due() -> None:
    actions = plan(a_cron(timeZone="Europe/Berlin"))
    (body,) = created(actions)
    assert body["metadata"] == {
        "name": f"tick-{int(EPOCH.timestamp()) // 60}",
        "namespace": "default",
        "labels": {"a": "b"},
        "annotations": {"c": "d", cronjob.DUE: "2026-01-01T01:00:00+01:00"},
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "name": "tick",
                "uid": "cron",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "v1"
    assert CheckAgain(3600.1) in actions


def test_before_its_time_it_only_waits() -> None:
    assert plan(a_cron(), now=EPOCH - timedelta(seconds=20)) == [CheckAgain(20.1)]


def test_a_run_that_was_made_is_not_made_again() -> None:
    actions = plan(a_cron(), a_job("tick-1", minutes=0))
    assert created(actions) == []
    told = status(actions)
    assert told["lastScheduleTime"] == "2026-01-01T00:00:00Z"
    assert told["active"] == [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": "tick-1",
            "namespace": "default",
            "uid": "tick-1",
        }
    ]


def test_of_many_missed_runs_the_last_is_made_up_for() -> None:
    (body,) = created(plan(a_cron(created=9000)))
    assert body["metadata"]["annotations"][cronjob.DUE] == "2026-01-01T00:00:00Z"
    assert events(plan(a_cron(created=101 * 3600 + 1))) == ["TooManyMissedTimes"]


@pytest.mark.parametrize(("late", "made"), [(50, 1), (70, 0)])
def test_a_run_that_is_too_late_is_left_out(late: int, made: int) -> None:
    cron = a_cron(startingDeadlineSeconds=60)
    assert len(created(plan(cron, now=EPOCH + timedelta(seconds=late)))) == made


@pytest.mark.parametrize(
    ("policy", "made", "stopped", "told"),
    [
        ("Allow", 1, [], []),
        ("Forbid", 0, [], ["JobAlreadyActive"]),
        ("Replace", 1, ["tick-1"], []),
    ],
)
def test_overlap_is_what_the_policy_says(
    policy: str, made: int, stopped: list[str], told: list[str]
) -> None:
    actions = plan(a_cron(concurrencyPolicy=policy), a_job("tick-1"))
    assert (len(created(actions)), deleted(actions), events(actions)) == (made, stopped, told)


def test_a_job_made_by_hand_is_no_run() -> None:
    by_hand = a_job("mine", annotations={"cronjob.kubernetes.io/instantiate": "manual"})
    actions = plan(a_cron(concurrencyPolicy="Forbid"), by_hand)
    assert len(created(actions)) == 1
    assert status(actions) == {}


def test_an_ended_run_leaves_the_list_and_is_told_of() -> None:
    refs = [{"name": name, "uid": name} for name in ("tick-1", "gone")]
    cron = a_cron(status={"active": refs}, suspend=True)
    actions = plan(cron, a_job("tick-1", end="Complete"))
    assert events(actions) == ["SawCompletedJob", "MissingJob"]
    told = status(actions)
    assert told["active"] is None
    assert told["lastSuccessfulTime"] == "2025-12-31T23:00:00Z"


def test_history_is_kept_up_to_its_limits() -> None:
    good = [a_job(f"good-{n}", minutes=100 - n, end="Complete") for n in range(4)]
    bad = [a_job(f"bad-{n}", minutes=100 - n, end="Failed") for n in range(3)]
    limits: Object = {"successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}
    actions = plan(a_cron(suspend=True, **limits), *good, *bad)
    assert deleted(actions) == ["bad-0", "bad-1", "good-0"]


def test_a_suspended_one_starts_nothing() -> None:
    assert plan(a_cron(suspend=True)) == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"schedule": "never"}, "UnparseableSchedule"), ({"timeZone": "Moon"}, "UnknownTimeZone")],
)
def test_what_cannot_be_read_is_told_of(spec: Object, reason: str) -> None:
    assert events(plan(a_cron(**spec))) == [reason]


async def test_every_minute_makes_one_job_also_over_restarts_and_refusals() -> None:
    api = MemoryApi(lag=0.05)
    await api.create(kinds.CRON_JOBS, raw_cron(schedule="* * * * *"))
    for pause in (100, 35, 70, 200):
        async with running(api, ONLY, agents=False):
            await asyncio.sleep(pause)
        await asyncio.sleep(7)
    dues = [job["metadata"]["annotations"][cronjob.DUE] for job in api.of(kinds.JOBS)]
    assert dues == [timestamp(EPOCH + timedelta(minutes=n + 1)) for n in range(7)]
    state = api.of(kinds.CRON_JOBS)[0]["status"]
    assert state["lastScheduleTime"] == dues[-1]
    assert len(state["active"]) == 7


async def test_a_job_goes_when_its_time_is_up() -> None:
    api = MemoryApi()
    ended = {"type": "Complete", "status": "True", "lastTransitionTime": timestamp(EPOCH)}
    for name, ttl in (("short", 30), ("long", None)):
        spec = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
        meta = {"name": name, "namespace": "default"}
        await api.create(
            kinds.JOBS, {"metadata": meta, "spec": spec, "status": {"conditions": [ended]}}
        )
    async with running(api, (job_ttl.CONTROLLER,), agents=False):
        await asyncio.sleep(29)
        assert not any(job["metadata"].get("deletionTimestamp") for job in api.of(kinds.JOBS))
        await until(lambda: len(going(api)) == 1)
        assert going(api) == ["short"]


def going(api: MemoryApi) -> list[str]:
    jobs = (job["metadata"] for job in api.of(kinds.JOBS))
    return [meta["name"] for meta in jobs if meta.get("deletionTimestamp")]
