"""What is done next about a Pod."""

from datetime import timedelta

import pytest

from sampan.agent.memory import ContainerMemory, count_end, recall, restart_pause
from sampan.agent.plan import (
    CheckAgain,
    CreateAndStart,
    Forget,
    LetGo,
    PrepareVolumes,
    PullImage,
    Remove,
    RemoveSandbox,
    RunSandbox,
    Stop,
    StopSandbox,
    outcome,
    plan,
)
from sampan.agent.runtime import State
from tests.agent.situations import NOW, ago, ended, make_pod, running, sandbox, situation

AT_HAND = {"main": ContainerMemory(image="app", image_for=0)}
DELETED = {"deletionTimestamp": NOW.isoformat(), "deletionGracePeriodSeconds": 7}


def test_volumes_come_first_then_the_sandbox_then_the_image_then_the_container() -> None:
    fresh = situation(sandboxes=(), remembered={"prepared": False})
    assert plan(fresh) == (PrepareVolumes(),)
    assert plan(situation(sandboxes=())) == (RunSandbox(0),)
    assert plan(situation()) == (PullImage("main", 0),)
    assert plan(situation(memory=AT_HAND)) == (CreateAndStart("main", 0),)


def test_a_pod_that_is_as_it_should_be_needs_nothing() -> None:
    assert plan(situation(make_pod(), running())) == ()


def test_nothing_more_is_asked_for_while_an_image_is_being_pulled() -> None:
    assert plan(situation(memory={"main": ContainerMemory(pulling=True)})) == ()


def test_an_image_that_could_not_be_pulled_is_tried_again_when_its_time_has_come() -> None:
    later = {"main": ContainerMemory(failures=1, retry_at=NOW + timedelta(seconds=10))}
    assert plan(situation(memory=later)) == (CheckAgain(timedelta(seconds=10)),)
    due = {"main": ContainerMemory(failures=1, retry_at=NOW)}
    assert plan(situation(memory=due)) == (PullImage("main", 0),)


@pytest.mark.parametrize(
    ("crashes", "seconds"),
    [(0, 0), (1, 0), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 300), (8, 300), (99, 300)],
)
def test_the_first_restart_is_immediate_and_then_pauses_double_up_to_five_minutes(
    crashes: int, seconds: int
) -> None:
    assert restart_pause(crashes) == timedelta(seconds=seconds)


def test_a_crashed_container_waits_out_its_back_off() -> None:
    run = ended(attempt=1, code=3, since=4)
    crashed = {"main": ContainerMemory(crashes=2, counted=run.id)}
    assert plan(situation(make_pod(), run, memory=crashed)) == (CheckAgain(timedelta(seconds=6)),)
    late = ended(attempt=1, code=3, since=11)
    assert plan(situation(make_pod(), late, memory=crashed)) == (PullImage("main", 2),)


def test_ten_minutes_of_running_forgive_earlier_crashes() -> None:
    before = ContainerMemory(crashes=5)
    steady = ended(code=1, started_at=ago(605), since=5)
    assert count_end(before, steady).crashes == 1
    brief = ended(code=1, started_at=ago(604), since=5)
    assert count_end(before, brief).crashes == 6


def test_an_end_counts_once() -> None:
    once = count_end(ContainerMemory(), ended(code=1))
    assert count_end(once, ended(code=1)) == once


@pytest.mark.parametrize(
    ("policy", "code", "result"),
    [
        ("Always", 0, None),
        ("Always", 3, None),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 3, None),
        ("Never", 0, "Succeeded"),
        ("Never", 3, "Failed"),
    ],
)
def test_the_restart_policy_decides_whether_the_pod_has_ended(
    policy: str, code: int, result: str | None
) -> None:
    it = situation(make_pod(restartPolicy=policy), ended(code=code))
    assert outcome(it) == result
    assert plan(it) == ((StopSandbox("s0"),) if result else (PullImage("main", 1),))


def test_a_pod_of_several_has_ended_when_all_have() -> None:
    pod = make_pod("a", "b", restartPolicy="Never")
    assert outcome(situation(pod, ended("a"), running("b"))) is None
    assert outcome(situation(pod, ended("a"), ended("b", code=2))) == "Failed"
    assert outcome(situation(pod, ended("a"), ended("b"))) == "Succeeded"


def test_a_deleted_pod_is_stopped_with_its_own_grace_and_let_go_once_its_address_is_free() -> None:
    pod = make_pod(meta=DELETED)
    [stop] = plan(situation(pod, running()))
    assert isinstance(stop, Stop)
    assert (stop.id, stop.grace) == ("main-0", 7)
    assert plan(situation(pod, ended())) == (StopSandbox("s0"),)
    stopped = (sandbox(ready=False),)
    assert plan(situation(pod, ended(), sandboxes=stopped)) == (LetGo(),)
    let_go = {"let_go": True}
    after = situation(pod, ended(), sandboxes=stopped, remembered=let_go)
    assert plan(after) == (RemoveSandbox("s0"),)
    assert plan(situation(pod, sandboxes=(), remembered=let_go)) == ()
    assert plan(situation(pod, sandboxes=(), remembered=let_go, gone=True)) == (Forget(),)


def test_a_stop_is_asked_for_once_and_again_only_with_less_grace() -> None:
    pod = make_pod(meta=DELETED)
    stopping = {"main": ContainerMemory(stopping={"main-0": 7})}
    assert plan(situation(pod, running(), memory=stopping)) == ()
    hasty = make_pod(meta={**DELETED, "deletionGracePeriodSeconds": 2})
    [stop] = plan(situation(hasty, running(), memory=stopping))
    assert isinstance(stop, Stop)
    assert stop.grace == 2


def test_what_runs_for_a_pod_that_the_api_has_no_more_is_stopped_and_removed() -> None:
    [stop] = plan(situation(make_pod(), running(), gone=True))
    assert isinstance(stop, Stop)
    assert stop.grace == 1
    gone = situation(make_pod(), ended(), sandboxes=(sandbox(ready=False),), gone=True)
    assert plan(gone) == (RemoveSandbox("s0"),)


INITS = [{"name": "one", "image": "app"}, {"name": "two", "image": "app"}]


def test_init_containers_run_one_after_the_other_before_the_rest() -> None:
    pod = make_pod(initContainers=INITS)
    assert plan(situation(pod)) == (PullImage("one", 0),)
    assert plan(situation(pod, running("one"))) == ()
    assert plan(situation(pod, ended("one"))) == (PullImage("two", 0),)
    assert plan(situation(pod, ended("one"), running("two"))) == ()
    assert plan(situation(pod, ended("one"), ended("two"))) == (PullImage("main", 0),)
    assert plan(situation(pod, ended("one"), ended("two"), running())) == ()


def test_a_failed_init_container_is_tried_again_unless_the_policy_forbids_it() -> None:
    again = situation(make_pod(initContainers=INITS), ended("one", code=1))
    assert plan(again) == (PullImage("one", 1),)
    never = situation(make_pod(initContainers=INITS, restartPolicy="Never"), ended("one", code=1))
    assert outcome(never) == "Failed"


def test_a_sidecar_runs_before_the_rest_and_ends_after_it() -> None:
    sidecar = {"name": "proxy", "image": "app", "restartPolicy": "Always"}
    pod = make_pod(initContainers=[sidecar])
    assert plan(situation(pod)) == (PullImage("proxy", 0),)
    assert plan(situation(pod, running("proxy"))) == (PullImage("main", 0),)
    died = situation(pod, ended("proxy", code=1), running())
    assert plan(died) == (PullImage("proxy", 1),)
    deleted = make_pod(initContainers=[sidecar], meta=DELETED)
    [first] = plan(situation(deleted, running("proxy"), running()))
    assert isinstance(first, Stop)
    assert first.container == "main"
    [second] = plan(situation(deleted, running("proxy"), ended()))
    assert isinstance(second, Stop)
    assert second.container == "proxy"


def test_a_job_with_a_sidecar_ends_when_its_main_container_does() -> None:
    sidecar = {"name": "proxy", "image": "app", "restartPolicy": "Always"}
    pod = make_pod(initContainers=[sidecar], restartPolicy="Never")
    it = situation(pod, running("proxy"), ended())
    assert outcome(it) == "Succeeded"
    [stop] = plan(it)
    assert isinstance(stop, Stop)
    assert stop.container == "proxy"


def test_an_unhealthy_container_is_killed_and_started_again() -> None:
    sick = {"main": ContainerMemory(probed="main-0", unhealthy="failed liveness probe", grace=3)}
    [stop] = plan(situation(make_pod(), running(), memory=sick))
    assert isinstance(stop, Stop)
    assert (stop.grace, stop.why) == (
        3,
        "Container main failed liveness probe, will be restarted",
    )
    killed = situation(make_pod(), ended(code=137), memory=sick)
    assert plan(killed) == (PullImage("main", 1),)


def test_a_changed_image_restarts_the_container_at_once() -> None:
    changed = make_pod(containers=[{"name": "main", "image": "app:2"}])
    [stop] = plan(situation(changed, running()))
    assert isinstance(stop, Stop)
    crashed = {"main": ContainerMemory(crashes=5)}
    assert plan(situation(changed, ended(code=1), memory=crashed)) == (PullImage("main", 1),)


def test_a_broken_sandbox_is_replaced_and_everything_starts_again_in_the_new_one() -> None:
    pod = make_pod(initContainers=INITS)
    broken, new = sandbox(ready=False), sandbox(1)
    dead = (ended("one"), ended("two"), ended(code=137))
    assert plan(situation(pod, *dead, sandboxes=(broken,))) == (RunSandbox(1),)
    replaced = plan(situation(pod, *dead, sandboxes=(broken, new)))
    assert replaced == (RemoveSandbox("s0"), PullImage("one", 1))


def test_only_the_latest_run_and_the_one_before_are_kept() -> None:
    runs = (ended(attempt=0, code=1), ended(attempt=1, code=1), running(attempt=2))
    assert plan(situation(make_pod(), *runs)) == (Remove("main-0"),)


def test_a_container_that_never_started_is_removed() -> None:
    made = running(state=State.CREATED, started_at=None)
    assert plan(situation(make_pod(), made)) == (Remove("main-0"),)


def test_a_pod_that_waits_for_services_has_its_sandbox_but_no_container() -> None:
    it = situation(memory=AT_HAND, awaited="waiting for db")
    assert plan(it) == ()
    assert plan(situation(sandboxes=(), awaited="waiting for db")) == (RunSandbox(0),)


def test_a_pod_past_its_deadline_has_failed() -> None:
    pod = make_pod(activeDeadlineSeconds=60)
    early = situation(pod, running(), remembered={"started_at": ago(59)})
    assert plan(early) == (CheckAgain(timedelta(seconds=1)),)
    late = situation(pod, running(), remembered={"started_at": ago(60)})
    assert outcome(late) == "Failed"
    assert isinstance(plan(late)[0], Stop)


def test_a_pod_that_the_api_says_has_ended_is_never_started_again() -> None:
    pod = make_pod(status={"phase": "Succeeded"})
    assert plan(situation(pod, sandboxes=())) == ()


def test_a_new_agent_counts_on_from_the_restarts_that_the_api_knows() -> None:
    entry = {"name": "main", "restartCount": 3, "containerID": "containerd://x", "ready": True}
    memory = recall({"containerStatuses": [entry], "startTime": "2026-01-01T11:00:00Z"}, NOW)
    it = situation(make_pod(), memory=dict(memory.containers))
    assert plan(it) == (PullImage("main", 4),)
    assert memory.of("main").probed == "x"


def test_a_pod_that_services_send_to_is_stopped_only_when_they_have_ceased() -> None:
    pod = make_pod(meta=DELETED)

    def next_of(*, served: bool, began: float, drained: float | None = None) -> object:
        times = {"ending_at": ago(began), "drained_at": None if drained is None else ago(drained)}
        [step] = plan(situation(pod, running(), remembered=times, served=served))
        return step

    assert next_of(served=True, began=0.2) == CheckAgain(timedelta(seconds=4.8))
    assert isinstance(next_of(served=True, began=5), Stop)
    assert next_of(served=False, began=0.2, drained=0.04) == CheckAgain(timedelta(seconds=0.06))
    assert isinstance(next_of(served=False, began=0.4, drained=0.2), Stop)
    assert isinstance(next_of(served=False, began=0), Stop)


def test_who_is_in_a_hurry_is_not_drained() -> None:
    pod = make_pod(meta={**DELETED, "deletionGracePeriodSeconds": 1})
    it = situation(pod, running(), remembered={"ending_at": NOW}, served=True)
    assert isinstance(plan(it)[0], Stop)
