"""What may change about a Pod that runs: containers put in to look at it, and its resources."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sampan.agent.memory import ContainerMemory
from sampan.agent.plan import CreateAndStart, PullImage, Resize, Stop, outcome, plan, restarts
from sampan.agent.resources import asked
from sampan.agent.spec import ContainerSpec
from sampan.agent.status import pod_status, qos_class
from sampan.api import kinds
from sampan.api.objects import Object
from sampan.client.interface import PatchType
from sampan.testing.clock import VirtualTimeLoop
from tests.agent.pods_bed import Bed, bed, pod, until
from tests.agent.situations import ended, make_pod, running, situation


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


GUEST = {"name": "guest", "image": "app", "targetContainerName": "main"}
HELD = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
MORE = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "64Mi"}}


def sized(resources: Object, **more: Any) -> Object:
    return {"name": "main", "image": "app", "resources": resources, **more}


def granted(resources: Object) -> str:
    return asked(ContainerSpec(name="main", resources=_resources(resources)))


def _resources(raw: Object) -> Any:
    return make_pod(containers=[sized(raw)]).spec.containers[0].resources


# Ephemeral containers


def test_a_guest_starts_beside_what_runs_and_is_never_started_again() -> None:
    web = make_pod(ephemeralContainers=[GUEST])
    assert plan(situation(web, running())) == (PullImage("guest", 0),)
    ready = {"guest": ContainerMemory(image_for=0)}
    assert plan(situation(web, running(), memory=ready)) == (CreateAndStart("guest", 0),)
    assert plan(situation(web, running(), ended("guest", code=1))) == ()
    forgotten = {"guest": ContainerMemory(next_attempt=1)}
    assert plan(situation(web, running(), memory=forgotten)) == ()


def test_a_guest_does_not_decide_how_its_pod_ends() -> None:
    web = make_pod(ephemeralContainers=[GUEST], restartPolicy="Never")
    assert outcome(situation(web, ended(), ended("guest", code=1))) == "Succeeded"
    assert outcome(situation(web, ended(), running("guest"))) == "Succeeded"
    assert outcome(situation(web, running(), ended("guest", code=1))) is None


def test_a_guest_has_a_status_of_its_own_and_no_part_in_the_class_of_its_pod() -> None:
    held = {"limits": {"cpu": "1", "memory": "1Gi"}}
    web = make_pod(containers=[sized(held)], ephemeralContainers=[GUEST])
    assert qos_class(web) == "Guaranteed"
    status = pod_status(situation(web, running(), ended("guest", code=3)), "192.0.2.7")
    [guest] = status["ephemeralContainerStatuses"]
    assert guest["state"]["terminated"]["exitCode"] == 3
    assert status["phase"] == "Running"
    kept = make_pod(ephemeralContainers=[GUEST], status=status)
    again = pod_status(situation(kept, running()), "192.0.2.7")
    assert again["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


async def test_a_guest_sees_its_targets_processes(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod())
        await until(b.is_ready)
        guest = {**GUEST, "imagePullPolicy": "IfNotPresent"}
        patch = {"spec": {"ephemeralContainers": [guest]}}
        await b.client.patch(kinds.PODS, "web", patch, "default", subresource="ephemeralcontainers")

        async def runs() -> bool:
            statuses = (await b.get())["status"].get("ephemeralContainerStatuses") or [{}]
            return "running" in (statuses[0].get("state") or {})

        await until(runs)
        [main], [made] = b.runtime.runs("main"), b.runtime.runs("guest")
        spaces = b.runtime.config(made.id).security.namespaces
        assert (spaces.pid, spaces.target) == ("TARGET", main.id)
        assert await b.is_ready()
        b.runtime.end(made.id)
        await asyncio.sleep(60)
        assert len(b.runtime.runs("guest")) == 1


# Restart rules


@pytest.mark.parametrize(
    ("operator", "code", "again"),
    [("In", 42, True), ("In", 1, False), ("NotIn", 42, False), ("NotIn", 1, True)],
)
def test_a_rule_for_an_exit_code_overrides_the_pods_policy(
    operator: str, code: int, *, again: bool
) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}
    main = {"name": "main", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    web = make_pod(containers=[main], restartPolicy="Never")
    assert restarts(web, web.spec.containers[0], ended(code=code)) is again
    assert (outcome(situation(web, ended(code=code))) is None) is again


# Resources


def test_a_resize_is_granted_to_the_running_container_once() -> None:
    web = make_pod(containers=[sized(MORE)])
    run = running(resources_asked=granted(HELD))
    assert plan(situation(web, run)) == (Resize("main", run.id),)
    done = {"main": ContainerMemory(resized={run.id: granted(MORE)})}
    assert plan(situation(web, run, memory=done)) == ()
    assert plan(situation(web, running(resources_asked=granted(MORE)))) == ()


def test_a_resize_that_needs_a_restart_restarts_at_once() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    web = make_pod(containers=[sized(MORE, resizePolicy=policy)])
    run = running(resources_asked=granted(HELD))
    [stop] = plan(situation(web, run))
    assert isinstance(stop, Stop)
    assert "resize requires restart" in stop.why
    over = ended(resources_asked=granted(HELD), code=137)
    many = {"main": ContainerMemory(crashes=6, image_for=1)}
    assert plan(situation(web, over, memory=many)) == (CreateAndStart("main", 1),)
    memory = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    other = make_pod(containers=[sized(MORE, resizePolicy=memory)])
    assert plan(situation(other, run)) == (Resize("main", run.id),)


async def test_a_resize_reaches_the_runtime_and_the_status(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(resources=HELD))
        await until(b.is_ready)
        patch = {"spec": {"containers": [{"name": "main", "resources": MORE}]}}
        await b.client.patch(
            kinds.PODS, "web", patch, "default", subresource="resize", how=PatchType.STRATEGIC
        )

        async def resized() -> bool:
            return bool((await b.container()).get("resources") == MORE)

        await until(resized)
        [run] = b.runtime.runs()
        assert b.runtime.config(run.id).limits.cpu_quota == 200_000
        assert (await b.container())["restartCount"] == 0
        assert ("ResizeCompleted", "Resized container main") in await b.events()


async def test_a_resize_that_the_runtime_refuses_is_told_and_tried_again(tmp_path: Path) -> None:
    async with bed(tmp_path) as b:
        await b.create(pod(resources=HELD))
        await until(b.is_ready)
        b.runtime.fails["update_resources"] = "too little"
        patch = {"spec": {"containers": [{"name": "main", "resources": MORE}]}}
        await b.client.patch(
            kinds.PODS, "web", patch, "default", subresource="resize", how=PatchType.STRATEGIC
        )
        await until(lambda: told(b))
        del b.runtime.fails["update_resources"]

        async def resized() -> bool:
            return bool((await b.container()).get("resources") == MORE)

        await until(resized, within=60)


async def told(b: Bed) -> bool:
    return any(reason == "ResizeError" for reason, _ in await b.events())
