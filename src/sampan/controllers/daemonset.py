"""Keep a Pod of every DaemonSet on each node that it means, and roll them node by node.

What a node needs is decided by that node's own Pods; only a rolling update looks at all of them.
Rules, events and status are those of Kubernetes' DaemonSet controller.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.api import kinds
from sampan.api.objects import IntOrString, Node, Pod
from sampan.api.selectors import from_label_selector
from sampan.client.cache import Delta
from sampan.controllers.availability import available_in, counts_as_ready
from sampan.controllers.claims import claim
from sampan.controllers.daemon_nodes import Fit, fit, new_pod, target
from sampan.controllers.history import HASH, History, surplus, trace
from sampan.controllers.ownership import its_pods
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    Reader,
    RecordEvent,
    World,
    for_each,
    its_controller,
    itself,
    set_status,
)
from sampan.controllers.status import difference
from sampan.controllers.views_apps import ControllerRevision, DaemonSet, DaemonSetStatus

NAME: Final = "daemonset-controller"
ENDED_STAYS: Final = 5.0
"""How old, in seconds, a Pod gets at least before it is replaced because it has ended."""
BURST: Final = 250
"""How many Pods one plan may create or delete: Kubernetes' own bound."""


@dataclass(frozen=True, slots=True)
class Situation:
    ds: DaemonSet
    digest: str
    fits: Mapping[str, Fit]
    nodes: Sequence[str]
    """Where a Pod belongs."""
    surge: int
    """How many nodes may have an old and a new Pod at once."""
    pods: Mapping[str, Sequence[Pod]]
    """By node, oldest first."""
    world: World

    def updated(self, pod: Pod) -> bool:
        return pod.metadata.labels.get(HASH) == self.digest

    def wait(self, pod: Pod) -> float | None:
        """Seconds until *pod* is available; None while it is not even ready."""
        if not counts_as_ready(pod, self.world.objects):
            return None
        return available_in(pod, self.ds.spec.min_ready_seconds, self.world.now)

    def available(self, pod: Pod) -> bool:
        return self.wait(pod) == 0

    def staying(self, node: str) -> list[Pod]:
        return [pod for pod in self.pods.get(node, ()) if not pod.metadata.deleting]

    @property
    def max_unavailable(self) -> int:
        update = self.ds.spec.update_strategy.rolling_update
        amount = _share(update.max_unavailable, len(self.nodes))
        return amount if amount or self.surge else 1


def _share(amount: IntOrString, total: int) -> int:
    """Resolve a number or a percentage, rounded up."""
    if isinstance(amount, str):
        return -(-int(amount.removesuffix("%")) * total // 100)
    return amount


def reconcile(ds: DaemonSet, world: World) -> Iterator[Action]:
    selector = from_label_selector(ds.spec.selector)
    if selector is None or not selector.requirements:
        text = "This daemon set is selecting all pods. A non-empty selector is required."
        yield RecordEvent(ds, "SelectingAll", text, "Warning")
        return
    pods = claim(
        ds,
        selector,
        world.objects.by(Pod, "owner", ds.metadata.uid),
        (p for p in world.objects.by(Pod, "orphan", ds.metadata.namespace) if p.live),
    )
    yield from pods.changes()
    history = trace(ds, selector, world.objects, HASH)
    yield from history.writes
    if history.collided:
        yield set_status(ds, {"collisionCount": (ds.status.collision_count or 0) + 1})
    if history.present is None:
        return
    s = _situation(ds, history.present.metadata.labels[HASH], pods.members, world)
    yield from _told(s)
    if not ds.metadata.deleting:
        placed = _placed(s)
        yield from placed
        if not any(isinstance(action, Create | Delete) for action in placed):
            yield from _rolled(s)
        yield from _forget(s, history)
    yield from _report(s)


def _situation(ds: DaemonSet, digest: str, pods: Iterable[Pod], world: World) -> Situation:
    by_node: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in sorted(pods, key=_age):
        by_node[target(pod)].append(pod)
    fits = {node.metadata.name: fit(ds, node) for node in world.objects.all(Node)}
    nodes = [node for node, found in fits.items() if found.belongs]
    update = ds.spec.update_strategy
    rolls = update.type == "RollingUpdate"
    surge = _share(update.rolling_update.max_surge, len(nodes)) if rolls else 0
    return Situation(ds, digest, fits, nodes, surge, by_node, world)


def _age(pod: Pod) -> tuple[bool, float, str]:
    """Order Pods oldest first; one that has no node yet comes after those that have."""
    created = pod.metadata.creation_timestamp
    at = created.timestamp() if created else 0.0
    return not pod.spec.node_name, at, pod.metadata.name


def _placed(s: Situation) -> list[Action]:
    """A Pod where one is missing; none where it does not belong, has ended or is one too many."""
    creations: list[Action] = []
    deletions: list[Action] = []
    for node, found in s.fits.items():
        if found.stays:
            deletions += _excess(s, node)
            present = s.pods.get(node) if not s.surge else s.staying(node)
            if found.belongs and not present:
                creations.append(_create(s, node))
        else:
            deletions += [_delete(s, pod) for pod in s.staying(node)]
    for node in s.pods.keys() - s.fits.keys():
        deletions += [_delete(s, pod) for pod in s.staying(node) if not pod.spec.node_name]
    return [*creations[:BURST], *deletions[:BURST]]


def _excess(s: Situation, node: str) -> list[Action]:
    """Delete a node's Pods that have ended, and all but the oldest of the others.

    With a surge, an old Pod may stay beside the new one until that is available.
    """
    actions: list[Action] = []
    running = []
    for pod in s.staying(node):
        if pod.finished and (left := _remains(s, pod)) > 0:
            actions.append(CheckAgain(left))
        elif pod.finished:
            actions += [_ended(s, pod, node), _delete(s, pod)]
        else:
            running.append(pod)
    if not s.surge:
        return [*actions, *(_delete(s, pod) for pod in running[1:])]
    new = [pod for pod in running if s.updated(pod)]
    old = [pod for pod in running if not s.updated(pod)]
    surplus = [*new[1:], *old[1:]]
    if new and old and (s.available(new[0]) or not s.available(old[0])):
        surplus.append(old[0])
    return [*actions, *(_delete(s, pod) for pod in surplus)]


def _remains(s: Situation, pod: Pod) -> float:
    """Seconds that a Pod which ended at once is left, lest it be made again without a pause."""
    created = pod.metadata.creation_timestamp or s.world.now
    return ENDED_STAYS - (s.world.now - created).total_seconds()


def _ended(s: Situation, pod: Pod, node: str) -> RecordEvent:
    where = f"daemon pod {pod.metadata.namespace}/{pod.metadata.name} on node {node}"
    if pod.status.phase == "Failed":
        text = f"Found failed {where}, will try to kill it"
        return RecordEvent(s.ds, "FailedDaemonPod", text, "Warning")
    text = f"Found succeeded {where}, will try to delete it"
    return RecordEvent(s.ds, "SucceededDaemonPod", text)


def _create(s: Situation, node: str) -> Create:
    done = RecordEvent(s.ds, "SuccessfulCreate", "Created pod: {name}")
    return Create(kinds.PODS, new_pod(s.ds, node, s.digest), done)


def _delete(s: Situation, pod: Pod) -> Delete:
    return Delete(pod, done=RecordEvent(s.ds, "SuccessfulDelete", "Deleted pod: {name}"))


def _rolled(s: Situation) -> list[Action]:
    if s.ds.spec.update_strategy.type != "RollingUpdate":
        return []
    return (_surged(s) if s.surge else _replaced(s))[:BURST]


def _replaced(s: Situation) -> list[Action]:
    """Delete old Pods: those that are not available anyway, and of the rest as many as may be."""
    away = 0
    broken: list[Pod] = []
    candidates: list[Pod] = []
    for node in s.nodes:
        staying = s.staying(node)
        if len(staying) != 1:
            away += 1
        elif s.updated(staying[0]):
            away += not s.available(staying[0])
        elif s.available(staying[0]):
            candidates.append(staying[0])
        else:
            away += 1
            broken.append(staying[0])
    room = max(s.max_unavailable - away, 0)
    return [_delete(s, pod) for pod in (*broken, *candidates[:room])]


def _surged(s: Situation) -> list[Action]:
    """Put new Pods beside old ones: where those are not available, and elsewhere as may be."""
    extra = 0
    broken: list[str] = []
    candidates: list[str] = []
    for node in s.nodes:
        staying = s.staying(node)
        if len(staying) > 1:
            extra += 1
        elif staying and not s.updated(staying[0]):
            (candidates if s.available(staying[0]) else broken).append(node)
    room = max(s.surge - extra, 0)
    return [_create(s, node) for node in (*broken, *candidates[:room])]


def _told(s: Situation) -> Iterator[Action]:
    """Tell people of a write that was refused."""
    if failure := s.world.failure:
        match failure.write:
            case Create(kinds.PODS):
                text = f"Error creating: {failure.error.message}"
                yield RecordEvent(s.ds, "FailedCreate", text, "Warning")
            case Delete(Pod()):
                text = f"Error deleting: {failure.error.message}"
                yield RecordEvent(s.ds, "FailedDelete", text, "Warning")


def _forget(s: Situation, history: History) -> Iterator[Action]:
    live = {s.digest}
    for pods in s.pods.values():
        live |= {pod.metadata.labels.get(HASH, "") for pod in pods}
    carried = {
        revision.metadata.name
        for revision in history.revisions
        if revision.metadata.labels.get(HASH) in live
    }
    yield from surplus(history, carried, s.ds.spec.revision_history_limit)


def _report(s: Situation) -> Iterator[Action]:
    first = {node: pods[0] for node, pods in s.pods.items() if pods}
    serving = [first[node] for node in s.nodes if node in first]
    waits = [s.wait(pod) for pod in serving]
    desired, available = len(s.nodes), sum(wait == 0 for wait in waits)
    status = DaemonSetStatus(
        current_number_scheduled=len(serving),
        desired_number_scheduled=desired,
        number_misscheduled=sum(node in first and not f.belongs for node, f in s.fits.items()),
        number_ready=sum(wait is not None for wait in waits),
        number_available=available,
        number_unavailable=desired - available,
        updated_number_scheduled=sum(s.updated(pod) for pod in serving),
        observed_generation=s.ds.metadata.generation,
        collision_count=s.ds.status.collision_count,
        conditions=s.ds.status.conditions,
    )
    if patch := difference(s.ds.status, status):
        yield set_status(s.ds, patch)
    if later := [wait for wait in waits if wait]:
        yield CheckAgain(min(later))


def _node_changed(delta: Delta[Node], objects: Reader) -> Iterable[str]:
    """Every DaemonSet, if the node changed in what they look at."""
    old, new = delta.old, delta.new
    if old and new and _seen(old) == _seen(new):
        return ()
    return [ds.metadata.key for ds in objects.all(DaemonSet)]


def _seen(node: Node) -> tuple[object, ...]:
    return node.metadata.labels, node.spec.taints, node.ready


CONTROLLER: Final = Controller(
    NAME,
    {
        DaemonSet: itself,
        Pod: its_pods(DaemonSet, lambda ds: from_label_selector(ds.spec.selector)),
        Node: _node_changed,
        ControllerRevision: its_controller(kinds.DAEMON_SETS),
    },
    for_each(DaemonSet, reconcile),
)
