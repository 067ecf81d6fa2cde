"""Start a Job whenever a CronJob's schedule says so, and keep the last few of them.

A Job's name and an annotation hold the time it was due. So a run is made at most once, and what
the status says is read from the Jobs: a crash between the two writes leaves nothing wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sampan.api import kinds
from sampan.api.objects import Object
from sampan.api.schedules import Schedule, time_zone
from sampan.api.time import parse_time
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    Create,
    Delete,
    RecordEvent,
    World,
    for_each,
    its_controller,
    itself,
    set_status,
)
from sampan.controllers.status import difference
from sampan.controllers.views import controls, reference
from sampan.controllers.views_batch import CronJob, CronJobStatus, Job, JobReference

NAME: Final = "cronjob-controller"
DUE: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
JUST_AFTER: Final = 0.1
"""Seconds to wake after a time is due, so that rounding never wakes us before it."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A CronJob, all Jobs that it owns, and those of its runs that have not ended."""

    cron: CronJob
    jobs: Sequence[Job]
    world: World

    @property
    def active(self) -> list[Job]:
        """Runs under way; a Job that somebody made by hand from the template is none."""
        return [job for job in self.jobs if due(job) and not job.finished]

    @property
    def last(self) -> datetime | None:
        """When the latest run was due."""
        known = self.cron.status.last_schedule_time
        times = [at for job in self.jobs if (at := due(job))]
        return max([*times, *([known] if known else [])], default=None)


def due(job: Job) -> datetime | None:
    text = job.metadata.annotations.get(DUE)
    return parse_time(text) if text else None


def reconcile(cron: CronJob, world: World) -> Iterator[Action]:
    owned = world.objects.by(Job, "owner", cron.metadata.uid)
    s = Situation(cron, [job for job in owned if controls(cron, job)], world)
    yield from _report(s)
    if cron.metadata.deleting:
        return
    yield from _forget(s)
    yield from _told(s)
    if not cron.spec.suspend:
        yield from _run(s)


def _report(s: Situation) -> Iterator[Action]:
    """Say which runs are under way, and tell of each that ended since."""
    active = {job.metadata.uid: job for job in s.active}
    ended = {job.metadata.uid: job.finished for job in s.jobs if job.finished}
    for ref in s.cron.status.active:
        if end := ended.get(ref.uid):
            text = f"Saw completed job: {ref.name}, condition: {end.type}"
            yield RecordEvent(s.cron, "SawCompletedJob", text)
        elif ref.uid not in active:
            yield RecordEvent(s.cron, "MissingJob", f"Active job went missing: {ref.name}")
    kept = [ref for ref in s.cron.status.active if ref.uid in active]
    listed = {ref.uid for ref in kept}
    new = [_reference(job) for uid, job in active.items() if uid not in listed]
    known = s.cron.status.last_successful_time
    successes = [at for job in s.jobs if (at := job.status.completion_time)]
    status = CronJobStatus(
        active=[*kept, *new],
        last_schedule_time=s.last,
        last_successful_time=max([*successes, *([known] if known else [])], default=None),
    )
    if patch := difference(s.cron.status, status):
        yield set_status(s.cron, patch)


def _reference(job: Job) -> JobReference:
    meta = job.metadata
    kind = kinds.JOBS
    return JobReference(kind.api_version, kind.kind, meta.name, meta.namespace, meta.uid)


def _forget(s: Situation) -> Iterator[Action]:
    """Delete the oldest of the ended Jobs, beyond the number to keep of either kind."""
    spec = s.cron.spec
    ended = sorted((job for job in s.jobs if job.finished and not job.metadata.deleting), key=_age)
    for type_, limit in (
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ):
        alike = [job for job in ended if job.finished and job.finished.type == type_]
        if limit is not None:
            yield from (_delete(s, job) for job in alike[: max(len(alike) - limit, 0)])


def _age(job: Job) -> tuple[float, str]:
    begun = job.status.start_time or job.metadata.creation_timestamp
    return begun.timestamp() if begun else 0.0, job.metadata.name


def _delete(s: Situation, job: Job) -> Delete:
    done = RecordEvent(s.cron, "SuccessfulDelete", f"Deleted job {job.metadata.name}")
    return Delete(job, propagation="Background", done=done)


def _told(s: Situation) -> Iterator[Action]:
    """Tell people of a write that was refused."""
    failure = s.world.failure
    if failure and isinstance(failure.write, Create):
        text = f"Error creating job: {failure.error.message}"
        yield RecordEvent(s.cron, "FailedCreate", text, "Warning")


def _run(s: Situation) -> Iterator[Action]:
    """Start the run that is due, if one is, and wake for the next."""
    schedule = _schedule(s.cron)
    if isinstance(schedule, RecordEvent):
        yield schedule
        return
    now = s.world.now
    at, many = schedule.due(_since(s), now)
    if at and at != s.last:
        yield from _start(s, at, many=many)
    yield CheckAgain((schedule.after(now) - now).total_seconds() + JUST_AFTER)


def _schedule(cron: CronJob) -> Schedule | RecordEvent:
    zone, text = cron.spec.time_zone or "", cron.spec.schedule
    try:
        if zone:
            time_zone(zone)
    except ValueError as error:
        told = f'invalid timeZone: "{zone}": {error}'
        return RecordEvent(cron, "UnknownTimeZone", told, "Warning")
    try:
        return Schedule(text, zone)
    except ValueError as error:
        told = f"unparseable schedule: {text} : {error}"
        return RecordEvent(cron, "UnparseableSchedule", told, "Warning")


def _since(s: Situation) -> datetime:
    """From when on a missed run may still start."""
    since = s.last or s.cron.metadata.creation_timestamp or s.world.now
    if (deadline := s.cron.spec.starting_deadline_seconds) is None:
        return since
    return max(since, s.world.now - timedelta(seconds=deadline))


def _start(s: Situation, at: datetime, *, many: bool) -> Iterator[Action]:
    policy = s.cron.spec.concurrency_policy
    if policy == "Forbid" and s.active:
        text = (
            "Not starting job because prior execution is running and concurrency policy is Forbid"
        )
        yield RecordEvent(s.cron, "JobAlreadyActive", text)
        return
    if policy == "Replace":
        yield from (_delete(s, job) for job in s.active if not job.metadata.deleting)
    if many:
        text = (
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check "
            "clock skew"
        )
        yield RecordEvent(s.cron, "TooManyMissedTimes", text, "Warning")
    body = new_job(s.cron, at)
    text = f"Created job {body['metadata']['name']}"
    yield Create(kinds.JOBS, body, RecordEvent(s.cron, "SuccessfulCreate", text))


def new_job(cron: CronJob, at: datetime) -> Object:
    """Return the Job for the run that is due at *at*; the name says the minute."""
    template = cron.spec.job_template
    meta = template.get("metadata") or {}
    told = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{cron.metadata.name}-{int(at.astimezone(UTC).timestamp()) // 60}",
            "namespace": cron.metadata.namespace,
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), DUE: told},
            "ownerReferences": [reference(cron)],
        },
        "spec": template.get("spec") or {},
    }


CONTROLLER: Final = Controller(
    NAME,
    {CronJob: itself, Job: its_controller(kinds.CRON_JOBS)},
    for_each(CronJob, reconcile),
)
