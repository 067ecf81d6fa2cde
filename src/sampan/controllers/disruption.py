"""Say for every PodDisruptionBudget how many of its Pods may go at this moment.

The eviction subresource takes one from `disruptionsAllowed` and notes the Pod in `disruptedPods`
before it deletes it, so that two evictions never spend the same permission; here both are put
right from the Pods that are there. Numbers, reasons and messages are those of Kubernetes'
disruption controller.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sampan.api.objects import Condition, IntOrString, Node, Object, Pod
from sampan.api.selectors import Selector, from_label_selector
from sampan.client.cache import Delta
from sampan.controllers.availability import counts_as_ready
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
)
from sampan.controllers.status import difference, with_condition
from sampan.controllers.views import Deployment, ReplicaSet, seconds
from sampan.controllers.views_apps import ReplicationController, StatefulSet
from sampan.controllers.views_policy import Budget, BudgetStatus

DELETED_WITHIN: Final = timedelta(minutes=2)
"""How long a Pod counts as disrupted while its deletion does not show."""
ALLOWED: Final = "DisruptionAllowed"


class Uncountable(Exception):
    """The budget's percentage means nothing for some of its Pods; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Need:
    """How many Pods there should be, and how many of them healthy."""

    expected: int
    healthy: int


def reconcile(budget: Budget, world: World) -> Iterator[Action]:
    selector = from_label_selector(budget.spec.selector)
    if selector is None:
        return
    pods = guarded(budget, selector, world.objects)
    going = _disrupted(budget, pods, world)
    try:
        need = needed(budget, pods, world.objects)
    except Uncountable as error:
        yield from _report(budget, _unknown(budget, str(error), world), world)
        return
    healthy = sum(
        pod.live and pod.metadata.name not in going and counts_as_ready(pod, world.objects)
        for pod in pods
    )
    allowed = max(healthy - need.healthy, 0) if need.expected > 0 else 0
    status = BudgetStatus(
        observed_generation=budget.metadata.generation,
        disruptions_allowed=allowed,
        current_healthy=healthy,
        desired_healthy=need.healthy,
        expected_pods=need.expected,
        disrupted_pods=dict(going),
        conditions=_verdict(budget, world, allowed=allowed > 0),
    )
    yield from _report(budget, status, world)


def guarded(budget: Budget, selector: Selector, objects: Reader) -> list[Pod]:
    """Return the Pods that the budget speaks of: an empty selector means all of the namespace."""
    pods = objects.all(Pod, budget.metadata.namespace)
    return [pod for pod in pods if selector.matches(pod.metadata.labels) and not pod.finished]


def needed(budget: Budget, pods: Sequence[Pod], objects: Reader) -> Need:
    """Resolve minAvailable or maxUnavailable; percentages are of what the owners ask for."""
    least, most = budget.spec.min_available, budget.spec.max_unavailable
    if most is not None:
        expected = asked_for(pods, objects)
        return Need(expected, max(expected - resolve(most, expected), 0))
    if isinstance(least, str):
        expected = asked_for(pods, objects)
        return Need(expected, resolve(least, expected))
    return Need(len(pods), least or 0)


def resolve(amount: IntOrString, total: int) -> int:
    """Return a number as it is and a percentage of *total*, rounded up."""
    if isinstance(amount, int):
        return amount
    text = amount.removesuffix("%")
    if not text.isdecimal() or text == amount:
        raise Uncountable(f"invalid value {amount!r}: neither a number nor a percentage")
    return -(-int(text) * total // 100)


def asked_for(pods: Iterable[Pod], objects: Reader) -> int:
    """Add up the replicas of the workloads that own *pods*; each workload counts once.

    A Pod without an owner counts as nothing, as in Kubernetes.
    """
    scales: dict[str, int] = {}
    for pod in pods:
        owner = pod.metadata.controller
        if owner is None:
            continue
        uid, replicas = _scale(pod, objects)
        scales[uid] = replicas
    return sum(scales.values())


_SCALED: Final[Mapping[str, Any]] = {
    "ReplicaSet": ReplicaSet,
    "StatefulSet": StatefulSet,
    "ReplicationController": ReplicationController,
}


def _scale(pod: Pod, objects: Reader) -> tuple[str, int]:
    """Return the uid and the wanted replicas of the workload at the top of *pod*'s owners."""
    ref, space = pod.metadata.controller, pod.metadata.namespace
    view = _SCALED.get(ref.kind) if ref else None
    if ref is None or view is None:
        kind = ref.kind if ref else ""
        raise Uncountable(f"{kind.lower()}s does not implement the scale subresource")
    owner = objects.get(view, space, ref.name)
    if owner is None or owner.metadata.uid != ref.uid:
        return ref.uid, 0
    above = owner.metadata.controller
    deployment = objects.get(Deployment, space, above.name) if above else None
    top = deployment if deployment and above and deployment.metadata.uid == above.uid else owner
    return top.metadata.uid, top.spec.replicas


def _disrupted(budget: Budget, pods: Iterable[Pod], world: World) -> dict[str, Any]:
    """Return what was evicted and is still waiting to be deleted."""
    here = {pod.metadata.name for pod in pods if not pod.metadata.deleting}
    return {
        name: at
        for name, at in budget.status.disrupted_pods.items()
        if name in here and world.now < at + DELETED_WITHIN
    }


def _verdict(budget: Budget, world: World, *, allowed: bool) -> list[Condition]:
    status, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    return _with(budget, Condition(ALLOWED, status, reason), world)


def _with(budget: Budget, verdict: Condition, world: World) -> list[Condition]:
    told = replace(
        verdict,
        last_transition_time=seconds(world.now),
        observed_generation=budget.metadata.generation,
    )
    held = [
        replace(c, observed_generation=told.observed_generation) if c.type == ALLOWED else c
        for c in budget.status.conditions
    ]
    return with_condition(held, told)


def _unknown(budget: Budget, why: str, world: World) -> BudgetStatus:
    verdict = Condition(ALLOWED, "False", "SyncFailed", why)
    return replace(
        budget.status,
        observed_generation=budget.metadata.generation,
        disruptions_allowed=0,
        conditions=_with(budget, verdict, world),
    )


def _report(budget: Budget, status: BudgetStatus, world: World) -> Iterator[Action]:
    """Write what changed, unless an eviction has changed the budget meanwhile."""
    patch = difference(budget.status, status)
    if "disruptedPods" in patch:
        gone = dict.fromkeys(budget.status.disrupted_pods.keys() - status.disrupted_pods.keys())
        patch["disruptedPods"] = {**msgspec.to_builtins(status.disrupted_pods), **gone}
    if patch:
        yield from _news(budget, status)
        version = {"resourceVersion": budget.metadata.resource_version}
        yield Patch(budget, {"metadata": version, "status": patch}, subresource="status")
    if status.disrupted_pods:
        first = min(status.disrupted_pods.values()) + DELETED_WITHIN
        yield CheckAgain(max((first - world.now).total_seconds(), 0) + 1)


def _news(budget: Budget, status: BudgetStatus) -> Iterator[RecordEvent]:
    verdict = next(c for c in status.conditions if c.type == ALLOWED)
    if verdict.reason == "SyncFailed":
        text = f"Failed to calculate the number of expected pods: {verdict.message}"
        yield RecordEvent(budget, "CalculateExpectedPodCountFailed", text, "Warning")
    elif not status.expected_pods:
        yield RecordEvent(budget, "NoPods", "No matching pods found")


def _guards(delta: Delta[Pod], objects: Reader) -> Iterable[str]:
    """The budgets of a Pod whose health, labels or life changed."""
    if delta.old and delta.new and _essence(delta.old) == _essence(delta.new):
        return ()
    return _of_pods([pod for pod in (delta.old, delta.new) if pod], objects)


def _on_node(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    """The budgets of Pods on a node that is lost or found again."""
    if delta.old and delta.new and delta.old.ready == delta.new.ready:
        return ()
    return _of_pods(objects.by(Pod, "node", delta.latest.metadata.name), objects)


def _of_pods(pods: Iterable[Pod], objects: Reader) -> Iterable[str]:
    return sorted(
        {
            budget.metadata.key
            for pod in pods
            for budget in _budgets(pod.metadata.namespace, objects)
            if _means(budget, pod.metadata.labels)
        }
    )


def _essence(pod: Pod) -> tuple[object, ...]:
    meta = pod.metadata
    return meta.labels, meta.deleting, pod.ready, pod.finished, pod.spec.node_name


def _means(budget: Budget, labels: Mapping[str, str]) -> bool:
    selector = from_label_selector(budget.spec.selector)
    return selector is not None and selector.matches(labels)


def _budgets(namespace: str, objects: Reader) -> Sequence[Budget]:
    return objects.all(Budget, namespace)


def _resized(delta: Delta[Any], objects: Reader) -> Iterable[str]:
    """The budgets that may speak of a workload whose size changed."""
    old, new = delta.old, delta.new
    if old and new and old.spec.replicas == new.spec.replicas:
        return ()
    labels = _template_labels(delta.latest.spec.template)
    budgets = _budgets(delta.latest.metadata.namespace, objects)
    return [budget.metadata.key for budget in budgets if _means(budget, labels)]


def _template_labels(template: Object) -> dict[str, str]:
    return (template.get("metadata") or {}).get("labels") or {}


CONTROLLER: Final = Controller(
    "disruption-controller",
    {
        Budget: itself,
        Pod: _guards,
        Node: _on_node,
        Deployment: _resized,
        ReplicaSet: _resized,
        StatefulSet: _resized,
        ReplicationController: _resized,
    },
    for_each(Budget, reconcile),
)
