"""StatefulSets, DaemonSets, Jobs and CronJobs as the real kubectl sees them on real nodes."""

from datetime import datetime
from typing import Any

import pytest

from tests.e2e.support import IMAGE, SLEEP, WEB, Kubectl, deployment, wait_until

pytestmark = pytest.mark.e2e


def stateful_set(name: str, replicas: int, *command: str) -> dict[str, Any]:
    made = deployment(name, replicas, *command)
    return {**made, "kind": "StatefulSet", "spec": {**made["spec"], "serviceName": name}}


def daemon_set(name: str, *command: str) -> dict[str, Any]:
    made = deployment(name, 1, *command)
    del made["spec"]["replicas"]
    return {**made, "kind": "DaemonSet"}


def headless(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [{"port": 8080}]},
    }


def job(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": IMAGE, "command": list(command)}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod}, **spec},
    }


def test_a_stateful_set_starts_in_order_and_its_pods_have_names(kubectl: Kubectl) -> None:
    kubectl.apply(headless("db"), stateful_set("db", 3, *WEB))
    kubectl("rollout", "status", "statefulset/db", "--timeout=90s")
    pods = {pod["metadata"]["name"]: pod for pod in kubectl.ready_pods("app=db")}
    assert sorted(pods) == ["db-0", "db-1", "db-2"]
    for number in (1, 2):
        made = datetime.fromisoformat(pods[f"db-{number}"]["metadata"]["creationTimestamp"])
        assert made >= ready_since(pods[f"db-{number - 1}"])
    assert kubectl("exec", "db-0", "--", "hostname").strip() == "db-0"
    full = f"db-2.db.{kubectl.namespace}.svc.cluster.local"
    wait_until(
        lambda: (
            f"Address: {pods['db-2']['status']['podIP']}"
            in kubectl.result("exec", "db-0", "--", "nslookup", full).stdout
        ),
        what="db-2 is found by its name",
    )
    before = pods["db-1"]["metadata"]["uid"]
    kubectl("delete", "pod", "db-1")
    wait_until(
        lambda: any(
            pod["metadata"]["name"] == "db-1" and pod["metadata"]["uid"] != before
            for pod in kubectl.ready_pods("app=db")
        ),
        what="db-1 comes back",
    )
    kubectl("scale", "statefulset/db", "--replicas=1")
    wait_until(lambda: [p["metadata"]["name"] for p in kubectl.pods("app=db")] == ["db-0"])


def test_each_replica_has_a_volume_of_its_own_that_comes_back_with_it(kubectl: Kubectl) -> None:
    made = stateful_set("db", 2, *SLEEP)
    [container] = made["spec"]["template"]["spec"]["containers"]
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    size = {"requests": {"storage": "16Mi"}}
    template = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": size},
    }
    policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    more = {"volumeClaimTemplates": [template], "persistentVolumeClaimRetentionPolicy": policy}
    kubectl.apply(headless("db"), {**made, "spec": {**made["spec"], **more}})
    kubectl("rollout", "status", "statefulset/db", "--timeout=90s")
    for name in ("db-0", "db-1"):
        kubectl("exec", name, "--", "sh", "-c", "hostname > /data/me")
    kubectl("scale", "statefulset/db", "--replicas=1")
    wait_until(lambda: [p["metadata"]["name"] for p in kubectl.pods("app=db")] == ["db-0"])
    kubectl("scale", "statefulset/db", "--replicas=2")
    kubectl("rollout", "status", "statefulset/db", "--timeout=90s")
    assert kubectl("exec", "db-1", "--", "cat", "/data/me").strip() == "db-1"
    claims = {claim["metadata"]["name"] for claim in kubectl.json("get", "pvc")["items"]}
    assert claims == {"data-db-0", "data-db-1"}
    kubectl("delete", "statefulset", "db")
    wait_until(lambda: kubectl.json("get", "pvc")["items"] == [], what="its claims go with it")


def ready_since(pod: dict[str, Any]) -> datetime:
    [at] = [c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return datetime.fromisoformat(at)


@pytest.mark.parametrize("kind", ["statefulset", "daemonset"])
def test_a_rollout_is_undone(kubectl: Kubectl, kind: str) -> None:
    made = stateful_set("web", 2, *SLEEP) if kind == "statefulset" else daemon_set("web", *SLEEP)
    what = f"{kind}/web"
    kubectl.apply(made)
    kubectl("rollout", "status", what, "--timeout=60s")
    if kind == "daemonset":
        nodes = {pod["spec"]["nodeName"] for pod in kubectl.ready_pods("app=web")}
        assert len(nodes) == 3
    kubectl("set", "env", what, "RELEASE=2")
    kubectl("rollout", "status", what, "--timeout=90s")
    assert releases(kubectl) == {"2"}
    history = kubectl("rollout", "history", what).split()
    assert history[-4:] == ["1", "<none>", "2", "<none>"]
    kubectl("rollout", "undo", what)
    kubectl("rollout", "status", what, "--timeout=90s")
    assert releases(kubectl) == {""}
    assert kubectl("rollout", "history", what).split()[-4:] == ["2", "<none>", "3", "<none>"]


def releases(kubectl: Kubectl) -> set[str]:
    """The release that each ready Pod was told."""
    containers = [pod["spec"]["containers"][0] for pod in kubectl.ready_pods("app=web")]
    return {(c.get("env") or [{"value": ""}])[0]["value"] for c in containers}


def test_a_job_runs_to_completion_and_goes_with_its_pods(kubectl: Kubectl) -> None:
    kubectl.apply(job("work", "true", parallelism=2, completions=3))
    kubectl("wait", "--for=condition=complete", "job/work", "--timeout=60s")
    status = kubectl.json("get", "job", "work")["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (3, 0)
    assert status["uncountedTerminatedPods"] == {}
    assert "3/3" in kubectl("get", "job", "work")
    kubectl("delete", "job", "work")
    wait_until(lambda: kubectl.json("get", "pods")["items"] == [], what="its Pods go")


def test_each_pod_of_an_indexed_job_knows_its_index(kubectl: Kubectl) -> None:
    tell = ("sh", "-c", "echo $JOB_COMPLETION_INDEX on $(hostname)")
    kubectl.apply(job("parts", *tell, parallelism=3, completions=3, completionMode="Indexed"))
    kubectl("wait", "--for=condition=complete", "job/parts", "--timeout=60s")
    told = kubectl("logs", "--selector=job-name=parts").splitlines()
    assert sorted(told) == [f"{n} on parts-{n}" for n in range(3)]
    assert kubectl.json("get", "job", "parts")["status"]["completedIndexes"] == "0-2"


def test_a_job_that_keeps_failing_gives_up(kubectl: Kubectl) -> None:
    kubectl.apply(job("broken", "false", backoffLimit=1))
    kubectl("wait", "--for=condition=failed", "job/broken", "--timeout=60s")
    found = kubectl.json("get", "job", "broken")
    reasons = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
    assert reasons == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert found["status"]["failed"] == 2
    assert "BackoffLimitExceeded" in kubectl("describe", "job", "broken")


def test_a_cron_job_is_run_by_hand(kubectl: Kubectl) -> None:
    kubectl("create", "cronjob", "tick", f"--image={IMAGE}", "--schedule=0 0 1 1 *", "--", "true")
    kubectl("create", "job", "now", "--from=cronjob/tick")
    kubectl("wait", "--for=condition=complete", "job/now", "--timeout=60s")
    [owner] = kubectl.json("get", "job", "now")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("CronJob", "tick")
    kubectl("delete", "cronjob", "tick")
    wait_until(lambda: kubectl.json("get", "jobs")["items"] == [], what="its Job goes")
