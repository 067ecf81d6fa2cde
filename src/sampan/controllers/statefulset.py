"""Keep the numbered Pods of every StatefulSet: each with its name, its claims and its turn.

One plan does what may happen now: create the next Pod, remove the last one, replace one of an
earlier template. Order, names, events and status are those of Kubernetes' StatefulSet controller.
A Pod that cannot start is replaced once the template was changed, which in Kubernetes takes a
`kubectl delete pod` (kubernetes/kubernetes#67250).
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from sampan.api import kinds
from sampan.api.objects import Node, Pod, condition
from sampan.api.selectors import from_label_selector
from sampan.client.cache import Delta
from sampan.controllers.availability import available_in, counts_as_ready
from sampan.controllers.claims import claim
from sampan.controllers.history import HASH, History, surplus, trace
from sampan.controllers.ownership import its_pods, with_pods_on
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    Patch,
    Reader,
    RecordEvent,
    World,
    for_each,
    its_controller,
    itself,
    set_status,
)
from sampan.controllers.stateful_pods import (
    claim_names,
    identity,
    kept_claim,
    new_claim,
    new_pod,
    ordinal,
    pod_name,
    stale,
)
from sampan.controllers.status import difference
from sampan.controllers.views_apps import ControllerRevision, StatefulSet, StatefulSetStatus
from sampan.controllers.views_storage import Claim

NAME: Final = "statefulset-controller"
REVISION_HASH: Final = "controller.kubernetes.io/hash"
_STUCK: Final = frozenset({
    "CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
})  # fmt: skip

Step = Generator[Action, None, bool]
"""Yields what to do; returns whether all that comes later must wait."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A set, the Pods it has by number, and the revisions it comes from and goes to."""

    sts: StatefulSet
    pods: dict[int, Pod]
    current: ControllerRevision
    update: ControllerRevision
    world: World

    @property
    def numbers(self) -> range:
        start = self.sts.spec.ordinals.start
        return range(start, start + self.sts.spec.replicas)

    @property
    def condemned(self) -> list[int]:
        """The numbers beyond what is asked for, the last one first."""
        return sorted((n for n in self.pods if n not in self.numbers), reverse=True)

    @property
    def in_order(self) -> bool:
        return self.sts.spec.pod_management_policy != "Parallel"

    @property
    def rolls(self) -> bool:
        return self.sts.spec.update_strategy.type == "RollingUpdate"

    @property
    def partition(self) -> int:
        """The first number that a rolling update takes to the new template."""
        update = self.sts.spec.update_strategy.rolling_update
        return self.numbers.start + update.partition

    def wait(self, pod: Pod) -> float | None:
        """Seconds until *pod* is available; None while it is not even ready."""
        if pod.status.phase != "Running" or not counts_as_ready(pod, self.world.objects):
            return None
        return available_in(pod, self.sts.spec.min_ready_seconds, self.world.now)

    def available(self, number: int) -> bool:
        pod = self.pods.get(number)
        return pod is not None and pod.live and self.wait(pod) == 0

    def outdated(self, number: int) -> bool:
        """Whether a rolling update is still to replace this Pod."""
        pod = self.pods.get(number)
        if pod is None or pod.metadata.deleting or not self.rolls or number < self.partition:
            return False
        return revision_of(pod) != self.update.metadata.name

    def revision_for(self, number: int) -> ControllerRevision:
        return self.current if self.rolls and number < self.partition else self.update


def revision_of(pod: Pod) -> str:
    return pod.metadata.labels.get(HASH, "")


def reconcile(sts: StatefulSet, world: World) -> Iterator[Action]:
    selector = from_label_selector(sts.spec.selector)
    if selector is None or not selector.requirements:
        return
    orphans = world.objects.by(Pod, "orphan", sts.metadata.namespace)
    pods = claim(
        sts,
        selector,
        world.objects.by(Pod, "owner", sts.metadata.uid),
        (pod for pod in orphans if ordinal(sts, pod) is not None and pod.live),
    )
    yield from pods.changes()
    history = trace(sts, selector, world.objects, REVISION_HASH)
    yield from history.writes
    if history.collided:
        collisions = (sts.status.collision_count or 0) + 1
        yield set_status(sts, {"collisionCount": collisions})
    if history.present is None:
        return
    numbered = {n: pod for pod in pods.members if (n := ordinal(sts, pod)) is not None}
    current = history.named(sts.status.current_revision) or history.present
    s = Situation(sts, numbered, current, history.present, world)
    yield from _told(s)
    if not sts.metadata.deleting:
        yield from _advance(s)
        yield from _forget(s, history)
    yield from _report(s)


def _advance(s: Situation) -> Iterator[Action]:
    """Fill the row, then shorten it, then bring it to the new template; in order or at once."""
    if (yield from _fill(s)):
        return
    if (yield from _shorten(s)):
        return
    if s.rolls:
        yield from _roll(s)


def _fill(s: Situation) -> Step:
    for number in s.numbers:
        pod = s.pods.get(number)
        if pod is None:
            yield from _create(s, number)
            waits = True
        elif pod.finished:
            if not pod.metadata.deleting:
                yield _delete(s, pod)
            waits = True
        elif s.in_order and not s.available(number):
            if _stuck(pod) and s.outdated(number):
                yield _delete(s, pod)
            waits = True
        else:
            yield from _kept(s, number, pod)
            waits = False
        if waits and s.in_order:
            return True
    return False


def _create(s: Situation, number: int) -> Iterator[Action]:
    """Create what a Pod claims, then the Pod; what an earlier one claimed goes first."""
    name = pod_name(s.sts, number)
    claims = claim_names(s.sts, number)
    found = {
        claim: s.world.objects.get(Claim, s.sts.metadata.namespace, claim)
        for claim in claims.values()
    }
    if any(c and (c.metadata.deleting or stale(name, c)) for c in found.values()):
        return
    of = f"in StatefulSet {s.sts.metadata.name}"
    missing = False
    for template in s.sts.spec.volume_claim_templates:
        claim = claims[template["metadata"]["name"]]
        if found[claim] is None:
            missing = True
            text = f"create Claim {claim} Pod {name} {of} success"
            body = new_claim(s.sts, template, claim)
            done = RecordEvent(s.sts, "SuccessfulCreate", text)
            yield Create(kinds.PERSISTENT_VOLUME_CLAIMS, body, done)
    if not missing:
        done = RecordEvent(s.sts, "SuccessfulCreate", f"create Pod {name} {of} successful")
        yield Create(kinds.PODS, new_pod(s.sts, s.revision_for(number), number), done)


def _kept(s: Situation, number: int, pod: Pod) -> Iterator[Action]:
    """Give a Pod back its identity, and its claims the owners that the policy asks for."""
    wanted = identity(s.sts, number)
    if not wanted.items() <= pod.metadata.labels.items() and not pod.metadata.deleting:
        text = f"update Pod {pod.metadata.name} in StatefulSet {s.sts.metadata.name} successful"
        done = RecordEvent(s.sts, "SuccessfulUpdate", text)
        yield Patch(pod, {"metadata": {"labels": wanted}}, done=done)
    yield from _claims_kept(s, number, pod, given_up=False)


def _claims_kept(s: Situation, number: int, pod: Pod, *, given_up: bool) -> Iterator[Action]:
    for name in claim_names(s.sts, number).values():
        if claim := s.world.objects.get(Claim, s.sts.metadata.namespace, name):
            yield from kept_claim(s.sts, pod, claim, given_up=given_up)


def _shorten(s: Situation) -> Step:
    """Remove the Pods beyond the last, one at a time if in order: claims are handed on before."""
    unhealthy = min((n for n in s.condemned if not s.available(n)), default=None)
    for number in s.condemned:
        pod = s.pods[number]
        waits = s.in_order and not s.available(number) and number != unhealthy
        if not pod.metadata.deleting and not waits:
            handed_on = list(_claims_kept(s, number, pod, given_up=True))
            yield from handed_on or [_delete(s, pod)]
        if s.in_order:
            return True
    return False


def _roll(s: Situation) -> Iterator[Action]:
    """Replace Pods of another template from the last down, never more than may be away.

    A Pod that is away already is replaced first: that costs nothing.
    """
    away = {n for n in s.numbers if not s.available(n)}
    room = _max_unavailable(s) - sum(not s.outdated(n) for n in away)
    outdated = [n for n in s.numbers if s.outdated(n)]
    for number in sorted(outdated, key=lambda n: (n not in away, -n))[: max(room, 0)]:
        yield _delete(s, s.pods[number])


def _max_unavailable(s: Situation) -> int:
    """Resolve maxUnavailable: rounded up, at least one."""
    amount = s.sts.spec.update_strategy.rolling_update.max_unavailable
    if isinstance(amount, str):
        amount = -(-int(amount.removesuffix("%")) * s.sts.spec.replicas // 100)
    return max(amount, 1)


def _stuck(pod: Pod) -> bool:
    """Whether a Pod will hardly become ready as it is: no node, no image, or it keeps failing."""
    scheduled = condition(pod.status.conditions, "PodScheduled")
    if scheduled and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return True
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return any((status.state.get("waiting") or {}).get("reason") in _STUCK for status in statuses)


def _delete(s: Situation, pod: Pod) -> Delete:
    text = f"delete Pod {pod.metadata.name} in StatefulSet {s.sts.metadata.name} successful"
    return Delete(pod, done=RecordEvent(s.sts, "SuccessfulDelete", text))


def _told(s: Situation) -> Iterator[Action]:
    """Tell people of a write that was refused."""
    failure, of = s.world.failure, f"in StatefulSet {s.sts.metadata.name} failed error:"
    if failure is None:
        return
    match failure.write:
        case Create(kinds.PODS, body):
            reason, what = "FailedCreate", f"create Pod {body['metadata']['name']}"
        case Create(kinds.PERSISTENT_VOLUME_CLAIMS, body):
            reason, what = "FailedCreate", f"create Claim {body['metadata']['name']}"
        case Delete(Pod() as pod):
            reason, what = "FailedDelete", f"delete Pod {pod.metadata.name}"
        case _:
            return
    yield RecordEvent(s.sts, reason, f"{what} {of} {failure.error.message}", "Warning")


def _forget(s: Situation, history: History) -> Iterator[Action]:
    live = {revision_of(pod) for pod in s.pods.values()}
    live |= {s.current.metadata.name, s.update.metadata.name}
    yield from surplus(history, live, s.sts.spec.revision_history_limit)


def _report(s: Situation) -> Iterator[Action]:
    waits = [s.wait(pod) for pod in s.pods.values()]
    staying = [revision_of(pod) for pod in s.pods.values() if not pod.metadata.deleting]
    current, update = s.current.metadata.name, s.update.metadata.name
    status = StatefulSetStatus(
        observed_generation=s.sts.metadata.generation,
        replicas=len(s.pods),
        ready_replicas=sum(wait is not None for wait in waits),
        available_replicas=sum(wait == 0 for wait in waits),
        current_replicas=staying.count(current),
        updated_replicas=staying.count(update),
        current_revision=current,
        update_revision=update,
        collision_count=s.sts.status.collision_count or 0,
        conditions=s.sts.status.conditions,
    )
    wanted = {s.sts.spec.replicas}
    if s.rolls and wanted == {status.updated_replicas, status.ready_replicas, status.replicas}:
        status = replace(status, current_replicas=status.updated_replicas, current_revision=update)
    if patch := difference(s.sts.status, status):
        yield set_status(s.sts, patch)
    if later := [wait for wait in waits if wait]:
        yield CheckAgain(min(later))


def _claim_changed(delta: Delta[Claim], objects: Reader) -> Iterable[str]:
    meta = delta.latest.metadata
    for sts in objects.all(StatefulSet, meta.namespace):
        prefixes = (f"{t['metadata']['name']}-" for t in sts.spec.volume_claim_templates)
        if any(meta.name.startswith(f"{prefix}{sts.metadata.name}-") for prefix in prefixes):
            yield sts.metadata.key


CONTROLLER: Final = Controller(
    NAME,
    {
        StatefulSet: itself,
        Pod: its_pods(StatefulSet, lambda sts: from_label_selector(sts.spec.selector)),
        Node: with_pods_on(kinds.STATEFUL_SETS),
        ControllerRevision: its_controller(kinds.STATEFUL_SETS),
        Claim: _claim_changed,
    },
    for_each(StatefulSet, reconcile),
)
