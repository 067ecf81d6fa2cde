"""Give workloads as many replicas as their HorizontalPodAutoscalers ask for.

Conditions, reasons and messages are Kubernetes'. Pods, Object and External metrics need a source
that this cluster does not have yet; an autoscaler that asks for them says so and, as in
Kubernetes, goes up by the metrics that it has and never down.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from msgspec.structs import replace

from sampan.api import quantities
from sampan.api.objects import Condition, Container, Object, Pod, condition
from sampan.api.selectors import Selector, from_label_selector, parse_label_selector
from sampan.controllers.metering import EVERY, Meter, Sample
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Patch,
    RecordEvent,
    World,
    for_each,
    itself,
    set_status,
)
from sampan.controllers.scaling import (
    History,
    Load,
    Verdict,
    decide,
    replicas_for,
    tolerance_of,
)
from sampan.controllers.status import difference, with_condition
from sampan.controllers.views import Deployment, ReplicaSet, seconds
from sampan.controllers.views_apps import ReplicationController, StatefulSet
from sampan.controllers.views_scaling import (
    Autoscaler,
    AutoscalerStatus,
    Goal,
    Metric,
    ResourceMetric,
)

WARM_UP: Final = timedelta(minutes=5)
"""How long after its start the CPU that a Pod uses means nothing until it is ready."""
_SCALED: Final[Mapping[str, Any]] = {
    view.KIND.kind: view for view in (Deployment, ReplicaSet, StatefulSet, ReplicationController)
}
BY_DEFAULT: Final = Metric(
    "Resource", ResourceMetric("cpu", target=Goal("Utilization", average_utilization=80))
)
_RANGE: Final = "the desired count is within the acceptable range"
_WORDS: Final = {
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
}


class Unmeasured(Exception):
    """A metric has no value; *reason* is one word of Kubernetes', the text says more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for, and how the status shows it."""

    replicas: int
    shown: Object


class Autoscalers:
    """Plans from the samples of *meter*, and remembers what it recommended lately."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._histories: dict[str, History] = {}

    def reconcile(self, scaler: Autoscaler, world: World) -> Iterator[Action]:
        yield CheckAgain(EVERY)
        ref = scaler.spec.scale_target_ref
        view = _SCALED.get(ref.kind)
        target = world.objects.get(view, scaler.metadata.namespace, ref.name) if view else None
        if target is None:
            text = f"the HPA controller was unable to get the target's current scale: {ref.kind} "
            text += ref.name
            yield from _report(
                scaler, _noted(scaler, world, AbleToScale=("False", "FailedGetScale", text))
            )
            return
        current = target.spec.replicas
        if current == 0 and scaler.spec.min_replicas != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            off = _noted(scaler, world, ScalingActive=("False", "ScalingDisabled", text))
            yield from _report(scaler, replace(off, current_replicas=0, desired_replicas=0))
            return
        yield from self._scale(scaler, target, world)

    def _scale(self, scaler: Autoscaler, target: Any, world: World) -> Iterator[Action]:
        current, bounds = target.spec.replicas, (scaler.spec.min_replicas, scaler.spec.max_replicas)
        if not bounds[0] <= current <= bounds[1]:
            edge = bounds[1] if current > bounds[1] else bounds[0]
            reason = "TooManyReplicas" if current > bounds[1] else "TooFewReplicas"
            limited = ("True", reason, _WORDS[reason])
            status = _noted(scaler, world, ScalingLimited=limited)
            yield from self._apply(scaler, target, replace(status, desired_replicas=edge), world)
            return
        proposals, problems = self._proposals(scaler, target, world)
        wanted = max((p.replicas for p in proposals), default=current)
        if not proposals or (problems and wanted < current):
            problem = problems[0]
            text = f"the HPA was unable to compute the replica count: {problem}"
            inactive = ("False", problem.reason, text)
            status = _noted(scaler, world, ScalingActive=inactive)
            if not _says(scaler, "ScalingActive", problem.reason):
                yield RecordEvent(scaler, problem.reason, str(problem), "Warning")
            yield from _report(
                scaler, replace(status, current_replicas=current, desired_replicas=current)
            )
            return
        verdict = self._decided(scaler, current, wanted, world)
        status = _judged(scaler, verdict, proposals, world)
        yield from self._apply(scaler, target, status, world)

    def _decided(self, scaler: Autoscaler, current: int, wanted: int, world: World) -> Verdict:
        key, behaviour = scaler.metadata.uid, scaler.spec.behavior
        history = self._histories.get(key, History())
        if not history.recommended:
            history = history.with_recommendation(world.clock, current, behaviour)
        history = history.with_recommendation(world.clock, wanted, behaviour)
        bounds = scaler.spec.min_replicas, scaler.spec.max_replicas
        self._histories[key] = history
        return decide(history, behaviour, current, bounds, world.clock)

    def _apply(
        self, scaler: Autoscaler, target: Any, status: AutoscalerStatus, world: World
    ) -> Iterator[Action]:
        current, wanted = target.spec.replicas, status.desired_replicas or 0
        status = replace(status, current_replicas=current)
        if wanted != current:
            history = self._histories.get(scaler.metadata.uid, History())
            self._histories[scaler.metadata.uid] = history.with_scaling(
                world.clock, wanted - current
            )
            text = f"New size: {wanted}; reason: {_why(status)}"
            done = RecordEvent(scaler, "SuccessfulRescale", text)
            yield Patch(target, {"spec": {"replicas": wanted}}, subresource="scale", done=done)
            status = replace(status, last_scale_time=seconds(world.now))
        yield from _report(scaler, status)

    def _proposals(
        self, scaler: Autoscaler, target: Any, world: World
    ) -> tuple[list[Proposal], list[Unmeasured]]:
        proposals, problems = [], []
        for metric in scaler.spec.metrics or (BY_DEFAULT,):
            try:
                proposals.append(self._proposed(scaler, metric, target, world))
            except Unmeasured as problem:
                problems.append(problem)
        return proposals, problems

    def _proposed(self, scaler: Autoscaler, metric: Metric, target: Any, world: World) -> Proposal:
        asked = metric.resource or metric.container_resource
        if asked is None or metric.type not in {"Resource", "ContainerResource"}:
            raise Unmeasured(
                f"FailedGet{metric.type}Metric", f"{metric.type} metrics have no source here"
            )
        reason = f"FailedGet{metric.type}Metric"
        pods = _pods(target, world)
        if not self._meter.samples:
            text = self._meter.problem or "no metrics returned from resource metrics API"
            raise Unmeasured(reason, f"failed to get {asked.name} utilization: {text}")
        load = load_of(asked, pods, self._meter.samples, world.now, reason)
        if not load.used:
            raise Unmeasured(reason, f"did not receive metrics for targeted pods ({asked.name})")
        tolerance = tolerance_of(scaler.spec.behavior)
        replicas = replicas_for(load, target.spec.replicas, tolerance)
        return Proposal(replicas, _shown(metric, asked, load))


def _pods(target: Any, world: World) -> list[Pod]:
    selector = _selector(target)
    pods = world.objects.all(Pod, target.metadata.namespace)
    return [p for p in pods if selector and selector.matches(p.metadata.labels)]


def _selector(target: Any) -> Selector | None:
    if isinstance(target, ReplicationController):
        terms = ",".join(f"{key}={value}" for key, value in target.spec.selector.items())
        return parse_label_selector(terms) if terms else None
    return from_label_selector(target.spec.selector)


def load_of(
    asked: ResourceMetric,
    pods: Sequence[Pod],
    samples: Mapping[str, Sample],
    now: datetime,
    reason: str,
) -> Load:
    """Sort Pods into those that count, those that are not ready yet, and those not measured."""
    used: dict[str, float] = {}
    goal: dict[str, float] = {}
    unready, missing = set(), set()
    for pod in pods:
        if not pod.live:
            continue
        name, sample = pod.metadata.name, samples.get(pod.metadata.key)
        goal[name] = _goal(asked, pod, reason)
        if pod.status.phase == "Pending" or (
            sample and asked.name == "cpu" and _warms_up(pod, now)
        ):
            unready.add(name)
        elif sample is None or (amount := _amount(asked, sample)) is None:
            missing.add(name)
        else:
            used[name] = amount
    return Load(used, goal, frozenset(unready), frozenset(missing))


def _warms_up(pod: Pod, now: datetime) -> bool:
    """Whether a Pod's CPU tells of its start rather than of its work."""
    started = pod.status.start_time
    ready = condition(pod.status.conditions, "Ready")
    if started is None or ready is None:
        return True
    return ready.status != "True" and now < started + WARM_UP


def _amount(asked: ResourceMetric, sample: Sample) -> float | None:
    """What the whole Pod, or the one container, used; None if that was not measured."""
    chosen = [c for name, c in sample.containers.items() if asked.container in {"", name}]
    if not chosen or any(asked.name not in used for used in chosen):
        return None
    return sum(used[asked.name] for used in chosen)


def _goal(asked: ResourceMetric, pod: Pod, reason: str) -> float:
    target = asked.target
    if target.average_utilization is None:
        if target.average_value is None:
            raise Unmeasured(reason, "the metric has neither a target utilization nor a value")
        return float(quantities.parse(target.average_value))
    return float(_request(asked, pod, reason)) * target.average_utilization / 100


def _request(asked: ResourceMetric, pod: Pod, reason: str) -> Decimal:
    total = Decimal()
    for container in _containers(pod):
        if asked.container not in {"", container.name}:
            continue
        request = container.resources.requests.get(asked.name)
        if request is None:
            raise Unmeasured(
                reason,
                f"missing request for {asked.name} in container {container.name} "
                f"of Pod {pod.metadata.name}",
            )
        total += quantities.parse(request)
    return total


def _containers(pod: Pod) -> Iterable[Container]:
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    return (*pod.spec.containers, *sidecars)


def _shown(metric: Metric, asked: ResourceMetric, load: Load) -> Object:
    average = sum(load.used.values()) / len(load.used)
    current: Object = {"averageValue": _written(asked.name, average)}
    if (share := asked.target.average_utilization) is not None:
        current["averageUtilization"] = round(load.ratio * share)
    what: Object = {"name": asked.name, "current": current}
    if asked.container:
        what["container"] = asked.container
    field = "resource" if metric.type == "Resource" else "containerResource"
    return {"type": metric.type, field: what}


def _written(resource: str, amount: float) -> str:
    if resource == "cpu":
        return f"{round(amount * 1000)}m"
    return str(round(amount))


def _says(scaler: Autoscaler, type_: str, reason: str) -> bool:
    held = condition(scaler.status.conditions, type_)
    return held is not None and held.reason == reason


def _noted(scaler: Autoscaler, world: World, **verdicts: tuple[str, str, str]) -> AutoscalerStatus:
    """Return the status with these conditions; unless said otherwise the target can be scaled."""
    able = (
        "True",
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale",
    )
    conditions: list[Condition] = scaler.status.conditions
    for type_, (status, reason, message) in ({"AbleToScale": able} | verdicts).items():
        new = Condition(type_, status, reason, message, last_transition_time=seconds(world.now))
        conditions = with_condition(conditions, new)
    return replace(
        scaler.status, conditions=conditions, observed_generation=scaler.metadata.generation
    )


def _judged(
    scaler: Autoscaler, verdict: Verdict, proposals: Sequence[Proposal], world: World
) -> AutoscalerStatus:
    shown = [proposal.shown for proposal in proposals]
    text = "the HPA was able to successfully calculate a replica count"
    limit = ("True", verdict.limited_by, _WORDS[verdict.limited_by]) if verdict.limited_by else (
        "False", "DesiredWithinRange", _RANGE)  # fmt: skip
    status = _noted(
        scaler, world, ScalingActive=("True", "ValidMetricFound", text), ScalingLimited=limit
    )
    return replace(status, current_metrics=shown, desired_replicas=verdict.replicas)


def _why(status: AutoscalerStatus) -> str:
    if (limited := condition(status.conditions, "ScalingLimited")) and limited.status == "True":
        return limited.message
    shown = [m.get("resource") or m["containerResource"] for m in status.current_metrics]
    return f"{' and '.join(what['name'] for what in shown)} resource utilization"


def _report(scaler: Autoscaler, status: AutoscalerStatus) -> Iterator[Action]:
    if patch := difference(scaler.status, status):
        yield set_status(scaler, patch)


def controller(meter: Meter) -> Controller:
    return Controller(
        "horizontal-pod-autoscaler",
        {Autoscaler: itself},
        for_each(Autoscaler, Autoscalers(meter).reconcile),
    )
