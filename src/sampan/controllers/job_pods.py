"""The Pods of a Job: what they are made of, which are missing, and which are too many."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Final

from sampan.api.objects import Object, Pod
from sampan.client.interface import PatchType
from sampan.controllers.job_indexes import INDEX, index_of
from sampan.controllers.job_policy import rule_on
from sampan.controllers.job_tally import FAILURES, IGNORED_FAILURES, TRACKING, failures, place
from sampan.controllers.plan import Patch
from sampan.controllers.replicaset import cheapest_first, pod_from_template
from sampan.controllers.views_batch import Job

VARIABLE: Final = "JOB_COMPLETION_INDEX"


def new_pod(job: Job, index: int | None, replaces: Pod | None) -> Object:
    """Return a Pod, for *index* in an indexed Job, which counts on from the one it *replaces*."""
    pod = pod_from_template(job, job.spec.template)
    meta = pod["metadata"]
    meta["finalizers"] = [*(f for f in meta.get("finalizers") or () if f != TRACKING), TRACKING]
    if index is None:
        return pod
    name = job.metadata.name
    meta["generateName"] = f"{name}-{index}-"
    meta["labels"] = {**(meta.get("labels") or {}), INDEX: str(index)}
    told = {INDEX: str(index)}
    if job.spec.backoff_limit_per_index is not None:
        told |= _failure_counts(job, replaces)
    meta["annotations"] = {**(meta.get("annotations") or {}), **told}
    pod["spec"] = {**_with_index(pod["spec"]), "hostname": f"{name}-{index}"}
    return pod


def _failure_counts(job: Job, replaced: Pod | None) -> dict[str, str]:
    if replaced is None:
        return {FAILURES: "0"}
    counted, ignored = failures(replaced)
    if rule_on(job, replaced).counts:
        counted += 1
    else:
        ignored += 1
    return {FAILURES: str(counted), **({IGNORED_FAILURES: str(ignored)} if ignored else {})}


def _with_index(spec: Object) -> Object:
    """Tell every container its index, unless the template sets that variable itself."""
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    told = {"name": VARIABLE, "valueFrom": source}
    changed = dict(spec)
    for field in ("containers", "initContainers"):
        if field in spec:
            changed[field] = [_with_variable(container, told) for container in spec[field]]
    return changed


def _with_variable(container: Object, variable: Object) -> Object:
    env = container.get("env") or []
    if any(entry["name"] == variable["name"] for entry in env):
        return container
    return {**container, "env": [*env, variable]}


def missing(job: Job, taken: Collection[int], number: int) -> Iterator[int]:
    """The first indexes, as many as *number*, that nobody works on and that are not settled."""
    for index in range(job.spec.completions or 0):
        if number <= 0:
            return
        if index not in taken:
            number -= 1
            yield index


def too_many(job: Job, active: Sequence[Pod], number: int, now: datetime) -> list[Pod]:
    """Pick at least *number* Pods to remove: doubles and strays, then what costs least."""
    doubles: list[Pod] = []
    left = list(active)
    if job.indexed:
        doubles, left = _doubles(job, active, now)
    rest = number - len(doubles)
    return [*doubles, *(cheapest_first(left, left, now)[:rest] if rest > 0 else ())]


def _doubles(job: Job, active: Sequence[Pod], now: datetime) -> tuple[list[Pod], list[Pod]]:
    by_index: defaultdict[int | None, list[Pod]] = defaultdict(list)
    for pod in cheapest_first(active, active, now):
        by_index[place(job, pod)].append(pod)
    doubles = by_index.pop(None, [])
    left = []
    for pods in by_index.values():
        doubles += pods[:-1]
        left.append(pods[-1])
    return doubles, left


def released(pod: Pod) -> Patch:
    """Let go of a Pod whose end is on record."""
    meta = {"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}
    return Patch(pod, {"metadata": meta}, how=PatchType.STRATEGIC)


def followed(pod: Pod) -> Patch:
    """Track an adopted Pod like those that we made."""
    meta = {"uid": pod.metadata.uid, "finalizers": [TRACKING]}
    return Patch(pod, {"metadata": meta}, how=PatchType.STRATEGIC)


def indexes(pods: Collection[Pod]) -> set[int]:
    return {index for pod in pods if (index := index_of(pod)) is not None}
