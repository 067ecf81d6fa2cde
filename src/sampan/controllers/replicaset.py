"""Keep `spec.replicas` live Pods for every ReplicaSet, and for every ReplicationController.

Which Pods go first when there are too many, and every status field, follow Kubernetes'
ReplicaSet controller (its documentation, "ReplicaSet" and "Pod deletion cost").
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from sampan.api import kinds
from sampan.api.objects import Condition, Node, Object, Pod, Resource
from sampan.api.selectors import Selector, from_label_selector
from sampan.controllers import relocation
from sampan.controllers.availability import available_in, counts_as_ready, ready_since
from sampan.controllers.claims import claim
from sampan.controllers.ownership import its_pods, with_pods_on
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    Failure,
    Reader,
    RecordEvent,
    World,
    for_each,
    itself,
    set_status,
)
from sampan.controllers.status import difference, with_condition, without_condition
from sampan.controllers.views import ReplicaSet, ReplicaSetStatus, reference, seconds
from sampan.controllers.views_apps import ReplicationController

NAME: Final = "replicaset-controller"
BURST: Final = 500
"""How many Pods one plan may create or delete: Kubernetes' own bound."""
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}


Replicated: TypeAlias = ReplicaSet | ReplicationController


def reconcile(rs: ReplicaSet, world: World) -> Iterator[Action]:
    selector = from_label_selector(rs.spec.selector)
    if selector is not None and selector.requirements:
        yield from keep(rs, selector, world)


def keep(rs: Replicated, selector: Selector, world: World) -> Iterator[Action]:
    """Own the Pods that *selector* means, report on them, and make or delete what differs."""
    pods = claim(
        rs,
        selector,
        world.objects.by(Pod, "owner", rs.metadata.uid),
        (p for p in world.objects.by(Pod, "orphan", rs.metadata.namespace) if p.live),
    )
    yield from pods.changes()
    live = [pod for pod in pods.members if pod.live]
    yield from _report(rs, live, world)
    if not rs.metadata.deleting:
        yield from _resize(rs, live, world)


def _resize(rs: Replicated, live: Sequence[Pod], world: World) -> Iterator[Action]:
    going = relocation.leaving(live, world.now)
    staying = [pod for pod in live if pod not in going] if going else live
    missing = rs.spec.replicas - len(staying)
    if missing > 0:
        done = RecordEvent(rs, "SuccessfulCreate", "Created pod: {name}")
        for _ in range(min(missing, BURST)):
            yield Create(kinds.PODS, pod_from_template(rs, rs.spec.template), done)
    elif missing < 0:
        related = _relatives(rs, staying, world.objects)
        done = RecordEvent(rs, "SuccessfulDelete", "Deleted pod: {name}")
        for pod in cheapest_first(staying, related, world.now)[: min(-missing, BURST)]:
            yield Delete(pod, done=done)
    ready_for = rs.spec.min_ready_seconds
    yield from relocation.released(going, staying, rs.spec.replicas, ready_for, world)


def _relatives(rs: Replicated, live: Sequence[Pod], objects: Reader) -> list[Pod]:
    """Return the live Pods of all sets under the same Deployment: doubled-up ones go first."""
    owner = rs.metadata.controller
    if owner is None:
        return list(live)
    siblings = objects.by(ReplicaSet, "owner", owner.uid)
    pods = (pod for sibling in siblings for pod in objects.by(Pod, "owner", sibling.metadata.uid))
    return [pod for pod in pods if pod.live]


def cheapest_first(pods: Sequence[Pod], related: Iterable[Pod], now: datetime) -> list[Pod]:
    """Rank Pods by the harm of losing them, least first, exactly as Kubernetes ranks."""
    crowd = Counter(pod.spec.node_name for pod in related)

    def harm(pod: Pod) -> tuple[object, ...]:
        return (
            bool(pod.spec.node_name),
            _PHASES.get(pod.status.phase, 1),
            pod.ready,
            deletion_cost(pod),
            -crowd[pod.spec.node_name],
            _age_class(ready_since(pod), now) if pod.ready else 0,
            -max((c.restart_count for c in pod.status.container_statuses), default=0),
            _age_class(pod.metadata.creation_timestamp, now),
            pod.metadata.uid,
        )

    return sorted(pods, key=harm)


def deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _age_class(since: datetime | None, now: datetime) -> int:
    """Ages count by powers of two, so that among Pods of about one age chance decides."""
    if since is None:
        return 0
    return int(math.log2(max((now - since).total_seconds(), 0) + 1))


def _report(rs: Replicated, live: Sequence[Pod], world: World) -> Iterator[Action]:
    reached = [pod for pod in live if counts_as_ready(pod, world.objects)]
    waits = [available_in(pod, rs.spec.min_ready_seconds, world.now) for pod in reached]
    wanted_labels = _labels(rs.spec.template).items()
    status = ReplicaSetStatus(
        replicas=len(live),
        fully_labeled_replicas=sum(wanted_labels <= pod.metadata.labels.items() for pod in live),
        ready_replicas=len(reached),
        available_replicas=sum(wait == 0 for wait in waits),
        observed_generation=rs.metadata.generation,
        conditions=_conditions(rs, len(live), world),
    )
    if patch := difference(rs.status, status):
        yield set_status(rs, patch)
    if (failure := world.failure) and (told := _told(failure)):
        yield RecordEvent(rs, told[0], told[1], "Warning")
    if later := [wait for wait in waits if wait]:
        yield CheckAgain(min(later))


def _conditions(rs: Replicated, live: int, world: World) -> list[Condition]:
    told = _told(world.failure) if world.failure else None
    if not told or live == rs.spec.replicas:
        return without_condition(rs.status.conditions, "ReplicaFailure")
    reason, message = told[0], world.failure.error.message if world.failure else ""
    now = seconds(world.now)
    failed = Condition("ReplicaFailure", "True", reason, message, last_transition_time=now)
    return with_condition(rs.status.conditions, failed)


def _told(failure: Failure) -> tuple[str, str] | None:
    match failure.write:
        case Create():
            return "FailedCreate", f"Error creating: {failure.error.message}"
        case Delete():
            return "FailedDelete", f"Error deleting: {failure.error.message}"
    return None


def _labels(template: Object) -> dict[str, str]:
    return (template.get("metadata") or {}).get("labels") or {}


def pod_from_template(owner: Resource, template: Object) -> Object:
    """Return a Pod of *template*, controlled by *owner*, with a name that the server completes."""
    metadata = {
        key: value
        for key in ("labels", "annotations", "finalizers")
        if (value := (template.get("metadata") or {}).get(key))
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "generateName": f"{owner.metadata.name}-",
            "namespace": owner.metadata.namespace,
            "ownerReferences": [reference(owner)],
        },
        "spec": template.get("spec") or {},
    }


CONTROLLER: Final = Controller(
    NAME,
    {
        ReplicaSet: itself,
        Pod: its_pods(ReplicaSet, lambda rs: from_label_selector(rs.spec.selector)),
        Node: with_pods_on(kinds.REPLICA_SETS),
    },
    for_each(ReplicaSet, reconcile),
)
