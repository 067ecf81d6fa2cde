"""Deployments on real nodes: they spread, heal, roll and never drop below what was promised."""

import pytest

from tests.e2e.support import SLEEP, WEB, DevCluster, Kubectl, deployment, wait_until

pytestmark = pytest.mark.e2e


def test_replicas_spread_over_the_nodes(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", 6, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    nodes = [p["spec"]["nodeName"] for p in kubectl.ready_pods("app=web")]
    assert sorted(nodes.count(node) for node in set(nodes)) == [2, 2, 2]


def test_a_deleted_pod_is_replaced(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", 2, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    victim = kubectl.pods("app=web")[0]["metadata"]["name"]
    kubectl("delete", "pod", victim, "--wait=false")
    wait_until(
        lambda: (
            len(names := {p["metadata"]["name"] for p in kubectl.ready_pods("app=web")}) == 2
            and victim not in names
        )
    )


def test_a_killed_container_restarts(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", 1, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    [before] = kubectl.pods("app=web")
    name = before["metadata"]["name"]
    container = before["status"]["containerStatuses"][0]["containerID"].removeprefix(
        "containerd://"
    )
    cluster_kill(kubectl, before["spec"]["nodeName"], container)
    after = wait_until(
        lambda: (
            (p := kubectl.json("get", "pod", name))["status"]["containerStatuses"][0][
                "restartCount"
            ]
            == 1
            and p
        ),
        what="one restart",
    )
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=20s")


def cluster_kill(kubectl: Kubectl, node: str, container: str) -> None:
    """Kill a container's first process from outside, as the kernel or an operator might."""
    run_dir = str(kubectl.kubeconfig.parents[1]).replace("/var/lib/", "/run/")
    DevCluster.ctr(
        f"{run_dir}/{node}/containerd.sock", "tasks", "kill", "--signal", "SIGKILL", container
    )


def test_a_rolling_update_keeps_its_promise(kubectl: Kubectl) -> None:
    web = deployment("web", 4, *WEB)
    web["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    kubectl.apply(web)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    web["spec"]["template"]["metadata"]["annotations"] = {"release": "2"}
    kubectl.apply(web)
    least = most = 4
    while True:
        stored = kubectl.json("get", "deployment", "web")
        status = stored["status"]
        least = min(least, status.get("availableReplicas", 0))
        most = max(most, status.get("replicas", 0))
        done = status.get("observedGeneration") == stored["metadata"]["generation"]
        if done and status.get("updatedReplicas") == 4 == status.get("replicas") == status.get(
            "availableReplicas"
        ):
            break
    assert (least, most <= 5) == (4, True)
