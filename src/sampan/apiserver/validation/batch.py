"""Rules of Jobs and CronJobs. Source: Kubernetes, pkg/apis/batch/validation."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.api.schedules import Schedule, time_zone
from sampan.apiserver.problems import bad_value, not_allowed, required, unsupported
from sampan.apiserver.validation import names
from sampan.apiserver.validation.workloads import IMMUTABLE, not_negative, validate_pods_of

_MODES: Final = ("Indexed", "NonIndexed")
_REPLACEMENT: Final = ("Failed", "TerminatingOrFailed")
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_EXIT_OPERATORS: Final = ("In", "NotIn")
_CONCURRENCY: Final = ("Allow", "Forbid", "Replace")
_INDEXES: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_NUMBERS: Final = (
    "parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished",
    "activeDeadlineSeconds", "backoffLimitPerIndex", "maxFailedIndexes",
)  # fmt: skip
_MAX_PARALLELISM: Final = 100_000
_MAX_RULES: Final = 20
_LONGEST_CRON_NAME: Final = 52
"""Eleven characters are added to a CronJob's name for its Jobs', which have 63."""


def validate_job(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _validate_spec(spec)
    if spec.get("completionMode") == "Indexed" and (completions := spec.get("completions")):
        longest = f"{obj['metadata'].get('name', '')}-{completions - 1}"
        if wrong := names.label(longest):
            why = f"will not able to create pod with invalid DNS label: {longest}: {wrong}"
            yield bad_value("metadata.name", obj["metadata"].get("name", ""), why)


def _validate_spec(spec: Object) -> Iterator[Cause]:
    yield from not_negative(spec, *_NUMBERS)
    yield from validate_pods_of(spec, ("OnFailure", "Never"))
    mode = spec.get("completionMode", "NonIndexed")
    if mode not in _MODES:
        yield unsupported("spec.completionMode", mode, _MODES)
    if mode == "Indexed":
        yield from _validate_indexed(spec)
    else:
        yield from _validate_plain(spec)
    policy = spec.get("podReplacementPolicy", "TerminatingOrFailed")
    possible = ("Failed",) if spec.get("podFailurePolicy") else _REPLACEMENT
    if policy not in possible:
        yield unsupported("spec.podReplacementPolicy", policy, possible)
    if rules := spec.get("podFailurePolicy"):
        yield from _validate_failure_policy(spec, rules)


def _validate_indexed(spec: Object) -> Iterator[Cause]:
    if spec.get("completions") is None:
        yield required("spec.completions", "when completion mode is Indexed")
    if (parallelism := spec.get("parallelism", 0)) > _MAX_PARALLELISM:
        why = f"must be less than or equal to {_MAX_PARALLELISM} when completion mode is Indexed"
        yield bad_value("spec.parallelism", parallelism, why)
    per_index, most = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if most is not None and per_index is None:
        yield required("spec.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if most is not None and most > (spec.get("completions") or 0):
        why = "must be less than or equal to completions"
        yield bad_value("spec.maxFailedIndexes", most, why)
    if policy := spec.get("successPolicy"):
        yield from _validate_success_policy(policy, spec.get("completions") or 0)


def _validate_plain(spec: Object) -> Iterator[Cause]:
    for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.get(field) is not None:
            yield bad_value(f"spec.{field}", spec[field], "requires indexed completion mode")
    if spec.get("successPolicy"):
        yield bad_value("spec.successPolicy", "{}", "requires indexed completion mode")


def _validate_success_policy(policy: Object, completions: int) -> Iterator[Cause]:
    rules = policy.get("rules") or ()
    yield from _validate_number_of(rules, "spec.successPolicy.rules")
    for number, rule in enumerate(rules):
        here = f"spec.successPolicy.rules[{number}]"
        indexes, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if indexes is None and count is None:
            why = "at least one of succeededCount or succeededIndexes must be specified"
            yield required(here, why)
        if indexes is not None and not _fits(indexes, completions):
            why = f"must be indexes below {completions} in the format 1,3-5,7"
            yield bad_value(f"{here}.succeededIndexes", indexes, why)
        if count is not None and not 0 < count <= completions:
            why = f"must be between 1 and {completions}, the number of completions"
            yield bad_value(f"{here}.succeededCount", count, why)


def _fits(indexes: str, completions: int) -> bool:
    """Whether *indexes* is a list of ranges in growing order, all below *completions*."""
    if not _INDEXES.fullmatch(indexes):
        return False
    ends = [int(end) for end in re.split("[-,]", indexes)]
    return ends == sorted(set(ends)) and ends[-1] < completions


def _validate_number_of(rules: Sequence[Any], field: str) -> Iterator[Cause]:
    if not rules:
        yield required(field, "at least one rule must be specified")
    if len(rules) > _MAX_RULES:
        why = f"Too many: {len(rules)}: must have at most {_MAX_RULES} items"
        yield Cause("FieldValueTooMany", why, field)


def _validate_failure_policy(spec: Object, policy: Object) -> Iterator[Cause]:
    pod = (spec.get("template") or {}).get("spec") or {}
    if (restart := pod.get("restartPolicy", "")) != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        yield bad_value("spec.template.spec.restartPolicy", restart, why)
    rules = policy.get("rules") or ()
    yield from _validate_number_of(rules, "spec.podFailurePolicy.rules")
    containers = {
        container.get("name")
        for field in ("containers", "initContainers")
        for container in pod.get(field) or ()
    }
    for number, rule in enumerate(rules):
        here = f"spec.podFailurePolicy.rules[{number}]"
        yield from _validate_action(spec, rule.get("action", ""), f"{here}.action")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if bool(codes) == bool(conditions):
            why = "specifying one of OnExitCodes and OnPodConditions is required"
            yield bad_value(here, "{}", why)
        if codes:
            yield from _validate_exit_codes(codes, containers, f"{here}.onExitCodes")


def _validate_action(spec: Object, action: str, field: str) -> Iterator[Cause]:
    if action not in _ACTIONS:
        yield unsupported(field, action, _ACTIONS)
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        yield bad_value(field, action, "requires the backoffLimitPerIndex to be set")


def _validate_exit_codes(codes: Object, containers: set[Any], field: str) -> Iterator[Cause]:
    operator, values = codes.get("operator", ""), codes.get("values") or ()
    if operator not in _EXIT_OPERATORS:
        yield unsupported(f"{field}.operator", operator, _EXIT_OPERATORS)
    if not values:
        yield bad_value(f"{field}.values", "[]", "at least one value is required")
    if operator == "In" and 0 in values:
        yield bad_value(f"{field}.values", 0, "must not be 0 for the In operator")
    if (name := codes.get("containerName")) and name not in containers:
        why = "must be one of the container or initContainer names in the pod template"
        yield bad_value(f"{field}.containerName", name, why)


def validate_job_update(old: Object, new: Object) -> Iterator[Cause]:
    """A Job's work stays the same, but an elastic one may grow and a paused one be told anew."""
    before, after = old["spec"], new["spec"]
    kept = {
        "completions", "selector", "completionMode", "template", "podFailurePolicy",
        "backoffLimitPerIndex", "managedBy", "successPolicy", "manualSelector",
    }  # fmt: skip
    if after.get("completionMode") == "Indexed" and after.get("completions") == after.get(
        "parallelism"
    ):
        kept.discard("completions")
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        kept.discard("template")
    for field in sorted(field for field in kept if before.get(field) != after.get(field)):
        yield bad_value(f"spec.{field}", "", IMMUTABLE)


def validate_cron_job(obj: Object) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if len(name := obj["metadata"].get("name") or "") > _LONGEST_CRON_NAME:
        why = f"must be no more than {_LONGEST_CRON_NAME} characters"
        yield bad_value("metadata.name", name, why)
    yield from _validate_times(spec)
    yield from not_negative(
        spec, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    if (policy := spec.get("concurrencyPolicy")) not in _CONCURRENCY:
        yield unsupported("spec.concurrencyPolicy", policy or "", _CONCURRENCY)
    template = (spec.get("jobTemplate") or {}).get("spec") or {}
    for cause in _validate_spec(template):
        yield Cause(cause.reason, cause.message, f"spec.jobTemplate.{cause.field}")
    if template.get("manualSelector"):
        why = "`manualSelector` may not be set in a CronJob's template"
        yield not_allowed("spec.jobTemplate.spec.manualSelector", why)


def _validate_times(spec: Object) -> Iterator[Cause]:
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        yield required("spec.schedule")
    else:
        try:
            Schedule(schedule)
        except ValueError as error:
            yield bad_value("spec.schedule", schedule, str(error))
    if zone is not None:
        try:
            time_zone(zone)
        except ValueError as error:
            yield bad_value("spec.timeZone", zone, str(error))
