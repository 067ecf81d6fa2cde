"""Run every Job's Pods until enough have succeeded, or it is clear that they will not.

A verdict comes in two steps, as in Kubernetes: SuccessCriteriaMet or FailureTarget at once, and
Complete or Failed when no Pod is left and every one is counted (`job_tally`). Unlike there, that
does not wait for what was to stop on a node that is lost.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from sampan.api import kinds
from sampan.api.objects import Condition, Node, Object, Pod, condition, is_true
from sampan.api.selectors import from_label_selector
from sampan.controllers import job_indexes
from sampan.controllers.availability import counts_as_ready, lost
from sampan.controllers.claims import claim
from sampan.controllers.job_pods import (
    followed,
    indexes,
    missing,
    new_pod,
    released,
    too_many,
)
from sampan.controllers.job_policy import (
    ended_at,
    has_failed,
    only_replaces_failed,
    pause,
    rule_on,
    success,
)
from sampan.controllers.job_tally import Tally, count, failures, tracked
from sampan.controllers.ownership import its_pods, with_pods_on
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    Gone,
    Patch,
    RecordEvent,
    World,
    itself,
    split,
)
from sampan.controllers.status import difference, with_condition
from sampan.controllers.views import seconds
from sampan.controllers.views_batch import Job, JobStatus

NAME: Final = "job-controller"
OURS: Final = "kubernetes.io/job-controller"
BURST: Final = 500
"""How many Pods one plan may create or delete: Kubernetes' own bound."""
_TERMINAL: Final = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}


@dataclass(frozen=True, slots=True)
class Situation:
    job: Job
    pods: tuple[Pod, ...]
    tally: Tally
    world: World

    @property
    def active(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.live]

    @property
    def terminating(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.metadata.deleting and not pod.finished]


def reconcile(key: str, world: World) -> Iterator[Action]:
    job = world.objects.get(Job, *split(key))
    if job is None or job.metadata.deleting or job.finished:
        yield from _let_go(key, job, world)
        return
    selector = from_label_selector(job.spec.selector)
    if selector is None or not selector.requirements or job.spec.managed_by != OURS:
        return
    pods = claim(
        job,
        selector,
        world.objects.by(Pod, "owner", job.metadata.uid),
        (p for p in world.objects.by(Pod, "orphan", job.metadata.namespace) if p.live),
    )
    yield from pods.changes()
    yield from map(followed, pods.adopted)
    yield from map(released, filter(tracked, pods.released))
    s = Situation(job, pods.held, count(job, pods.held), world)
    yield from map(released, s.tally.released)
    yield from _told(s)
    yield from _advance(s)


def _let_go(key: str, job: Job | None, world: World) -> Iterator[Action]:
    """Let go of the Pods of a Job that is over: whoever wants them gone must not wait for us."""
    for pod in world.objects.by(Pod, "tracked", key):
        owner = pod.metadata.controller
        over = job is not None and owner and owner.uid == job.metadata.uid
        yield dataclasses.replace(
            released(pod), given=None if over or not owner else Gone((owner,))
        )


def _advance(s: Situation) -> Iterator[Action]:
    verdict = _verdict(s)
    if verdict:
        yield from (_delete(s, pod) for pod in s.active[:BURST])
    elif s.job.spec.suspend:
        yield from _given_up(s, s.active)
    else:
        yield from _staffed(s)
    yield from _report(s, verdict)


def _verdict(s: Situation) -> Condition | None:
    """Return the condition that ends the Job: the one it has, or one it gets now."""
    if s.job.verdict:
        return s.job.verdict
    if found := _failure(s):
        return _condition(s, "FailureTarget", *found)
    if text := success(s.job, s.tally.completed):
        return _condition(s, "SuccessCriteriaMet", "SuccessPolicy", text)
    if _enough(s) and not s.active:
        text = "Reached expected number of succeeded pods"
        return _condition(s, "SuccessCriteriaMet", "CompletionsReached", text)
    return None


def _enough(s: Situation) -> bool:
    """Whether as many have succeeded as must; without a number, one will do."""
    wanted = s.job.spec.completions
    return s.tally.succeeded > 0 if wanted is None else s.tally.succeeded >= wanted


def _failure(s: Situation) -> tuple[str, str] | None:
    """Return the reason and message of what has gone wrong for good."""
    spec, tally = s.job.spec, s.tally
    for pod in s.pods:
        if tracked(pod) and has_failed(s.job, pod):
            ruling = rule_on(s.job, pod)
            if ruling.action == "FailJob":
                return "PodFailurePolicy", ruling.message
    if tally.failed > spec.backoff_limit or _restarted_too_often(s):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if (left := _deadline_in(s)) is not None and left <= 0:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if spec.max_failed_indexes is not None and len(tally.lost) > spec.max_failed_indexes:
        text = "Job has exceeded the specified maximal number of failed indexes"
        return "MaxFailedIndexesExceeded", text
    settled = len(tally.lost) + len(tally.completed)
    if tally.lost and settled >= (spec.completions or 0):
        return "FailedIndexes", "Job has failed indexes"
    return None


def _restarted_too_often(s: Situation) -> bool:
    """Whether containers that restart in place have used up the retries."""
    if (s.job.spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.restart_count
        for pod in s.active
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)
    )
    return restarts >= max(s.job.spec.backoff_limit, 1)


def _deadline_in(s: Situation) -> float | None:
    limit, start = s.job.spec.active_deadline_seconds, s.job.status.start_time
    if limit is None or start is None or s.job.spec.suspend:
        return None
    return (start + timedelta(seconds=limit) - s.world.now).total_seconds()


def _staffed(s: Situation) -> Iterator[Action]:
    """Have as many Pods at work as there is work for, and no more."""
    wanted = _wanted(s)
    surplus = too_many(s.job, s.active, len(s.active) - wanted, s.world.now)
    if surplus:
        yield from _given_up(s, surplus)
        return
    leaving = len(s.terminating) if only_replaces_failed(s.job) else 0
    lacking = min(wanted - leaving - len(s.active), BURST)
    if lacking <= 0:
        return
    if s.job.spec.backoff_limit_per_index is None and (left := _pause(s)) > 0:
        yield CheckAgain(left)
        return
    if s.job.indexed:
        yield from _indexed(s, lacking)
    else:
        yield from (_create(s, None) for _ in range(lacking))


def _wanted(s: Situation) -> int:
    spec = s.job.spec
    if spec.completions is None:
        return len(s.active) if s.tally.succeeded else spec.parallelism
    return max(min(spec.completions - s.tally.succeeded, spec.parallelism), 0)


def _indexed(s: Situation, lacking: int) -> Iterator[Action]:
    taken = indexes(s.active) | s.tally.completed | s.tally.lost
    if only_replaces_failed(s.job):
        taken |= indexes(s.terminating)
    pauses = []
    for index in missing(s.job, taken, lacking):
        last = s.tally.held.get(index)
        if last and (left := _pause_after(s, last)) > 0:
            pauses.append(left)
        else:
            yield _create(s, index)
    if pauses:
        yield CheckAgain(min(pauses))


def _pause_after(s: Situation, failed: Pod) -> float:
    ended = ended_at(failed, s.world.now)
    return pause(sum(failures(failed)) + 1, ended, s.world.now)


def _pause(s: Situation) -> float:
    """Return the seconds until the next try: they double with each failure since a success.

    What stops without a finalizer was given up, and is no failure.
    """
    now = s.world.now
    tried = [pod for pod in s.pods if pod.finished or tracked(pod)]
    failed = [ended_at(pod, now) for pod in tried if has_failed(s.job, pod)]
    if not failed:
        return 0.0
    done = [ended_at(pod, now) for pod in s.pods if pod.status.phase == "Succeeded"]
    since = [at for at in failed if not done or at > max(done)]
    return pause(len(since), max(failed), now)


def _create(s: Situation, index: int | None) -> Create:
    done = RecordEvent(s.job, "SuccessfulCreate", "Created pod: {name}")
    return Create(kinds.PODS, new_pod(s.job, index, s.tally.held.get(index)), done)


def _delete(s: Situation, pod: Pod) -> Delete:
    return Delete(pod, done=RecordEvent(s.job, "SuccessfulDelete", "Deleted pod: {name}"))


def _given_up(s: Situation, pods: list[Pod]) -> Iterator[Action]:
    """Remove Pods that did nothing wrong: what is not tracked any more is not counted."""
    for pod in pods[:BURST]:
        if tracked(pod):
            yield released(pod)
        yield _delete(s, pod)


def _told(s: Situation) -> Iterator[Action]:
    """Tell people of a write that was refused."""
    if failure := s.world.failure:
        match failure.write:
            case Create(kinds.PODS):
                text = f"Error creating: {failure.error.message}"
                yield RecordEvent(s.job, "FailedCreate", text, "Warning")
            case Delete(Pod()):
                text = f"Error deleting: {failure.error.message}"
                yield RecordEvent(s.job, "FailedDelete", text, "Warning")


def _report(s: Situation, verdict: Condition | None) -> Iterator[Action]:
    job, tally = s.job, s.tally
    status = JobStatus(
        active=len(s.active),
        ready=sum(counts_as_ready(pod, s.world.objects) for pod in s.active),
        terminating=len(s.terminating),
        succeeded=tally.counted[0],
        failed=tally.counted[1],
        start_time=job.status.start_time,
        completion_time=job.status.completion_time,
        completed_indexes=job_indexes.written(tally.completed),
        uncounted_terminated_pods=tally.uncounted,
        conditions=job.status.conditions,
    )
    if job.spec.backoff_limit_per_index is not None:
        status = replace(status, failed_indexes=job_indexes.written(tally.lost))
    if status.start_time is None and not job.spec.suspend:
        status = replace(status, start_time=seconds(s.world.now))
    events: list[RecordEvent] = []
    status = _judged(s, status, verdict, events) if verdict else _paused(s, status, events)
    if patch := _written(job, status):
        yield Patch(job, patch, subresource="status")
        yield from events
    if not verdict and (left := _deadline_in(s)) is not None:
        yield CheckAgain(left)


def _judged(
    s: Situation, status: JobStatus, verdict: Condition, events: list[RecordEvent]
) -> JobStatus:
    """Put the verdict down; once that is read back and all Pods are counted, the end itself."""
    conditions = with_condition(status.conditions, verdict)
    uncounted = s.tally.uncounted.succeeded or s.tally.uncounted.failed
    open_ = uncounted or s.tally.held or any(tracked(pod) for pod in s.pods)
    stopping = [pod for pod in s.terminating if not lost(pod, s.world.objects)]
    if conditions != s.job.status.conditions or open_ or s.active or stopping:
        return replace(status, conditions=conditions)
    end = _condition(s, _TERMINAL[verdict.type], verdict.reason, verdict.message)
    if end.type == "Complete":
        status = replace(status, completion_time=end.last_transition_time)
        events.append(RecordEvent(s.job, "Completed", "Job completed"))
    else:
        events.append(RecordEvent(s.job, end.reason, end.message, "Warning"))
    return replace(status, conditions=with_condition(conditions, end))


def _paused(s: Situation, status: JobStatus, events: list[RecordEvent]) -> JobStatus:
    """Say whether the Job is suspended, if it is or ever was; a resumed one starts its clock."""
    suspended, before = s.job.spec.suspend, condition(status.conditions, "Suspended")
    if (before is None and not suspended) or is_true(status.conditions, "Suspended") is suspended:
        return status
    word = "Suspended" if suspended else "Resumed"
    new = _condition(s, "Suspended", f"Job{word}", f"Job {word.lower()}")
    if not suspended:
        new = replace(new, status="False")
        status = replace(status, start_time=seconds(s.world.now))
    events.append(RecordEvent(s.job, word, f"Job {word.lower()}"))
    return replace(status, conditions=with_condition(status.conditions, new))


def _condition(s: Situation, type_: str, reason: str, message: str) -> Condition:
    at = seconds(s.world.now)
    return Condition(type_, "True", reason, message, last_transition_time=at, last_probe_time=at)


def _written(job: Job, new: JobStatus) -> Object:
    """Return the patch from one status to the next, which fails if the Job was read too early."""
    patch = difference(job.status, new)
    if "uncountedTerminatedPods" in patch and (uncounted := new.uncounted_terminated_pods):
        patch["uncountedTerminatedPods"] = {
            "succeeded": uncounted.succeeded or None,
            "failed": uncounted.failed or None,
        }
    version = {"resourceVersion": job.metadata.resource_version}
    return {"metadata": version, "status": patch} if patch else {}


def by_tracking(pod: Pod) -> Iterable[str]:
    """File Pods that carry our finalizer under the Job that they belong to."""
    owner = pod.metadata.controller
    if owner and owner.kind == kinds.JOBS.kind and tracked(pod):
        yield f"{pod.metadata.namespace}/{owner.name}"


CONTROLLER: Final = Controller(
    NAME,
    {
        Job: itself,
        Pod: its_pods(Job, lambda job: from_label_selector(job.spec.selector)),
        Node: with_pods_on(kinds.JOBS),
    },
    reconcile,
)
