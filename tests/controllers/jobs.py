"""Jobs for tests, and their Pods in every state that a Pod of a Job can be in."""

from datetime import timedelta
from typing import Any

from sampan.api import kinds
from sampan.api.objects import Object, Pod
from sampan.api.time import timestamp
from sampan.controllers.job_indexes import INDEX
from sampan.controllers.job_tally import FAILURES, TRACKING
from sampan.controllers.views_batch import Job
from tests.controllers.cluster import start
from tests.controllers.memory_api import EPOCH, MemoryApi

OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "job", "controller": True}
PHASES = {"a": "Running", "s": "Succeeded", "f": "Failed", "t": "Running"}


def raw_job(template: Object | None = None, **spec: Any) -> Object:
    labels = {"job-name": "work"}
    containers = [{"name": "c", "image": "v1"}]
    pod = {"restartPolicy": "Never", "containers": containers, **(template or {})}
    if "parallelism" not in spec and "completions" not in spec:
        spec["completions"] = 1
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **spec,
        },
    }


def a_job(status: Object | None = None, *, template: Object | None = None, **spec: Any) -> Job:
    raw = raw_job(template, **spec)
    raw["metadata"] |= {"uid": "job", "resourceVersion": "1", "generation": 1}
    return Job.of({**raw, "status": status or {}})


def a_pod(
    name: str,
    state: str,
    *,
    index: int | None = None,
    failures: int | None = None,
    tracked: bool = True,
    code: int = 1,
    ended: int = 10,
    age: int = 100,
    restarts: int = 0,
    disrupted: bool = False,
) -> Pod:
    """A Pod that is at work (`a`), has succeeded (`s`), failed (`f`) or is on its way out (`t`)."""
    at = (EPOCH - timedelta(seconds=age)).isoformat()
    end = (EPOCH - timedelta(seconds=ended)).isoformat()
    notes = {} if index is None else {INDEX: str(index)}
    if failures is not None:
        notes[FAILURES] = str(failures)
    meta: Object = {
        "name": name,
        "namespace": "default",
        "uid": name,
        "creationTimestamp": at,
        "labels": {"job-name": "work"},
        "annotations": notes,
        "finalizers": [TRACKING] if tracked else [],
        "ownerReferences": [OWNER],
    }
    if state == "t":
        meta["deletionTimestamp"] = at
    container: Object = {"name": "c", "restartCount": restarts, "state": {"running": {}}}
    if state in "sf":
        container["state"] = {"terminated": {"exitCode": code * (state == "f"), "finishedAt": end}}
    conditions = [{"type": "DisruptionTarget", "status": "True"}] if disrupted else []
    status = {
        "phase": PHASES[state],
        "conditions": conditions,
        "containerStatuses": [container],
    }
    return Pod.of({"metadata": meta, "spec": {"nodeName": "n1"}, "status": status})


def raw_cron(created: int = 90, status: Object | None = None, **spec: Any) -> Object:
    """A CronJob that was made so many seconds before the epoch, a full hour."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "v1"}]}
    meta = {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    return {
        "metadata": {
            "name": "tick",
            "namespace": "default",
            "uid": "cron",
            "resourceVersion": "1",
            "creationTimestamp": timestamp(EPOCH - timedelta(seconds=created)),
        },
        "spec": {
            "schedule": "0 * * * *",
            "jobTemplate": {"metadata": meta, "spec": {"template": {"spec": pod}}},
            **spec,
        },
        "status": status or {},
    }


async def start_all(api: MemoryApi) -> None:
    for pod in api.of(kinds.PODS):
        if not pod.get("status"):
            await start(api, pod)


async def finish(api: MemoryApi, pod: Object, phase: str, code: int = 0) -> None:
    meta = pod["metadata"]
    ended = {"exitCode": code, "finishedAt": timestamp(api.now())}
    status = {"phase": phase, "containerStatuses": [{"name": "c", "state": {"terminated": ended}}]}
    await api.patch(kinds.PODS, meta["name"], {"status": status}, meta["namespace"])
