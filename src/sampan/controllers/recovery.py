"""Take a release that fails back by itself, where the Deployment asks for it.

`sampan.io/on-failure: rollback`. A release has failed when it makes no progress until its
deadline, or when its Pods crash again and again: while it rolls out, and for as long again as its
deadline is after it was complete. What is gone back to is never gone back from: if that fails too,
the fault is elsewhere. The Deployment remembers both in an annotation, and its condition
RolledBack says what happened until there is another template.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sampan.api.marks import ON_FAILURE
from sampan.api.objects import Condition, ContainerStatus, Object, Pod, condition
from sampan.controllers.plan import Action, Patch, RecordEvent, World
from sampan.controllers.revisions import FAILED, HASH_LABEL, ROLLED_BACK
from sampan.controllers.status import with_condition, without_condition
from sampan.controllers.views import Deployment, DeploymentStatus, ReplicaSet, seconds

WATCHED: Final = 600
"""Seconds after its completion that a release without a deadline is watched."""
FOREVER: Final = 2**31 - 1
LAST_WORDS: Final = 600
"""How many characters of a failed container's log an event has room for."""
CONFIG: Final = "sampan.io/config"
"""On a workload: the settings that it runs with, as JSON; on its template: a digest of that."""
_BROUGHT_BACK: Final = ("kubernetes.io/change-cause", "sampan.io/applied", CONFIG)
"""Annotations that describe a release, and return with it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a release has failed; *reason* is one word."""

    reason: str
    message: str


def recover(
    deployment: Deployment,
    new: ReplicaSet | None,
    old: Sequence[ReplicaSet],
    status: DeploymentStatus,
    world: World,
) -> Iterator[Action]:
    """Go back to the last release that works, if *new* has failed and that is wanted."""
    if deployment.metadata.annotations.get(ON_FAILURE) != "rollback" or new is None:
        return
    if _returned(deployment, new) or (target := _last_good(old)) is None:
        return
    pods = world.objects.by(Pod, "owner", new.metadata.uid)
    if fault := _fault(deployment, new, pods, status, world):
        yield from _back(deployment, new, target, fault)


def _last_good(old: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The newest earlier release that did not fail; what still serves comes first."""
    sound = [
        rs
        for rs in old
        if not rs.metadata.deleting and rs.metadata.annotations.get(FAILED) != str(rs.revision)
    ]
    return max(sound, key=lambda rs: (rs.status.available_replicas > 0, rs.revision), default=None)


def _fault(
    deployment: Deployment,
    new: ReplicaSet,
    pods: Sequence[Pod],
    status: DeploymentStatus,
    world: World,
) -> Fault | None:
    progress = condition(status.conditions, "Progressing")
    late = progress is not None and progress.reason == "ProgressDeadlineExceeded"
    if late and progress and new.metadata.name in progress.message:
        return Fault("ProgressDeadlineExceeded", _words(pods, progress.message))
    if _watched(deployment, progress, world) and any(map(crashing, pods)):
        return Fault("CrashLoopBackOff", _words(filter(crashing, pods), "its Pods crash"))
    return None


def _watched(deployment: Deployment, progress: Condition | None, world: World) -> bool:
    """Whether the release is still rolling out, or was complete only a while ago."""
    if progress is None or progress.reason != "NewReplicaSetAvailable":
        return True
    deadline = deployment.spec.progress_deadline_seconds
    limit = WATCHED if deadline in (None, FOREVER) else deadline or 0
    since = progress.last_update_time
    return since is not None and world.now < since + timedelta(seconds=limit)


def crashing(pod: Pod) -> bool:
    """Whether a container of *pod* has ended at least twice and waits to be started again."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return not pod.ready and pod.live and any(map(_loops, statuses))


def _loops(status: ContainerStatus) -> bool:
    return status.restart_count > 0 and _waiting(status).get("reason") == "CrashLoopBackOff"


def _waiting(status: ContainerStatus) -> Mapping[str, Any]:
    return status.state.get("waiting") or {}


def _words(pods: Iterable[Pod], otherwise: str) -> str:
    """Say of the first Pod that does not serve what keeps it: its last lines, if it had any."""
    for pod in pods:
        if pod.ready or pod.metadata.deleting:
            continue
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            if not status.ready and (text := _last_words(status)):
                return f"{pod.metadata.name}: container {status.name} {text}"
        placed = condition(pod.status.conditions, "PodScheduled")
        if placed and placed.status == "False":
            return f"{pod.metadata.name}: no node takes it: {placed.message}"
    return otherwise


def _last_words(status: ContainerStatus) -> str:
    ended = status.state.get("terminated") or status.last_state.get("terminated") or {}
    if ended.get("exitCode"):
        lines = str(ended.get("message") or "").strip()[-LAST_WORDS:]
        return f"ended with exit code {ended['exitCode']}" + (f": {lines}" if lines else "")
    waiting = _waiting(status)
    return ": ".join(filter(None, [waiting.get("reason", ""), waiting.get("message", "")]))


def _back(
    deployment: Deployment, new: ReplicaSet, target: ReplicaSet, fault: Fault
) -> Iterator[Action]:
    text = (
        f"Revision {new.revision} failed ({fault.reason}); back to revision {target.revision}. "
        f"{fault.message}"
    )
    note = {
        "from": new.metadata.name, "to": target.metadata.name,
        "reason": fault.reason, "message": text,
        "config": deployment.metadata.annotations.get(CONFIG, ""),
    }  # fmt: skip
    released = target.metadata.annotations
    notes = {key: released.get(key) for key in _BROUGHT_BACK if _differs(deployment, released, key)}
    yield Patch(new, {"metadata": {"annotations": {FAILED: str(new.revision)}}})
    metadata = {
        "resourceVersion": deployment.metadata.resource_version,
        "annotations": {**notes, ROLLED_BACK: json.dumps(note)},
    }
    template = merge_patch(deployment.spec.template, without_hash(target.spec.template))
    done = RecordEvent(deployment, "RolledBack", text, "Warning")
    yield Patch(deployment, {"metadata": metadata, "spec": {"template": template}}, done=done)


def _differs(deployment: Deployment, released: Mapping[str, str], key: str) -> bool:
    return deployment.metadata.annotations.get(key) != released.get(key)


def without_hash(template: Object) -> Object:
    metadata = dict(template.get("metadata") or {})
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def merge_patch(old: Any, new: Any) -> Any:
    """Return the JSON merge patch that makes *new* of *old*."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {
        key: merge_patch(old.get(key), value)
        for key, value in new.items()
        if key not in old or old[key] != value
    }
    return changed | {key: None for key in old if key not in new}


def _note(deployment: Deployment) -> Mapping[str, str]:
    try:
        note = json.loads(deployment.metadata.annotations.get(ROLLED_BACK, "{}"))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def failed_settings(deployment: Deployment) -> Mapping[str, str]:
    """Return which content of ConfigMaps and Secrets the release had that was taken back."""
    try:
        settings = json.loads(_note(deployment).get("config") or "{}")
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _returned(deployment: Deployment, new: ReplicaSet) -> bool:
    return _note(deployment).get("to") == new.metadata.name


def told(
    deployment: Deployment, new: ReplicaSet | None, status: DeploymentStatus, world: World
) -> list[Condition]:
    """Say in the conditions what was taken back, as long as its replacement is the template."""
    if new is None or not _returned(deployment, new):
        return without_condition(status.conditions, "RolledBack")
    note, now = _note(deployment), seconds(world.now)
    reason, message = note.get("reason", ""), note.get("message", "")
    held = Condition(
        "RolledBack", "True", reason, message, last_transition_time=now, last_update_time=now
    )
    return with_condition(status.conditions, held)
