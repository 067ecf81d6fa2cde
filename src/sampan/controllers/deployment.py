"""Carry every Deployment from one template to the next through its ReplicaSets.

One plan is one step: what may change now is drafted on a `Fleet`, written, and the next step
follows from the status that the sets then report. Behaviour, names, reasons and messages are
those of Kubernetes' Deployment controller.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from sampan.api import kinds
from sampan.api.objects import Pod, condition
from sampan.api.selectors import from_label_selector
from sampan.client.cache import Delta
from sampan.controllers import progress, recovery, revisions, rollout
from sampan.controllers.claims import claim
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
from sampan.controllers.rollout import Fleet
from sampan.controllers.status import difference
from sampan.controllers.views import (
    REVISION,
    Deployment,
    DeploymentStatus,
    ReplicaSet,
)

NAME: Final = "deployment-controller"
KEEP_ALL: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Situation:
    """A Deployment, the set that carries its template, and the ones that carried earlier ones."""

    deployment: Deployment
    new: ReplicaSet | None
    old: tuple[ReplicaSet, ...]
    world: World

    @property
    def sets(self) -> list[ReplicaSet]:
        return [*self.old, *([self.new] if self.new else [])]

    def fleet(self) -> Fleet:
        return Fleet(self.new, self.old, rollout.bounds(self.deployment))


def reconcile(deployment: Deployment, world: World) -> Iterator[Action]:
    selector = from_label_selector(deployment.spec.selector)
    if selector is None or not selector.requirements:
        text = "This deployment is selecting all pods. A non-empty selector is required."
        yield RecordEvent(deployment, "SelectingAll", text, "Warning")
        return
    sets = claim(
        deployment,
        selector,
        world.objects.by(ReplicaSet, "owner", deployment.metadata.uid),
        world.objects.by(ReplicaSet, "orphan", deployment.metadata.namespace),
    )
    yield from sets.changes()
    new = revisions.find_new(deployment.spec.template, sets.members)
    old = tuple(rs for rs in sets.members if new is None or rs.metadata.uid != new.metadata.uid)
    yield from _step(Situation(deployment, new, old, world))


def _step(s: Situation) -> Iterator[Action]:
    """Do what the Deployment's state asks for: report, scale, or roll."""
    if s.deployment.metadata.deleting:
        yield from _report(s, _counts(s))
    elif s.deployment.spec.paused or _scaling(s):
        yield from _hold(s)
    elif s.deployment.spec.strategy.type == "Recreate":
        yield from _recreate(s)
    else:
        yield from _roll(s)


def _scaling(s: Situation) -> bool:
    """Whether `spec.replicas` changed since the live sets were last sized."""
    desired = str(s.deployment.spec.replicas)
    return any(
        rs.spec.replicas > 0 and rs.metadata.annotations.get(rollout.DESIRED, desired) != desired
        for rs in s.sets
    )


def _hold(s: Situation) -> Iterator[Action]:
    """Scale what is there, and start nothing new."""
    fleet = s.fleet()
    rollout.rescale(fleet, s.deployment)
    yield from _sync_revision(s)
    yield from _resized(s, fleet)
    if s.deployment.spec.paused:
        yield from _clean_up(s)
    yield from _report(s, _counts(s))


def _roll(s: Situation) -> Iterator[Action]:
    if s.new is None:
        yield from _start(s, rollout.first_size(s.fleet()))
        return
    fleet = s.fleet()
    rollout.roll(fleet)
    yield from _advance(s, fleet)


def _recreate(s: Situation) -> Iterator[Action]:
    fleet = s.fleet()
    rollout.empty_old(fleet)
    if fleet.total < sum(rs.spec.replicas for rs in s.sets) or _old_pods_run(s):
        yield from _advance(s, fleet)
    elif s.new is None:
        yield from _start(s, s.deployment.spec.replicas)
    else:
        fleet.resize(s.new, s.deployment.spec.replicas)
        yield from _advance(s, fleet)


def _old_pods_run(s: Situation) -> bool:
    """Whether a Pod of an earlier template still exists, be it only about to stop."""
    return any(
        (rs.status.replicas or 0) > 0
        or any(not pod.finished for pod in s.world.objects.by(Pod, "owner", rs.metadata.uid))
        for rs in s.old
    )


def _start(s: Situation, replicas: int) -> Iterator[Action]:
    """Create the set for a new template, or step aside where its name is taken."""
    limits = rollout.bounds(s.deployment)
    body = revisions.new_set(s.deployment, revisions.next_revision(s.old), replicas, limits)
    name, namespace = body["metadata"]["name"], s.deployment.metadata.namespace
    status = _judged(s)
    if s.world.objects.get(ReplicaSet, namespace, name):
        collisions = (s.deployment.status.collision_count or 0) + 1
        yield from _report(s, replace(status, collision_count=collisions))
        return
    text = f"Scaled up replica set {name} from 0 to {replicas}"
    done = RecordEvent(s.deployment, "ScalingReplicaSet", text) if replicas else None
    yield Create(kinds.REPLICA_SETS, body, done)
    if (failure := s.world.failure) and isinstance(failure.write, Create):
        text = f'Failed to create new replica set "{name}": {failure.error.message}'
        reason, verdict = "FailedCreateReplicaSet", "False"
        yield RecordEvent(s.deployment, reason, text, "Warning")
    else:
        text, reason, verdict = f'Created new replica set "{name}"', "NewReplicaSetCreated", "True"
    if progress.has_deadline(s.deployment):
        status = progress.noted(status, verdict, reason, text, s.world.now)
    yield from _report(s, status)


def _advance(s: Situation, fleet: Fleet) -> Iterator[Action]:
    """Write a step's sizes, and report how the rollout stands."""
    yield from _sync_revision(s)
    yield from _resized(s, fleet)
    yield from _clean_up(s)
    status = _judged(s)
    yield from _report(s, status)
    yield from recovery.recover(s.deployment, s.new, s.old, status, s.world)
    last = condition(status.conditions, "Progressing")
    waiting = last is not None and last.reason not in {
        "NewReplicaSetAvailable",
        "ProgressDeadlineExceeded",
    }
    if waiting and (left := progress.deadline_in(s.deployment, last, s.world.now)) is not None:
        yield CheckAgain(max(left, 0) + 1)


def _sync_revision(s: Situation) -> Iterator[Action]:
    """Keep the current set's annotations and minReadySeconds, and the revision on both."""
    if s.new is None:
        return
    revision = revisions.next_revision(s.old)
    patch: dict[str, object] = {}
    if annotations := revisions.refreshed_annotations(s.deployment, s.new, revision):
        patch["metadata"] = {"annotations": annotations}
    if s.new.spec.min_ready_seconds != s.deployment.spec.min_ready_seconds:
        patch["spec"] = {"minReadySeconds": s.deployment.spec.min_ready_seconds}
    if patch:
        yield Patch(s.new, patch)
    current = str(max(revision, s.new.revision))
    if s.deployment.metadata.annotations.get(REVISION) != current:
        yield Patch(s.deployment, {"metadata": {"annotations": {REVISION: current}}})


def _resized(s: Situation, fleet: Fleet) -> Iterator[Action]:
    """Yield the writes from what the sets ask for to what *fleet* drafted."""
    notes = revisions.size_annotations(fleet.limits)
    for rs in fleet.all:
        size = fleet.size(rs)
        stale = size > 0 and any(rs.metadata.annotations.get(k) != v for k, v in notes.items())
        if size == rs.spec.replicas and not stale:
            continue
        patch: dict[str, object] = {"metadata": {"annotations": notes}}
        done = None
        if size != rs.spec.replicas:
            patch["spec"] = {"replicas": size}
            way = "up" if size > rs.spec.replicas else "down"
            name, was = rs.metadata.name, rs.spec.replicas
            text = f"Scaled {way} replica set {name} from {was} to {size}"
            done = RecordEvent(s.deployment, "ScalingReplicaSet", text)
        yield Patch(rs, patch, done=done)


def _clean_up(s: Situation) -> Iterator[Action]:
    """Delete the oldest revisions beyond revisionHistoryLimit, once the rollout is done."""
    limit = s.deployment.spec.revision_history_limit
    if limit is None or limit == KEEP_ALL:
        return
    done = progress.complete(s.deployment, s.deployment.status)
    if not s.deployment.spec.paused and not done:
        return
    kept = sorted((rs for rs in s.old if not rs.metadata.deleting), key=lambda rs: rs.revision)
    for rs in kept[: max(len(kept) - limit, 0)]:
        empty = not rs.status.replicas and rs.spec.replicas == 0
        if empty and rs.metadata.generation <= rs.status.observed_generation:
            yield Delete(rs)


def _counts(s: Situation) -> DeploymentStatus:
    status = progress.counts(s.deployment, s.new, s.sets, s.world.now)
    last = condition(status.conditions, "Progressing")
    deadline = progress.has_deadline(s.deployment)
    if not deadline or (last and last.reason == "ProgressDeadlineExceeded"):
        return status
    if s.deployment.spec.paused:
        text = "Deployment is paused"
        return progress.noted(status, "Unknown", "DeploymentPaused", text, s.world.now)
    if last and last.reason == "DeploymentPaused":
        text = "Deployment is resumed"
        return progress.noted(status, "Unknown", "DeploymentResumed", text, s.world.now)
    return status


def _judged(s: Situation) -> DeploymentStatus:
    """Return the status of a rollout under way."""
    status = _counts(s)
    judged = condition(status.conditions, "Progressing")
    if s.new and not judged and progress.has_deadline(s.deployment):
        text = f'Found new replica set "{s.new.metadata.name}"'
        status = progress.noted(status, "True", "FoundNewReplicaSet", text, s.world.now)
    status = progress.with_progress(s.deployment, s.new, status, s.world.now)
    status = replace(status, conditions=recovery.told(s.deployment, s.new, status, s.world))
    return progress.with_failures(status, s.new, s.sets)


def _report(s: Situation, status: DeploymentStatus) -> Iterator[Action]:
    if patch := difference(s.deployment.status, status):
        yield set_status(s.deployment, patch)


_DEPLOYMENT_OF_SET: Final = its_controller(kinds.DEPLOYMENTS)


def _set_changed(delta: Delta[ReplicaSet], objects: Reader) -> Iterable[str]:
    yield from _DEPLOYMENT_OF_SET(delta, objects)
    rs = delta.new
    if rs is None or rs.metadata.controller or rs.metadata.deleting:
        return
    for deployment in objects.all(Deployment, rs.metadata.namespace):
        selector = from_label_selector(deployment.spec.selector)
        if selector and selector.requirements and selector.matches(rs.metadata.labels):
            yield deployment.metadata.key


def _pod_changed(delta: Delta[Pod], objects: Reader) -> Iterable[str]:
    """A Recreate waits for the last old Pod to be gone; a crash loop may take a release back."""
    pod = delta.latest
    fails = recovery.crashing(pod) and not (delta.old and recovery.crashing(delta.old))
    owner = pod.metadata.controller if fails or not delta.new else None
    if owner is None or owner.kind != kinds.REPLICA_SETS.kind:
        return
    rs = objects.get(ReplicaSet, pod.metadata.namespace, owner.name)
    if rs and (deployment := rs.metadata.controller):
        yield f"{rs.metadata.namespace}/{deployment.name}"


CONTROLLER: Final = Controller(
    NAME,
    {Deployment: itself, ReplicaSet: _set_changed, Pod: _pod_changed},
    for_each(Deployment, reconcile),
)
