"""Count what has come of a Job's Pods, each exactly once.

A Pod carries a finalizer until its end is on record. First its uid is written to the Job's
status (`uncountedTerminatedPods`; a completed index speaks for itself), then the finalizer goes,
and only when that is seen gone does the uid become a number. So whatever is interrupted is taken
up where it was, and nothing is counted twice or lost.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.api.objects import Pod
from sampan.controllers import job_indexes
from sampan.controllers.job_indexes import index_of
from sampan.controllers.job_policy import has_failed, rule_on
from sampan.controllers.views_batch import Job, Uncounted

TRACKING: Final = "batch.kubernetes.io/job-tracking"
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES: Final = "batch.kubernetes.io/job-index-ignored-failure-count"
MAX_UNCOUNTED: Final = 500


@dataclass(frozen=True, slots=True)
class Tally:
    """What to write down next, and whose finalizers may go because it is written down.

    *counted* is (succeeded, failed) as numbers; with what is in *uncounted* or *held* that makes
    the totals. *held* is, by index, the failed Pod that still carries the index's failure count.
    """

    counted: tuple[int, int]
    uncounted: Uncounted
    completed: frozenset[int]
    lost: frozenset[int]
    released: tuple[Pod, ...]
    held: dict[int | None, Pod]
    succeeded: int
    failed: int


def tracked(pod: Pod) -> bool:
    return TRACKING in pod.metadata.finalizers


def place(job: Job, pod: Pod) -> int | None:
    """Return the index that a Pod works on; None if it has none within the Job's completions."""
    index = index_of(pod)
    return index if index is not None and index < (job.spec.completions or 0) else None


def failures(pod: Pod) -> tuple[int, int]:
    """Return how often an index had failed when *pod* was made for it: counted, and ignored."""
    texts = (pod.metadata.annotations.get(key, "") for key in (FAILURES, IGNORED_FAILURES))
    counted, ignored = (int(text) if text.isdecimal() else 0 for text in texts)
    return counted, ignored


def count(job: Job, pods: Sequence[Pod]) -> Tally:
    known = job.status.uncounted_terminated_pods or Uncounted()
    mine = [pod for pod in pods if tracked(pod)]
    books = _Books(job, known, {pod.metadata.uid for pod in mine})
    done = [pod for pod in mine if pod.status.phase == "Succeeded"]
    completed = books.completed | _places(job, done)
    lost = _lost(job, mine)
    working = _places(job, (pod for pod in pods if pod.live))
    held = _held(job, (pod for pod in mine if books.new(pod)), completed | lost | working)
    for pod in mine:
        if pod is not held.get(place(job, pod)):
            books.enter(pod)
    pending = sum(rule_on(job, pod).counts for pod in held.values())
    succeeded, failed = books.counted
    return Tally(
        counted=(len(completed) if job.indexed else succeeded, failed),
        uncounted=Uncounted(books.succeeded, books.failed),
        completed=completed,
        lost=lost,
        released=tuple(books.released),
        held=held,
        succeeded=len(completed) if job.indexed else succeeded + len(books.succeeded),
        failed=failed + len(books.failed) + pending,
    )


class _Books:
    """The entries of one count: what stays, moves or is new among the uncounted."""

    def __init__(self, job: Job, known: Uncounted, present: Collection[str]) -> None:
        self._job = job
        self._known = {*known.succeeded, *known.failed}
        self.completed = job_indexes.parse(job.status.completed_indexes, job.spec.completions or 0)
        self.succeeded = [uid for uid in known.succeeded if uid in present]
        self.failed = [uid for uid in known.failed if uid in present]
        self.counted = (
            job.status.succeeded + len(known.succeeded) - len(self.succeeded),
            job.status.failed + len(known.failed) - len(self.failed),
        )
        self.released: list[Pod] = []

    def new(self, pod: Pod) -> bool:
        return pod.metadata.uid not in self._known

    def enter(self, pod: Pod) -> None:
        """Put down how *pod* ended, or release it if that is on record or of no account."""
        index, job = place(self._job, pod), self._job
        astray = job.indexed and index is None
        if not self.new(pod):
            self.released.append(pod)
        elif pod.status.phase == "Succeeded":
            if astray or index in self.completed:
                self.released.append(pod)
            elif not job.indexed:
                self._add(self.succeeded, pod)
        elif has_failed(job, pod):
            if astray or not rule_on(job, pod).counts:
                self.released.append(pod)
            else:
                self._add(self.failed, pod)

    def _add(self, entries: list[str], pod: Pod) -> None:
        if len(self.succeeded) + len(self.failed) < MAX_UNCOUNTED:
            entries.append(pod.metadata.uid)


def _places(job: Job, pods: Iterable[Pod]) -> frozenset[int]:
    if not job.indexed:
        return frozenset()
    return frozenset(index for pod in pods if (index := place(job, pod)) is not None)


def _lost(job: Job, mine: Iterable[Pod]) -> frozenset[int]:
    """Return the indexes that have failed more often than each may."""
    limit = job.spec.backoff_limit_per_index
    if limit is None:
        return frozenset()
    before = job_indexes.parse(job.status.failed_indexes or "", job.spec.completions or 0)
    return before | _places(job, (pod for pod in mine if _last(job, pod, limit)))


def _last(job: Job, pod: Pod, limit: int) -> bool:
    if not has_failed(job, pod):
        return False
    ruling = rule_on(job, pod)
    return ruling.action == "FailIndex" or (ruling.counts and failures(pod)[0] >= limit)


def _held(job: Job, pods: Iterable[Pod], settled: Collection[int]) -> dict[int | None, Pod]:
    """Find the latest failed Pod of each index that is neither settled nor worked on."""
    held: dict[int | None, Pod] = {}
    if job.spec.backoff_limit_per_index is None or job.verdict:
        return held
    for pod in pods:
        index = place(job, pod)
        if index is None or index in settled or not has_failed(job, pod):
            continue
        if index not in held or sum(failures(held[index])) <= sum(failures(pod)):
            held[index] = pod
    return held
