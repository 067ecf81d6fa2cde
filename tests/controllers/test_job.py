import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.objects import Object, Pod
from sampan.controllers import garbage_collector, job
from sampan.controllers.job_indexes import INDEX
from sampan.controllers.job_tally import FAILURES, TRACKING
from sampan.controllers.plan import CheckAgain, Create, Delete, Patch, RecordEvent
from sampan.controllers.views_batch import Job
from tests.controllers.cluster import running, until, world
from tests.controllers.jobs import a_job, a_pod, finish, raw_job, start_all
from tests.controllers.memory_api import EPOCH, MemoryApi

ONLY = (job.CONTROLLER, garbage_collector.CONTROLLER)


def plan(subject: Job, *objects: Any, **given: Any) -> list[Any]:
    return list(job.reconcile("default/work", world(subject, *objects, **given)))


def created(actions: Sequence[Any]) -> list[Object]:
    return [a.body for a in actions if isinstance(a, Create)]


def deleted(actions: Sequence[Any]) -> list[str]:
    return sorted(a.obj.metadata.name for a in actions if isinstance(a, Delete))


def released(actions: Sequence[Any]) -> list[str]:
    """Whose finalizer goes."""
    patches = [a for a in actions if isinstance(a, Patch) and isinstance(a.obj, Pod)]
    key = "$deleteFromPrimitiveList/finalizers"
    return sorted(a.obj.metadata.name for a in patches if key in a.patch["metadata"])


def status(actions: Sequence[Any]) -> Object:
    found = [a for a in actions if isinstance(a, Patch) and a.subresource == "status"]
    told: Object = found[0].patch["status"] if found else {}
    return told


def conditions(actions: Sequence[Any]) -> dict[str, str]:
    return {c["type"]: c["reason"] for c in status(actions).get("conditions", ())}


def test_pods_are_made_up_to_parallelism_and_tracked() -> None:
    actions = plan(a_job(parallelism=3, completions=5))
    assert len(created(actions)) == 3
    body = created(actions)[0]
    assert body["metadata"]["generateName"] == "work-"
    assert body["metadata"]["finalizers"] == [TRACKING]
    assert body["metadata"]["ownerReferences"][0]["uid"] == "job"
    told = status(actions)
    assert told["startTime"]
    assert told["uncountedTerminatedPods"] == {"succeeded": None, "failed": None}


@pytest.mark.parametrize(
    ("spec", "status_", "pods", "makes"),
    [
        ({"parallelism": 3, "completions": 5}, {"succeeded": 3}, "", 2),
        ({"parallelism": 3, "completions": 5}, {"succeeded": 3}, "a", 1),
        ({"parallelism": 3, "completions": 5}, {}, "aas", 1),
        ({"parallelism": 2}, {}, "a", 1),
        ({"parallelism": 2}, {"succeeded": 1}, "a", 0),
        ({"parallelism": 0, "completions": 1}, {}, "", 0),
        ({"parallelism": 2, "completions": 2, "podReplacementPolicy": "Failed"}, {}, "t", 1),
        ({"parallelism": 2, "completions": 2}, {}, "t", 2),
        ({"parallelism": 2, "completions": 2}, {}, "aas", 0),
    ],
)
def test_there_are_as_many_pods_as_there_is_work(
    spec: Object, status_: Object, pods: str, makes: int
) -> None:
    subject = a_job(status_, **spec)
    made = [a_pod(f"p{n}", letter) for n, letter in enumerate(pods)]
    assert len(created(plan(subject, *made))) == makes


def test_surplus_pods_go_uncounted() -> None:
    actions = plan(a_job(parallelism=1, completions=3), a_pod("a", "a"), a_pod("b", "a"))
    assert len(deleted(actions)) == 1
    assert released(actions) == deleted(actions)


def test_an_end_is_first_written_down_then_let_go_then_counted() -> None:
    spec: Object = {"parallelism": 1, "completions": 2}
    ended = a_pod("a", "s")
    first = plan(a_job(**spec), ended)
    assert status(first)["uncountedTerminatedPods"] == {"succeeded": ["a"], "failed": None}
    assert "succeeded" not in status(first)
    assert released(first) == []
    known = a_job({"uncountedTerminatedPods": {"succeeded": ["a"]}}, **spec)
    second = plan(known, ended)
    assert released(second) == ["a"]
    assert "succeeded" not in status(second)
    third = plan(known, a_pod("a", "s", tracked=False))
    assert status(third)["succeeded"] == 1
    assert status(third)["uncountedTerminatedPods"] == {"succeeded": None, "failed": None}


def test_a_status_is_written_only_over_the_one_it_was_made_from() -> None:
    (patch,) = [a for a in plan(a_job()) if isinstance(a, Patch)]
    assert patch.patch["metadata"] == {"resourceVersion": "1"}


def test_an_indexed_pod_knows_its_index() -> None:
    subject = a_job(completionMode="Indexed", completions=3, parallelism=2)
    bodies = created(plan(subject))
    assert [b["spec"]["hostname"] for b in bodies] == ["work-0", "work-1"]
    body = bodies[1]
    assert body["metadata"]["generateName"] == "work-1-"
    assert body["metadata"]["annotations"] == {INDEX: "1"}
    assert body["metadata"]["labels"][INDEX] == "1"
    assert body["spec"]["containers"][0]["env"] == [
        {
            "name": "JOB_COMPLETION_INDEX",
            "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}},
        }
    ]


def test_completed_indexes_are_not_made_again_and_doubles_go() -> None:
    subject = a_job(
        {"completedIndexes": "0", "succeeded": 1},
        completionMode="Indexed", completions=4, parallelism=3,
    )  # fmt: skip
    pods = [a_pod("one", "a", index=1), a_pod("three", "s", index=3)]
    actions = plan(subject, *pods)
    assert [b["metadata"]["annotations"][INDEX] for b in created(actions)] == ["2"]
    assert status(actions)["completedIndexes"] == "0,3"
    doubled = plan(subject, *pods, a_pod("again", "a", index=1, age=1))
    assert deleted(doubled) == ["again"]
    outside = plan(subject, *pods, a_pod("outside", "a", index=9))
    assert deleted(outside) == ["outside"]


def test_a_smaller_elastic_job_forgets_the_indexes_beyond_its_end() -> None:
    subject = a_job(
        {"completedIndexes": "0-3", "succeeded": 4, "startTime": EPOCH.isoformat()},
        completionMode="Indexed", completions=2, parallelism=2,
    )  # fmt: skip
    told = status(plan(subject))
    assert (told["completedIndexes"], told["succeeded"]) == ("0,1", 2)
    assert told["conditions"][0]["type"] == "SuccessCriteriaMet"


def test_tries_are_spaced_out_and_a_success_starts_over() -> None:
    spec: Object = {"parallelism": 1, "completions": 9}
    failed = [a_pod(f"f{n}", "f", ended=60 - n) for n in range(3)]
    actions = plan(a_job(**spec), *failed[:1])
    assert len(created(actions)) == 1, "ten seconds have passed"
    actions = plan(a_job(**spec), a_pod("f", "f", ended=4))
    assert created(actions) == []
    assert CheckAgain(6) in actions
    late = [a_pod(f"f{n}", "f", ended=15) for n in range(3)]
    assert CheckAgain(25) in plan(a_job(**spec), *late)
    assert len(created(plan(a_job(**spec), *late, a_pod("s", "s", ended=14)))) == 1


@pytest.mark.parametrize(("failures", "verdict"), [(2, {}), (3, "BackoffLimitExceeded")])
def test_too_many_failures_end_a_job(failures: int, verdict: object) -> None:
    pods = [a_pod(f"f{n}", "f", ended=900) for n in range(failures)]
    actions = plan(a_job(backoffLimit=2, parallelism=2, completions=2), *pods, a_pod("a", "a"))
    if not verdict:
        assert conditions(actions) == {}
        return
    assert conditions(actions) == {"FailureTarget": verdict}
    assert deleted(actions) == ["a"]
    assert created(actions) == []


def test_restarts_in_place_count_against_the_limit() -> None:
    subject = a_job(backoffLimit=2, template={"restartPolicy": "OnFailure"})
    assert conditions(plan(subject, a_pod("a", "a", restarts=1))) == {}
    actions = plan(subject, a_pod("a", "a", restarts=2))
    assert conditions(actions) == {"FailureTarget": "BackoffLimitExceeded"}


def test_a_deadline_ends_a_job() -> None:
    started = {"startTime": (EPOCH - timedelta(seconds=20)).isoformat()}
    soon = plan(a_job(started, activeDeadlineSeconds=30), a_pod("a", "a"))
    assert CheckAgain(10) in soon
    actions = plan(a_job(started, activeDeadlineSeconds=20), a_pod("a", "a"))
    assert conditions(actions) == {"FailureTarget": "DeadlineExceeded"}


EXIT_42 = {"operator": "In", "values": [42]}


@pytest.mark.parametrize(
    ("rule", "counted", "verdict"),
    [
        ({"action": "FailJob", "onExitCodes": EXIT_42}, ["p"], "PodFailurePolicy"),
        ({"action": "Ignore", "onExitCodes": EXIT_42}, None, None),
        ({"action": "Count", "onExitCodes": EXIT_42}, ["p"], None),
        ({"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [42]}}, ["p"], None),
        ({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}, None, None),
        (
            {"action": "FailJob", "onExitCodes": {**EXIT_42, "containerName": "other"}},
            ["p"],
            None,
        ),
    ],
)
def test_the_failure_policy_says_what_a_failure_means(
    rule: Object, counted: list[str] | None, verdict: str | None
) -> None:
    subject = a_job(podFailurePolicy={"rules": [rule]})
    actions = plan(subject, a_pod("p", "f", code=42, disrupted=True, ended=99))
    assert status(actions)["uncountedTerminatedPods"]["failed"] == counted
    assert released(actions) == ([] if counted else ["p"])
    assert conditions(actions).get("FailureTarget") == verdict
    if verdict:
        (told,) = status(actions)["conditions"]
        assert told["message"] == (
            "Container c for pod default/p failed with exit code 42 matching FailJob rule "
            "at index 0"
        )


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ({"succeededIndexes": "0,1"}, True),
        ({"succeededIndexes": "0,2"}, False),
        ({"succeededIndexes": "0,2", "succeededCount": 1}, True),
        ({"succeededCount": 2}, True),
        ({"succeededCount": 3}, False),
    ],
)
def test_the_success_policy_says_what_is_enough(rule: Object, *, met: bool) -> None:
    subject = a_job(
        {"completedIndexes": "0,1", "succeeded": 2}, completions=5, parallelism=5,
        completionMode="Indexed", successPolicy={"rules": [rule]},
    )  # fmt: skip
    actions = plan(subject, a_pod("a", "a", index=3))
    assert conditions(actions).get("SuccessCriteriaMet") == ("SuccessPolicy" if met else None)
    assert deleted(actions) == (["a"] if met else [])


PER_INDEX: Object = {"completionMode": "Indexed", "completions": 2, "parallelism": 2,
             "backoffLimitPerIndex": 1, "backoffLimit": 99}  # fmt: skip


def test_each_index_has_its_own_retries() -> None:
    subject = a_job(**PER_INDEX)
    first = a_pod("f", "f", index=0, failures=0, ended=11)
    actions = plan(subject, first, a_pod("b", "a", index=1))
    (body,) = created(actions)
    assert body["metadata"]["annotations"] == {INDEX: "0", FAILURES: "1"}
    assert status(actions)["uncountedTerminatedPods"]["failed"] is None, "it holds the count"
    early = a_pod("f", "f", index=0, failures=0, ended=4)
    assert CheckAgain(6) in plan(subject, early, a_pod("b", "a", index=1))
    replaced = plan(subject, first, a_pod("b", "a", index=1), a_pod("a", "a", index=0))
    assert status(replaced)["uncountedTerminatedPods"]["failed"] == ["f"]


def test_an_index_that_failed_too_often_is_lost_and_the_others_go_on() -> None:
    subject = a_job(**PER_INDEX)
    actions = plan(subject, a_pod("f", "f", index=0, failures=1), a_pod("b", "a", index=1))
    assert status(actions)["failedIndexes"] == "0"
    assert created(actions) == []
    assert conditions(actions) == {}
    settled = a_job({"failedIndexes": "0", "failed": 2}, **PER_INDEX)
    actions = plan(settled, a_pod("b", "s", index=1))
    assert conditions(actions) == {"FailureTarget": "FailedIndexes"}
    few = a_job({"failedIndexes": "0", "failed": 2}, **PER_INDEX, maxFailedIndexes=0)
    assert conditions(plan(few)) == {"FailureTarget": "MaxFailedIndexesExceeded"}


def test_the_end_is_declared_when_every_pod_is_counted() -> None:
    met = {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}
    begun = {"startTime": EPOCH.isoformat(), "ready": 0, "terminating": 0, "conditions": [met]}
    waiting = a_job({**begun, "uncountedTerminatedPods": {"succeeded": ["a"]}})
    assert conditions(plan(waiting, a_pod("a", "s"))) == {}
    actions = plan(waiting, a_pod("a", "s", tracked=False))
    assert conditions(actions) == {
        "SuccessCriteriaMet": "CompletionsReached",
        "Complete": "CompletionsReached",
    }
    assert status(actions)["completionTime"]
    (event,) = [a for a in actions if isinstance(a, RecordEvent)]
    assert (event.reason, event.message) == ("Completed", "Job completed")


def test_somebody_elses_job_is_left_alone() -> None:
    assert plan(a_job(managedBy="acme.io/queue")) == []


def test_a_suspended_job_gives_its_pods_up_and_a_resumed_one_starts_its_clock() -> None:
    actions = plan(a_job(suspend=True), a_pod("a", "a"))
    assert deleted(actions) == released(actions) == ["a"]
    assert conditions(actions) == {"Suspended": "JobSuspended"}
    assert "startTime" not in status(actions)
    was = {"type": "Suspended", "status": "True", "reason": "JobSuspended"}
    actions = plan(a_job({"conditions": [was]}))
    (told,) = status(actions)["conditions"]
    assert (told["status"], told["reason"]) == ("False", "JobResumed")
    assert status(actions)["startTime"]
    assert len(created(actions)) == 1
    still_stopping = a_pod("a", "t", tracked=False, age=1)
    assert len(created(plan(a_job({"conditions": [was]}), still_stopping))) == 1


async def test_a_job_runs_to_its_end_and_lets_its_pods_go() -> None:
    api = MemoryApi()
    async with running(api, ONLY, agents=False):
        await api.create(kinds.JOBS, raw_job(parallelism=2, completions=3))
        while not done(api, "Complete"):
            await start_all(api)
            for pod in api.of(kinds.PODS):
                if pod["status"]["phase"] == "Running":
                    await finish(api, pod, "Succeeded")
            await asyncio.sleep(1)
    state = api.of(kinds.JOBS)[0]["status"]
    assert [state.get(field, 0) for field in ("succeeded", "failed", "active")] == [3, 0, 0]
    assert len(api.of(kinds.PODS)) == 3
    assert not any(pod["metadata"].get("finalizers") for pod in api.of(kinds.PODS))


async def test_a_job_that_fails_stops_what_still_runs() -> None:
    api = MemoryApi()
    async with running(api, ONLY, agents=False):
        await api.create(kinds.JOBS, raw_job(parallelism=2, completions=2, backoffLimit=0))
        await until(lambda: len(api.of(kinds.PODS)) == 2)
        await start_all(api)
        await finish(api, api.of(kinds.PODS)[0], "Failed", code=1)
        await until(lambda: done(api, "FailureTarget"))
        stopping = [p for p in api.of(kinds.PODS) if p["metadata"].get("deletionTimestamp")]
        await until(lambda: len(api.of(kinds.PODS)) == 2)
        assert len(stopping) == 1
        assert not done(api, "Failed"), "one Pod still stops"
        api.gone(kinds.PODS, api.objects[kinds.PODS]["default", stopping[0]["metadata"]["name"]])
        await until(lambda: done(api, "Failed"))
    assert api.of(kinds.JOBS)[0]["status"]["failed"] == 2


async def test_a_deleted_job_holds_nobody() -> None:
    api = MemoryApi()
    async with running(api, ONLY, agents=False):
        await api.create(kinds.JOBS, raw_job(parallelism=2, completions=2))
        await until(lambda: len(api.of(kinds.PODS)) == 2)
        await start_all(api)
        await api.delete(kinds.JOBS, "work", "default")
        await until(lambda: all(p["metadata"].get("deletionTimestamp") for p in pods(api)))
        await until(lambda: not any(p["metadata"].get("finalizers") for p in pods(api)))
        for pod in pods(api):
            api.gone(kinds.PODS, pod)
    assert pods(api) == []


def pods(api: MemoryApi) -> list[Object]:
    return api.of(kinds.PODS)


def done(api: MemoryApi, type_: str) -> bool:
    state = api.of(kinds.JOBS)[0].get("status") or {}
    return any(c["type"] == type_ for c in state.get("conditions") or ())
