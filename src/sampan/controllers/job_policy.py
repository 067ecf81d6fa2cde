"""What a Job's policies make of its Pods: which have failed, which count, what is enough."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sampan.api.objects import ContainerStatus, Object, Pod, condition
from sampan.api.time import parse_time
from sampan.controllers import job_indexes
from sampan.controllers.views_batch import Job, OnExitCodes, PodFailureRule, SuccessRule

FIRST_PAUSE: Final = 10.0
LONGEST_PAUSE: Final = 600.0


@dataclass(frozen=True, slots=True)
class Ruling:
    """The *action* that a failed Pod calls for; for FailJob, *message* says why."""

    action: str = "Count"
    message: str = ""

    @property
    def counts(self) -> bool:
        return self.action != "Ignore"


def only_replaces_failed(job: Job) -> bool:
    """Whether a Pod that is on its way out still counts as there."""
    policy = job.spec.pod_replacement_policy
    return policy == "Failed" or job.spec.pod_failure_policy is not None


def has_failed(job: Job, pod: Pod) -> bool:
    """Whether *pod* will never succeed; one that is deleted before it ran never reports so."""
    if pod.finished:
        return pod.status.phase == "Failed"
    if not pod.metadata.deleting:
        return False
    return not only_replaces_failed(job) or not pod.spec.node_name


def rule_on(job: Job, pod: Pod) -> Ruling:
    """Judge a failed Pod by the first rule of the failure policy that matches it."""
    policy = job.spec.pod_failure_policy
    for number, rule in enumerate(policy.rules if policy else ()):
        if why := _matches(rule, pod):
            message = f"{why} matching {rule.action} rule at index {number}"
            return Ruling(rule.action, message)
    return Ruling()


def _matches(rule: PodFailureRule, pod: Pod) -> str:
    """Say what about *pod* the rule means; "" if nothing."""
    place = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if rule.on_exit_codes:
        statuses = (*pod.status.container_statuses, *pod.status.init_container_statuses)
        for status in statuses:
            code = _terminated(status).get("exitCode", 0)
            if code and _means(rule.on_exit_codes, status.name, code):
                return f"Container {status.name} for pod {place} failed with exit code {code}"
        return ""
    for pattern in rule.on_pod_conditions:
        held = condition(pod.status.conditions, pattern.type)
        if held and held.status == pattern.status:
            return f"Pod {place} has condition {pattern.type}"
    return ""


def _means(codes: OnExitCodes, container: str, code: int) -> bool:
    if codes.container_name and codes.container_name != container:
        return False
    return (code in codes.values) is (codes.operator == "In")


def _terminated(status: ContainerStatus) -> Object:
    return status.state.get("terminated") or {}


def success(job: Job, completed: Collection[int]) -> str:
    """Say which rule of the success policy is met; "" if none is."""
    policy = job.spec.success_policy
    for number, rule in enumerate(policy.rules if policy and completed else ()):
        if _met(rule, completed, job.spec.completions or 0):
            return f"Matched rules at index {number}"
    return ""


def _met(rule: SuccessRule, completed: Collection[int], completions: int) -> bool:
    if rule.succeeded_indexes is None:
        return rule.succeeded_count is not None and len(completed) >= rule.succeeded_count
    wanted = job_indexes.parse(rule.succeeded_indexes, completions)
    needed = len(wanted) if rule.succeeded_count is None else rule.succeeded_count
    return len(wanted.intersection(completed)) >= needed


def ended_at(pod: Pod, now: datetime) -> datetime:
    """Return when the last container ended, or the best that is known of it."""
    ends = [
        parse_time(at)
        for status in pod.status.container_statuses
        if (at := _terminated(status).get("finishedAt"))
    ]
    if ends:
        return max(ends)
    ready = condition(pod.status.conditions, "Ready")
    known = ready.last_transition_time if ready else None
    return known or pod.metadata.deletion_timestamp or pod.metadata.creation_timestamp or now


def pause(failures: int, last: datetime, now: datetime) -> float:
    """Return the seconds to wait before the next try after so many *failures* in a row."""
    if failures == 0:
        return 0.0
    length: float = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
    return max(length - (now - last).total_seconds(), 0.0)
