"""A Deployment's status: its counts, and whether its rollout moves, is done or is stuck."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from sampan.api.objects import Condition, condition
from sampan.controllers.rollout import bounds
from sampan.controllers.status import with_condition, without_condition
from sampan.controllers.views import Deployment, DeploymentStatus, ReplicaSet, seconds

NO_DEADLINE: Final = 2**31 - 1


def counts(
    deployment: Deployment, new: ReplicaSet | None, sets: Sequence[ReplicaSet], now: datetime
) -> DeploymentStatus:
    """Add up the sets, and say whether enough of the Pods are available."""
    available = sum(rs.status.available_replicas for rs in sets)
    asked = sum(rs.spec.replicas for rs in sets)
    status = DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas or 0 for rs in sets),
        updated_replicas=(new.status.replicas or 0) if new else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in sets),
        available_replicas=available,
        unavailable_replicas=max(asked - available, 0),
        collision_count=deployment.status.collision_count,
    )
    enough = available >= bounds(deployment).floor
    verb, word = ("has", "Available") if enough else ("does not have", "Unavailable")
    conditions = with_condition(
        deployment.status.conditions,
        _condition(
            "Available",
            "True" if enough else "False",
            f"MinimumReplicas{word}",
            f"Deployment {verb} minimum availability.",
            now,
        ),
    )
    return replace(status, conditions=conditions)


def has_deadline(deployment: Deployment) -> bool:
    limit = deployment.spec.progress_deadline_seconds
    return limit is not None and limit != NO_DEADLINE


def complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    desired = deployment.spec.replicas
    numbers = {status.updated_replicas, status.replicas, status.available_replicas}
    return numbers == {desired} and status.observed_generation >= deployment.metadata.generation


def with_progress(
    deployment: Deployment, new: ReplicaSet | None, status: DeploymentStatus, now: datetime
) -> DeploymentStatus:
    """Judge the rollout as *status* shows it, against what was last reported."""
    if not has_deadline(deployment):
        return replace(status, conditions=without_condition(status.conditions, "Progressing"))
    last = condition(status.conditions, "Progressing")
    done = last is not None and last.reason == "NewReplicaSetAvailable"
    if done and status.replicas == status.updated_replicas:
        return status
    what = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{_name(deployment)}"'
    if complete(deployment, status):
        text = f"{what} has successfully progressed."
        verdict = _condition("Progressing", "True", "NewReplicaSetAvailable", text, now)
    elif _moved(deployment.status, status):
        return _touched(status, last, f"{what} is progressing.", now)
    elif _expired(deployment, last, now):
        text = f"{what} has timed out progressing."
        verdict = _condition("Progressing", "False", "ProgressDeadlineExceeded", text, now)
    else:
        return status
    return replace(status, conditions=with_condition(status.conditions, verdict))


def _touched(
    status: DeploymentStatus, last: Condition | None, text: str, now: datetime
) -> DeploymentStatus:
    """Note progress even if the condition reads the same: its update time starts the deadline."""
    moving = _condition("Progressing", "True", "ReplicaSetUpdated", text, now)
    if last and last.status == "True":
        moving = replace(moving, last_transition_time=last.last_transition_time)
    others = without_condition(status.conditions, "Progressing")
    return replace(status, conditions=[*others, moving])


def _moved(old: DeploymentStatus, new: DeploymentStatus) -> bool:
    return (
        new.updated_replicas > old.updated_replicas
        or new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        or new.ready_replicas > old.ready_replicas
        or new.available_replicas > old.available_replicas
    )


def _expired(deployment: Deployment, last: Condition | None, now: datetime) -> bool:
    if last is None or last.reason == "NewReplicaSetAvailable":
        return False
    left = deadline_in(deployment, last, now)
    return last.reason == "ProgressDeadlineExceeded" or (left is not None and left <= 0)


def deadline_in(deployment: Deployment, last: Condition | None, now: datetime) -> float | None:
    """Return the seconds until a rollout that shows no progress counts as failed."""
    limit = deployment.spec.progress_deadline_seconds
    if last is None or last.last_update_time is None or limit is None:
        return None
    return (last.last_update_time + timedelta(seconds=limit) - now).total_seconds()


def with_failures(
    status: DeploymentStatus, new: ReplicaSet | None, sets: Sequence[ReplicaSet]
) -> DeploymentStatus:
    """Show a set's trouble in making Pods on the Deployment itself, the newest set's first."""
    for rs in [*([new] if new else []), *sets]:
        if failed := condition(rs.status.conditions, "ReplicaFailure"):
            told = replace(failed, last_update_time=failed.last_transition_time)
            return replace(status, conditions=with_condition(status.conditions, told))
    return replace(status, conditions=without_condition(status.conditions, "ReplicaFailure"))


def noted(
    status: DeploymentStatus, verdict: str, reason: str, message: str, now: datetime
) -> DeploymentStatus:
    """Set the Progressing condition to what just happened."""
    new = _condition("Progressing", verdict, reason, message, now)
    return replace(status, conditions=with_condition(status.conditions, new))


def _condition(type_: str, status: str, reason: str, message: str, now: datetime) -> Condition:
    at = seconds(now)
    return Condition(type_, status, reason, message, last_transition_time=at, last_update_time=at)


def _name(deployment: Deployment) -> str:
    return deployment.metadata.name
