"""What makes Pods, and what is said about groups of them."""

from datetime import datetime
from typing import Any, Final

from sampan.api.objects import Object
from sampan.api.time import parse_time
from sampan.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    Column,
    at,
    duration,
    joined,
    number,
    selector,
    shown,
    since,
    text,
    wide,
)


def _containers(obj: Object, field: str, *path: str) -> str:
    found = at(obj, *(path or ("spec", "template")), "spec", "containers", default=())
    return joined(container.get(field, "") for container in found)


_NAMES: Final = wide("Containers", lambda obj, _: _containers(obj, "name"))
_IMAGES: Final = wide("Images", lambda obj, _: _containers(obj, "image"))
_SELECTOR: Final = wide("Selector", lambda obj, _: selector(at(obj, "spec", "selector")))


def _share(obj: Object, _now: datetime) -> str:
    return (
        f"{at(obj, 'status', 'readyReplicas', default=0)}/{at(obj, 'spec', 'replicas', default=0)}"
    )


DEPLOYMENTS: Final = (
    NAME,
    Column("Ready", _share),
    number("Up-to-date", "status", "updatedReplicas"),
    number("Available", "status", "availableReplicas"),
    AGE,
    _NAMES,
    _IMAGES,
    _SELECTOR,
)
REPLICA_SETS: Final = (
    NAME,
    number("Desired", "spec", "replicas"),
    number("Current", "status", "replicas"),
    number("Ready", "status", "readyReplicas"),
    AGE,
    _NAMES,
    _IMAGES,
    _SELECTOR,
)
STATEFUL_SETS: Final = (NAME, Column("Ready", _share), AGE, _NAMES, _IMAGES)
DAEMON_SETS: Final = (
    NAME,
    number("Desired", "status", "desiredNumberScheduled"),
    number("Current", "status", "currentNumberScheduled"),
    number("Ready", "status", "numberReady"),
    number("Up-to-date", "status", "updatedNumberScheduled"),
    number("Available", "status", "numberAvailable"),
    Column(
        "Node Selector",
        lambda obj, _: selector(at(obj, "spec", "template", "spec", "nodeSelector")),
    ),
    AGE,
    _NAMES,
    _IMAGES,
    _SELECTOR,
)


_JOB_STATES: Final = (
    "Complete", "Failed", "Terminating", "Suspended", "FailureTarget", "SuccessCriteriaMet",
)  # fmt: skip
"""What is told of a Job of which several are true: the first."""


def _job_state(job: Object, _now: datetime) -> str:
    conditions = at(job, "status", "conditions", default=())
    true = {c.get("type") for c in conditions if c.get("status") == "True"}
    if at(job, "metadata", "deletionTimestamp"):
        true.add("Terminating")
    return next((state for state in _JOB_STATES if state in true), "Running")


def _completions(job: Object, _now: datetime) -> str:
    done = at(job, "status", "succeeded", default=0)
    wanted = at(job, "spec", "completions")
    if wanted is not None:
        return f"{done}/{wanted}"
    parallel = at(job, "spec", "parallelism", default=1)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _job_duration(job: Object, now: datetime) -> str:
    started, ended = at(job, "status", "startTime"), at(job, "status", "completionTime")
    if not started:
        return ""
    until = parse_time(ended) if ended else now
    return duration((until - parse_time(started)).total_seconds())


JOBS: Final = (
    NAME,
    Column("Status", _job_state),
    Column("Completions", _completions),
    Column("Duration", _job_duration),
    AGE,
    _NAMES,
    _IMAGES,
    _SELECTOR,
)
_JOB: Final = ("spec", "jobTemplate", "spec", "template")


def _last_schedule(job: Object, now: datetime) -> str:
    at_ = at(job, "status", "lastScheduleTime")
    return since(at_, now) if at_ else NONE


CRON_JOBS: Final = (
    NAME,
    text("Schedule", "spec", "schedule"),
    text("Timezone", "spec", "timeZone", default=NONE),
    Column("Suspend", lambda obj, _: shown(at(obj, "spec", "suspend", default=False)).title()),
    Column("Active", lambda obj, _: len(at(obj, "status", "active", default=())), "integer"),
    Column("Last Schedule", _last_schedule),
    AGE,
    wide("Containers", lambda obj, _: _containers(obj, "name", *_JOB)),
    wide("Images", lambda obj, _: _containers(obj, "image", *_JOB)),
    wide("Selector", lambda _obj, _now: NONE),
)


def _reference(obj: Object, _now: datetime) -> str:
    target = at(obj, "spec", "scaleTargetRef", default={})
    return f"{target.get('kind', '')}/{target.get('name', '')}"


def _targets(obj: Object, _now: datetime) -> str:
    """`cpu: 40%/80%`, for each metric of version 2, or the one of version 1."""
    share = at(obj, "spec", "targetCPUUtilizationPercentage")
    if share is not None:
        now = at(obj, "status", "currentCPUUtilizationPercentage")
        return f"cpu: {UNKNOWN if now is None else f'{now}%'}/{share}%"
    current = at(obj, "status", "currentMetrics", default=())
    told = []
    for index, metric in enumerate(at(obj, "spec", "metrics", default=())):
        found = current[index] if index < len(current) else {}
        told.append(_target(metric, found))
    return ", ".join(told) or NONE


def _target(metric: Object, current: Object) -> str:
    part = metric["type"][0].lower() + metric["type"][1:]
    wanted, found = at(metric, part, "target"), at(current, part, "current")
    name = at(metric, part, "name") or at(metric, part, "metric", "name") or ""
    shares = [
        f"{value['averageUtilization']}%" if at(value, "averageUtilization") is not None
        else str(at(value, "averageValue") or at(value, "value") or UNKNOWN)
        for value in (found, wanted)
    ]  # fmt: skip
    return f"{name}: {shares[0]}/{shares[1]}"


AUTOSCALERS: Final = (
    NAME,
    Column("Reference", _reference),
    Column("Targets", _targets),
    Column("MinPods", lambda obj, _: str(at(obj, "spec", "minReplicas", default=1))),
    number("MaxPods", "spec", "maxReplicas"),
    number("Replicas", "status", "currentReplicas"),
    AGE,
)


def _or_na(*path: str) -> Any:
    return lambda obj, _: shown(at(obj, *path, default="N/A"))


BUDGETS: Final = (
    NAME,
    Column("Min Available", _or_na("spec", "minAvailable")),
    Column("Max Unavailable", _or_na("spec", "maxUnavailable")),
    number("Allowed Disruptions", "status", "disruptionsAllowed"),
    AGE,
)


def _owner(obj: Object, _now: datetime) -> str:
    owners = at(obj, "metadata", "ownerReferences", default=())
    for owner in owners:
        if owner.get("controller"):
            group = owner["apiVersion"].rpartition("/")[0]
            kind = owner["kind"].lower()
            return f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"
    return NONE


REVISIONS: Final = (NAME, Column("Controller", _owner), number("Revision", "revision"), AGE)
