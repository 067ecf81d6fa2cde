"""What controllers read of Jobs and of what makes them."""

from datetime import datetime

from msgspec import field

from sampan.api import kinds
from sampan.api.objects import Condition, Object, Resource, View, condition


class OnExitCodes(View):
    operator: str = "In"
    values: list[int] = field(default_factory=list)
    container_name: str = ""


class PodConditionPattern(View):
    type: str = ""
    status: str = "True"


class PodFailureRule(View):
    action: str = "Count"
    on_exit_codes: OnExitCodes | None = None
    on_pod_conditions: list[PodConditionPattern] = field(default_factory=list)


class PodFailurePolicy(View):
    rules: list[PodFailureRule] = field(default_factory=list)


class SuccessRule(View):
    succeeded_indexes: str | None = None
    succeeded_count: int | None = None


class SuccessPolicy(View):
    rules: list[SuccessRule] = field(default_factory=list)


class JobSpec(View):
    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool = False
    pod_replacement_policy: str = "TerminatingOrFailed"
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    managed_by: str = "kubernetes.io/job-controller"
    selector: Object = field(default_factory=dict)
    template: Object = field(default_factory=dict)


class Uncounted(View):
    """Pods that have ended and are not in the numbers yet; they keep their finalizer till here."""

    succeeded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class JobStatus(View):
    active: int = 0
    ready: int | None = None
    terminating: int | None = None
    succeeded: int = 0
    failed: int = 0
    start_time: datetime | None = None
    completion_time: datetime | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: Uncounted | None = None
    conditions: list[Condition] = field(default_factory=list)


class Job(Resource):
    KIND = kinds.JOBS
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def indexed(self) -> bool:
        return self.spec.completion_mode == "Indexed"

    @property
    def verdict(self) -> Condition | None:
        """How it is going to end: known before its last Pods are gone."""
        return _first_true(self.status.conditions, "SuccessCriteriaMet", "FailureTarget")

    @property
    def finished(self) -> Condition | None:
        """How it has ended."""
        return _first_true(self.status.conditions, "Complete", "Failed")


def _first_true(conditions: list[Condition], *types: str) -> Condition | None:
    found = (condition(conditions, type_) for type_ in types)
    return next((c for c in found if c and c.status == "True"), None)


class JobReference(View):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class CronJobSpec(View):
    schedule: str = ""
    time_zone: str | None = None
    suspend: bool = False
    concurrency_policy: str = "Allow"
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None
    job_template: Object = field(default_factory=dict)


class CronJobStatus(View):
    active: list[JobReference] = field(default_factory=list)
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None


class CronJob(Resource):
    KIND = kinds.CRON_JOBS
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()
