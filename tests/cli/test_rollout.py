"""What `up` and `ps` say about replicas, from what the API holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sampan.api.objects import Object, Service
from sampan.cli.ps import age, published, row
from sampan.cli.rollout import SERVICE, Deployment, Replica, states

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def replica(state: Object | None = None, **status: Any) -> Replica:
    container = {"name": "web", "state": state or {}, **status.pop("container", {})}
    return Replica.of(
        {
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {SERVICE: "web"}},
            "spec": {"nodeName": status.pop("node", "node-1")},
            "status": {"containerStatuses": [container] if state else [], **status},
        }
    )


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


ENDED = {"terminated": {"exitCode": 3, "reason": "Error"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
UNPLACED: Any = {
    "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: too little memory"}
    ]
}


@pytest.mark.parametrize(
    ("seen", "state", "why"),
    [
        (replica(**UNPLACED), "no node", "no node takes it: 0/3 nodes: too little memory"),
        (replica(node=""), "Pending", "waits for a node"),
        (replica(), "Pending", "starting"),
        (replica(waiting("ContainerCreating")), "ContainerCreating", "starting"),
        (replica(waiting("WaitingForServices", "waiting for db")), "waiting", "waiting for db"),
        (
            replica(waiting("ImagePullBackOff", "not found")),
            "image pull failed",
            "image pull failed: not found",
        ),
        (
            replica(waiting("CrashLoopBackOff"), container={"lastState": ENDED}),
            "crashing",
            "its command ended with exit code 3, and is started again after a pause",
        ),
        (
            replica(waiting("CrashLoopBackOff"), container={"lastState": KILLED}),
            "crashing",
            "its command was killed: it used more memory than its limit, and is started again after a pause",  # noqa: E501
        ),
        (replica(ENDED), "Pending", "its command ended with exit code 3"),
        (
            replica({"running": {}}),
            "starting",
            "runs, its health check has not passed yet",
        ),
        (
            replica({"running": {}}, container={"started": True}),
            "unhealthy",
            "runs, its health check has not passed yet",
        ),
        (
            replica({"running": {}}, container={"restartCount": 1, "lastState": ENDED}),
            "starting",
            "runs, its health check has not passed yet; before that it ended with exit code 3",
        ),
    ],
)
def test_a_replica_says_how_it_is_and_why(seen: Replica, state: str, why: str) -> None:
    assert (seen.state, seen.why()) == (state, why)


def deployment(wanted: int, **status: Any) -> Deployment:
    return Deployment.of(
        {
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": wanted},
            "status": {"observedGeneration": 2, **status},
        }
    )


FULL = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("status", "done"),
    [
        (FULL, True),
        (FULL | {"observedGeneration": 1}, False),
        (FULL | {"replicas": 3}, False),
        (FULL | {"updatedReplicas": 1}, False),
        (FULL | {"availableReplicas": 1}, False),
        ({}, False),
    ],
)
def test_a_rollout_is_done_when_all_is_new_and_available_and_nothing_old_is_left(
    status: Object, *, done: bool
) -> None:
    [state] = states(["web"], [deployment(2, **status)], [])
    assert state.done is done


def test_nothing_wanted_is_done_and_nothing_created_is_not() -> None:
    assert states(["web"], [deployment(0)], [])[0].done
    assert states(["web"], [], [])[0].why == "not created yet"


def test_a_release_that_was_taken_back_is_not_done_although_the_last_one_serves() -> None:
    told = [{"type": "RolledBack", "status": "True", "message": "Revision 2 failed"}]
    [state] = states(["web"], [deployment(2, **FULL, conditions=told)], [])
    assert (state.done, state.taken_back, state.why) == (False, True, "Revision 2 failed")
    unseen = FULL | {"observedGeneration": 1}
    [state] = states(["web"], [deployment(2, **unseen, conditions=told)], [])
    assert not state.taken_back


def test_an_older_release_that_is_left_is_the_reason_when_all_replicas_are_ready() -> None:
    [state] = states(["web"], [deployment(2, replicas=3, updatedReplicas=2)], [])
    assert state.why == "1 of the last release to be replaced"


def test_the_replica_that_crashed_most_often_is_the_one_to_look_at() -> None:
    calm = replica({"running": {}})
    crashing = replica(waiting("CrashLoopBackOff"), container={"restartCount": 3})
    [state] = states(["web"], [deployment(2)], [calm, crashing])
    assert (state.failing, state.restarted) == ("web-1", True)
    assert state.why.startswith("its command")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7300, "2h"), (200000, "2d")]
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


def test_ports_are_those_that_the_nodes_answer() -> None:
    def service(name: str, kind: str) -> Service:
        port = {"port": 8080, "targetPort": 80, "nodePort": 30001, "protocol": "TCP"}
        metadata = {"name": name, "labels": {SERVICE: "web"}}
        return Service.of({"metadata": metadata, "spec": {"type": kind, "ports": [port]}})

    assert published("web", [service("web", "ClusterIP")]) == ""
    assert published("web", [service("a", "LoadBalancer")]) == "8080->80/tcp"
    assert published("web", [service("a", "NodePort")]) == "30001->80/tcp"
    assert published("db", [service("a", "NodePort")]) == ""


def test_a_row_has_a_dash_for_what_is_not_known() -> None:
    assert row(replica(node=""), "", NOW) == (
        *("web", "web-1", "-", "[yellow]Pending[/]", "-", "0", "-"),
    )
