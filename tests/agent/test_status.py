"""What a Pod's status says, and what of it is written."""

from datetime import timedelta
from typing import Any

import pytest

from sampan.agent.memory import ContainerMemory, Waiting
from sampan.agent.plan import Situation
from sampan.agent.spec import NodePod
from sampan.agent.status import pod_status, qos_class, status_patch
from sampan.api.objects import Object
from tests.agent.situations import NOW, ended, make_pod, running, sandbox, situation


def status(it: Situation) -> Object:
    return pod_status(it, "192.0.2.7")


def conditions(it: Situation) -> dict[str, Object]:
    return {c["type"]: c for c in status(it)["conditions"]}


def main(it: Situation) -> Object:
    found: Object = status(it)["containerStatuses"][0]
    return found


def test_a_running_pod_is_ready_and_has_its_addresses() -> None:
    it = situation(make_pod(), running())
    found = status(it)
    assert found["phase"] == "Running"
    assert (found["podIP"], found["podIPs"]) == ("10.42.0.5", [{"ip": "10.42.0.5"}])
    assert (found["hostIP"], found["hostIPs"]) == ("192.0.2.7", [{"ip": "192.0.2.7"}])
    assert found["qosClass"] == "BestEffort"
    assert all(c["status"] == "True" for c in found["conditions"])
    assert main(it) == {
        "name": "main",
        "state": {"running": {"startedAt": "2026-01-01T11:59:00Z"}},
        "lastState": {},
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": "docker.io/library/app:latest",
        "imageID": "docker.io/library/app@sha256:1",
        "containerID": "containerd://main-0",
    }


def test_a_pod_on_the_nodes_network_has_the_nodes_address() -> None:
    assert status(situation(make_pod(hostNetwork=True), running()))["podIP"] == "192.0.2.7"


def test_a_pod_that_has_just_come_waits_for_its_containers() -> None:
    it = situation(sandboxes=())
    assert status(it)["phase"] == "Pending"
    assert main(it)["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(it)["PodReadyToStartContainers"]["status"] == "False"
    ready = conditions(it)["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [main]"


def test_init_containers_that_are_missing_are_named() -> None:
    pod = make_pod(initContainers=[{"name": "one"}, {"name": "two"}])
    it = situation(pod, ended("one"), running("two"))
    assert main(it)["state"] == {"waiting": {"reason": "PodInitializing"}}
    found = conditions(it)["Initialized"]
    assert (found["status"], found["reason"]) == ("False", "ContainersNotInitialized")
    assert found["message"] == "containers with incomplete status: [two]"
    one, two = status(it)["initContainerStatuses"]
    assert (one["ready"], two["ready"]) == (True, False)


@pytest.mark.parametrize(
    ("memory", "awaited", "expected"),
    [
        (
            {"waiting": Waiting("ErrImagePull", "no such image")},
            "",
            {"reason": "ErrImagePull", "message": "no such image"},
        ),
        (
            {},
            "waiting for db: 0 of 1 endpoints ready",
            {"reason": "WaitingForServices", "message": "waiting for db: 0 of 1 endpoints ready"},
        ),
    ],
)
def test_a_container_says_why_it_waits(memory: Any, awaited: str, expected: Object) -> None:
    it = situation(memory={"main": ContainerMemory(**memory)}, awaited=awaited)
    assert main(it)["state"] == {"waiting": expected}


def test_a_volume_that_cannot_be_mounted_is_told_by_every_container() -> None:
    waiting = Waiting("ContainerCreating", 'secret "keys" not found')
    it = situation(sandboxes=(), remembered={"prepared": False, "waiting": waiting})
    assert main(it)["state"]["waiting"]["message"] == 'secret "keys" not found'


def test_a_crash_loop_tells_its_pause_and_how_it_last_ended() -> None:
    run = ended(attempt=2, code=3)
    it = situation(make_pod(), run, memory={"main": ContainerMemory(crashes=3, counted=run.id)})
    found = main(it)
    assert status(it)["phase"] == "Running"
    assert found["restartCount"] == 2
    assert found["state"]["waiting"] == {
        "reason": "CrashLoopBackOff",
        "message": "back-off 20s restarting failed container=main pod=web_default(u1)",
    }
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["lastState"]["terminated"]["reason"] == "Error"


def test_after_a_restart_the_run_before_is_the_last_state() -> None:
    found = main(situation(make_pod(), ended(code=1, reason="OOMKilled"), running(attempt=1)))
    assert "running" in found["state"]
    assert found["lastState"]["terminated"]["reason"] == "OOMKilled"


def test_what_the_runtime_forgot_the_api_still_knows() -> None:
    last = {"terminated": {"exitCode": 9}}
    it = situation(make_pod(), running(attempt=4), memory={"main": ContainerMemory(last=last)})
    assert main(it)["lastState"] == last


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (9, "Failed")])
def test_a_pod_that_has_ended(code: int, phase: str) -> None:
    it = situation(make_pod(restartPolicy="Never"), ended(code=code, message="bye"))
    assert status(it)["phase"] == phase
    assert main(it)["state"]["terminated"]["message"] == "bye"
    assert not main(it)["ready"]
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[phase]
    assert conditions(it)["Ready"]["reason"] == reason


def test_the_phase_of_a_pod_that_has_ended_stays_when_its_containers_are_gone() -> None:
    kept = [{"name": "main", "state": {"terminated": {"exitCode": 0}}, "ready": False}]
    pod = make_pod(status={"phase": "Succeeded", "containerStatuses": kept})
    it = situation(pod, sandboxes=())
    assert status(it)["phase"] == "Succeeded"
    assert status(it)["containerStatuses"] == kept


def test_readiness_is_what_the_probes_say_of_this_very_run() -> None:
    probe = {"tcpSocket": {"port": 80}}
    pod = make_pod(containers=[{"name": "main", "image": "app", "readinessProbe": probe}])

    def ready(**memory: Any) -> bool:
        it = situation(pod, running(), memory={"main": ContainerMemory(**memory)})
        return bool(main(it)["ready"])

    assert not ready()
    assert ready(probed="main-0", ready=True)
    assert not ready(probed="main-9", ready=True)


def test_a_readiness_gate_keeps_a_pod_from_being_ready() -> None:
    def ready(**more: Any) -> Object:
        pod = make_pod(readinessGates=[{"conditionType": "a/b"}], **more)
        return conditions(situation(pod, running()))["Ready"]

    assert ready()["reason"] == "ReadinessGatesNotReady"
    assert ready(status={"conditions": [{"type": "a/b", "status": "True"}]})["status"] == "True"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    since = "2026-01-01T10:00:00Z"
    old = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    same = situation(make_pod(status={"conditions": old}), running())
    assert conditions(same)["Ready"]["lastTransitionTime"] == since
    other = situation(make_pod(status={"conditions": old}))
    assert conditions(other)["Ready"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_a_pod_past_its_deadline_says_so() -> None:
    it = situation(make_pod(activeDeadlineSeconds=60), running())
    assert (status(it)["phase"], status(it)["reason"]) == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: Object, expected: str) -> None:
    pod: NodePod = make_pod(containers=[{"name": "main", "resources": resources}])
    assert qos_class(pod) == expected


# Patches


def test_what_is_written_is_not_written_again() -> None:
    it = situation(make_pod(), running())
    assert status_patch(status(it), status(it)) is None
    without_empty = {
        **status(it),
        "containerStatuses": [{k: v for k, v in main(it).items() if v != {}}],
    }
    assert status_patch(without_empty, status(it)) is None


def test_only_what_changed_is_written_and_conditions_of_others_are_left_alone() -> None:
    before = situation(make_pod(), running())
    known = {**status(before), "conditions": [*status(before)["conditions"], {"type": "Theirs"}]}
    after = situation(make_pod(), ended(code=1), memory={"main": ContainerMemory(crashes=1)})
    patch = status_patch(known, status(after))
    assert patch is not None
    assert set(patch) == {"containerStatuses", "conditions"}
    assert {c["type"] for c in patch["conditions"]} == {"Ready", "ContainersReady"}


def test_a_reason_that_holds_no_more_is_taken_out() -> None:
    unready, ready = situation(sandboxes=()), situation(make_pod(), running())
    patch = status_patch(status(unready), status(ready))
    assert patch is not None
    [condition] = [c for c in patch["conditions"] if c["type"] == "Ready"]
    assert condition["reason"] is None
    assert condition["message"] is None


def test_a_new_address_replaces_the_old_one() -> None:
    it = situation(make_pod(), running(box="s1"), sandboxes=(sandbox(1),))
    old = {**status(it), "podIP": "10.42.0.4", "podIPs": [{"ip": "10.42.0.4"}]}
    patch = status_patch(old, status(it))
    assert patch == {
        "podIP": "10.42.0.5",
        "podIPs": [{"ip": "10.42.0.5"}, {"$patch": "replace"}],
    }


def test_time_alone_changes_nothing() -> None:
    pod = make_pod()
    now = situation(pod, running())
    stored = make_pod(status=status(now))
    later = situation(stored, running(), now=NOW + timedelta(hours=1))
    assert status_patch(status(now), status(later)) is None
