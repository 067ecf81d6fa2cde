"""HorizontalPodAutoscalers over the API: they scale, and say why they do or do not."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.controllers import autoscaler, deployment, replicaset
from sampan.controllers.metering import Meter
from sampan.controllers.plan import Controller
from sampan.controllers.views_scaling import AUTOSCALERS
from tests.controllers.cluster import labelled, running, until
from tests.controllers.memory_api import MemoryApi


def scaler(target: str = "web", kind: str = "Deployment", **spec: Any) -> Object:
    utilization = {"type": "Utilization", "averageUtilization": 50}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": utilization}}
    ref = {"apiVersion": "apps/v1", "kind": kind, "name": target}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": ref, "minReplicas": 1, "maxReplicas": 5, "metrics": [metric], **spec,
        },
    }  # fmt: skip


def web(replicas: int = 2, cpu: str = "100m") -> Object:
    made = labelled("Deployment", "web", replicas=replicas)
    if cpu:
        container = made["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = {"requests": {"cpu": cpu}}
    return made


class Usage:
    """Every Pod uses so many cores; None is nobody who measures."""

    def __init__(self, api: MemoryApi, cores: float | None) -> None:
        self._api = api
        self.cores = cores

    async def __call__(self) -> Sequence[Object]:
        if self.cores is None:
            raise ServiceUnavailable("nobody measures")
        used = [{"name": "c", "usage": {"cpu": f"{round(self.cores * 1e9)}n"}}]
        at = timestamp(self._api.now())
        return [
            {"metadata": pod["metadata"], "timestamp": at, "containers": used}
            for pod in self._api.of(kinds.PODS)
        ]


def setting(api: MemoryApi, cores: float | None) -> tuple[Usage, Meter, list[Controller]]:
    usage, meter = Usage(api, cores), Meter()
    which = [deployment.CONTROLLER, replicaset.CONTROLLER, autoscaler.controller(meter)]
    return usage, meter, which


async def mark_started(api: MemoryApi) -> None:
    """Say when Pods were started, as agents do."""
    while True:
        for pod in api.of(kinds.PODS):
            if not (pod.get("status") or {}).get("startTime"):
                at = {"status": {"startTime": timestamp(api.now())}}
                await api.patch(kinds.PODS, pod["metadata"]["name"], at, "default")
        await asyncio.sleep(0.1)


def replicas(api: MemoryApi) -> int:
    return int(api.of(kinds.DEPLOYMENTS)[0]["spec"]["replicas"])


def status(api: MemoryApi) -> Object:
    found: Object = api.of(AUTOSCALERS)[0].get("status") or {}
    return found


def verdicts(api: MemoryApi) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status(api).get("conditions", [])}


async def test_it_follows_the_load_up_at_once_and_down_after_five_minutes() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web())
    await api.create(AUTOSCALERS, scaler())
    usage, meter, which = setting(api, 0.1)
    others = meter.run(usage, lambda: True), mark_started(api)
    async with running(api, which, *others):
        await until(lambda: replicas(api) > 2, within=60)
        usage.cores = 0.05
        await asyncio.sleep(60)
        steady = replicas(api)
        assert verdicts(api)["AbleToScale"] == ("True", "SucceededGetScale")
        assert verdicts(api)["ScalingActive"] == ("True", "ValidMetricFound")
        [metric] = status(api)["currentMetrics"]
        current = {"averageValue": "50m", "averageUtilization": 50}
        assert metric == {"type": "Resource", "resource": {"name": "cpu", "current": current}}
        usage.cores = 0.005
        await asyncio.sleep(200)
        assert replicas(api) == steady
        await until(lambda: replicas(api) == 1, within=200)
    messages = [e["message"] for e in api.of(kinds.EVENTS) if e["reason"] == "SuccessfulRescale"]
    assert any(m.startswith("New size: ") and "cpu resource utilization" in m for m in messages)


async def test_it_never_leaves_its_bounds_and_says_that_they_hold_it() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web(9))
    await api.create(AUTOSCALERS, scaler())
    usage, meter, which = setting(api, 1.0)
    async with running(api, which, meter.run(usage, lambda: True), mark_started(api)):
        await until(lambda: replicas(api) == 5)
        await asyncio.sleep(120)
        assert replicas(api) == 5
    assert verdicts(api)["ScalingLimited"] == ("True", "TooManyReplicas")
    assert status(api)["lastScaleTime"]


async def test_without_metrics_it_changes_nothing_and_says_why_once() -> None:
    api = MemoryApi()
    await api.create(kinds.DEPLOYMENTS, web())
    await api.create(AUTOSCALERS, scaler())
    usage, meter, which = setting(api, None)
    async with running(api, which, meter.run(usage, lambda: True)):
        await asyncio.sleep(300)
        assert replicas(api) == 2
    assert verdicts(api)["ScalingActive"] == ("False", "FailedGetResourceMetric")
    [event] = [e for e in api.of(kinds.EVENTS) if e["reason"] == "FailedGetResourceMetric"]
    assert event["count"] == 1


async def test_what_cannot_be_scaled_is_named() -> None:
    cases = {
        ("AbleToScale", "FailedGetScale"): (web(), scaler("absent")),
        ("ScalingActive", "ScalingDisabled"): (web(0), scaler()),
        ("ScalingActive", "FailedGetResourceMetric"): (web(cpu=""), scaler()),
        ("ScalingActive", "FailedGetExternalMetric"): (
            web(), scaler(metrics=[{"type": "External", "external": {}}]),
        ),
    }  # fmt: skip
    for (type_, reason), (workload, asking) in cases.items():
        api = MemoryApi()
        await api.create(kinds.DEPLOYMENTS, workload)
        await api.create(AUTOSCALERS, asking)
        before = replicas(api)
        usage, meter, which = setting(api, 1.0)
        async with running(api, which, meter.run(usage, lambda: True), mark_started(api)):
            await asyncio.sleep(60)
        assert verdicts(api)[type_] == ("False", reason)
        assert replicas(api) == before


async def test_nobody_is_measured_while_nobody_scales() -> None:
    calls = []

    async def source() -> Sequence[Object]:
        calls.append(1)
        return []

    async with asyncio.TaskGroup() as group:
        task = group.create_task(Meter().run(source, lambda: False))
        await asyncio.sleep(100)
        task.cancel()
    assert calls == []
