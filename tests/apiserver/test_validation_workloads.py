"""What the API refuses of StatefulSets, DaemonSets, Jobs and CronJobs, and lets them change."""

from typing import Any

import pytest

from sampan.api import kinds
from sampan.api.errors import Invalid
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from tests.apiserver.support import Api, deployment, pod


def stateful_set(**spec: Any) -> Object:
    made = deployment()
    return {**made, "kind": "StatefulSet", "spec": {**without_strategy(made), **spec}}


def daemon_set(**rolling: Any) -> Object:
    made = deployment()
    spec = {k: v for k, v in without_strategy(made).items() if k != "replicas"}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {**made, "kind": "DaemonSet", "spec": {**spec, "updateStrategy": strategy}}


def without_strategy(made: Object) -> Object:
    return {k: v for k, v in made["spec"].items() if k in {"replicas", "selector", "template"}}


def job(name: str = "j", restart: str = "Never", **spec: Any) -> Object:
    template = {"spec": pod(restartPolicy=restart)["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def indexed(**spec: Any) -> Object:
    return job(completionMode="Indexed", **{"completions": 3, "parallelism": 3, **spec})


def failing(*rules: Object, restart: str = "Never", **spec: Any) -> Object:
    return job(restart=restart, podFailurePolicy={"rules": list(rules)}, **spec)


def exits(**codes: Any) -> Object:
    return {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1], **codes}}


def cron(name: str = "c", schedule: str = "* * * * *", **spec: Any) -> Object:
    template = {"spec": job()["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }


ROLLING = "spec.updateStrategy.rollingUpdate"
BROKEN: list[tuple[Kind, Object, str]] = [
    (kinds.STATEFUL_SETS, stateful_set(podManagementPolicy="Chaos"),
     'spec.podManagementPolicy: Unsupported value: "Chaos"'),
    (kinds.STATEFUL_SETS, stateful_set(updateStrategy={"type": "Never"}),
     ('spec.updateStrategy.type: Unsupported value: "Never": supported values: '
      '"RollingUpdate", "OnDelete"')),
    (kinds.STATEFUL_SETS, stateful_set(updateStrategy={"rollingUpdate": {"partition": -1}}),
     f"{ROLLING}.partition: Invalid value: -1: must be greater than or equal to 0"),
    (kinds.STATEFUL_SETS, stateful_set(updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
     f"{ROLLING}.maxUnavailable: Invalid value: 0: cannot be 0"),
    (kinds.STATEFUL_SETS, stateful_set(ordinals={"start": -2}),
     "spec.ordinals.start: Invalid value: -2"),
    (kinds.STATEFUL_SETS,
     stateful_set(persistentVolumeClaimRetentionPolicy={"whenScaled": "Burn"}),
     "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value"),
    (kinds.DAEMON_SETS, daemon_set(maxUnavailable=0),
     f"{ROLLING}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
    (kinds.DAEMON_SETS, daemon_set(maxUnavailable=1, maxSurge="10%"),
     f'{ROLLING}.maxSurge: Invalid value: "10%": may not be set when maxUnavailable is non-zero'),
    (kinds.DAEMON_SETS, daemon_set(maxUnavailable="many"), f"{ROLLING}.maxUnavailable: Invalid"),
    (kinds.JOBS, job(completionMode="Sometimes"), "spec.completionMode: Unsupported value"),
    (kinds.JOBS, job(activeDeadlineSeconds=-1), "spec.activeDeadlineSeconds: Invalid value: -1"),
    (kinds.JOBS, job(completionMode="Indexed", parallelism=2),
     "spec.completions: Required value: when completion mode is Indexed"),
    (kinds.JOBS, job(backoffLimitPerIndex=1),
     "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"),
    (kinds.JOBS, indexed(maxFailedIndexes=2),
     "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"),
    (kinds.JOBS, indexed(backoffLimitPerIndex=1, maxFailedIndexes=4),
     "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"),
    (kinds.JOBS, job("a" * 62, completionMode="Indexed", completions=2, parallelism=2),
     "will not able to create pod with invalid DNS label"),
    (kinds.JOBS, job(successPolicy={"rules": [{"succeededCount": 1}]}),
     'spec.successPolicy: Invalid value: "{}": requires indexed completion mode'),
    (kinds.JOBS, indexed(successPolicy={"rules": []}),
     "spec.successPolicy.rules: Required value: at least one rule must be specified"),
    (kinds.JOBS, indexed(successPolicy={"rules": [{}]}),
     "spec.successPolicy.rules[0]: Required value: at least one of succeededCount"),
    (kinds.JOBS, indexed(successPolicy={"rules": [{"succeededIndexes": "0-3"}]}),
     "spec.successPolicy.rules[0].succeededIndexes: Invalid value"),
    (kinds.JOBS, indexed(successPolicy={"rules": [{"succeededCount": 4}]}),
     "spec.successPolicy.rules[0].succeededCount: Invalid value: 4"),
    (kinds.JOBS, failing(exits(), restart="OnFailure"),
     'only "Never" is supported when podFailurePolicy is specified'),
    (kinds.JOBS, failing(exits(), podReplacementPolicy="TerminatingOrFailed"),
     'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed"'),
    (kinds.JOBS, failing({"action": "FailJob"}),
     "specifying one of OnExitCodes and OnPodConditions is required"),
    (kinds.JOBS, failing({**exits(), "action": "FailIndex"}),
     "spec.podFailurePolicy.rules[0].action: Invalid value"),
    (kinds.JOBS, failing(exits(values=[0, 1])), "must not be 0 for the In operator"),
    (kinds.JOBS, failing(exits(containerName="nobody")),
     "must be one of the container or initContainer names in the pod template"),
    (kinds.CRON_JOBS, cron("c" * 53), "metadata.name: Invalid value"),
    (kinds.CRON_JOBS, cron(schedule="61 * * * *"), 'spec.schedule: Invalid value: "61 * * * *"'),
    (kinds.CRON_JOBS, cron(timeZone="Moon/Far"),
     'spec.timeZone: Invalid value: "Moon/Far": unknown time zone Moon/Far'),
    (kinds.CRON_JOBS, cron(startingDeadlineSeconds=-1), "spec.startingDeadlineSeconds: Invalid"),
    (kinds.CRON_JOBS, cron(concurrencyPolicy="Maybe"), "spec.concurrencyPolicy: Unsupported"),
    (kinds.CRON_JOBS, cron(jobTemplate={"spec": job(parallelism=-1)["spec"]}),
     "spec.jobTemplate.spec.parallelism: Invalid value: -1"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "obj", "text"), BROKEN, ids=[text[:60] for _, _, text in BROKEN])
async def test_what_can_never_run_is_refused(api: Api, kind: Kind, obj: Object, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        await api.create(kind, obj)
    assert text in refused.value.message


def mounting(volume: str) -> Object:
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    made = stateful_set(volumeClaimTemplates=[claim])
    mount = {"name": volume, "mountPath": "/data"}
    inner = made["spec"]["template"]["spec"]
    [container] = inner["containers"]
    spec = {**inner, "containers": [{**container, "volumeMounts": [mount]}]}
    template = {**made["spec"]["template"], "spec": spec}
    return {**made, "spec": {**made["spec"], "template": template}}


async def test_replicas_mount_what_their_set_claims_and_nothing_else(api: Api) -> None:
    await api.create(kinds.STATEFUL_SETS, mounting("data"))
    with pytest.raises(Invalid, match=r'volumeMounts\[0\]\.name: Not found: "other"'):
        await api.create(kinds.STATEFUL_SETS, mounting("other"))


WHOLE = [
    (kinds.STATEFUL_SETS, stateful_set(ordinals={"start": 3})),
    (kinds.DAEMON_SETS, daemon_set(maxUnavailable=0, maxSurge="10%")),
    (kinds.JOBS, indexed(backoffLimitPerIndex=1, maxFailedIndexes=2)),
    (kinds.JOBS, indexed(successPolicy={"rules": [{"succeededIndexes": "0,2"}]})),
    (kinds.JOBS, failing(exits(), {"action": "Ignore",
                                   "onPodConditions": [{"type": "DisruptionTarget"}]})),
    (kinds.CRON_JOBS, cron(schedule="@daily", timeZone="Europe/Berlin")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "obj"), WHOLE)
async def test_what_makes_sense_is_taken(api: Api, kind: Kind, obj: Object) -> None:
    made = await api.create(kind, obj)
    assert made["metadata"]["uid"]


async def test_an_elastic_job_may_grow_and_no_other(api: Api) -> None:
    await api.create(kinds.JOBS, indexed())
    grown = {"spec": {"completions": 5, "parallelism": 5}}
    assert (await api.patch(kinds.JOBS, "j", grown))["spec"]["completions"] == 5
    with pytest.raises(Invalid, match=r"spec\.completions: .*field is immutable"):
        await api.patch(kinds.JOBS, "j", {"spec": {"completions": 7}})


async def test_a_job_that_was_never_started_may_be_told_anew(api: Api) -> None:
    await api.create(kinds.JOBS, job(suspend=True))
    patch = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
    await api.patch(kinds.JOBS, "j", patch)
    await api.patch(kinds.JOBS, "j", {"status": {"startTime": "2026-01-01T00:00:00Z"}}, "status")
    patch = {"spec": {"template": {"metadata": {"annotations": {"a": "c"}}}}}
    with pytest.raises(Invalid, match=r"spec\.template: .*field is immutable"):
        await api.patch(kinds.JOBS, "j", patch)
