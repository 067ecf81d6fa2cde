"""Placement on real nodes: the more important Pod gets the place, and why is told."""

from typing import Any

import pytest

from tests.e2e.support import SLEEP, DevCluster, Kubectl, pod, wait_until

pytestmark = pytest.mark.e2e

PORT = 18_431


def with_port(name: str, node: str, **spec: Any) -> dict[str, Any]:
    made = pod(name, *SLEEP, ports=[{"containerPort": 80, "hostPort": PORT}])
    made["spec"] |= {"nodeSelector": {"kubernetes.io/hostname": node}, **spec}
    return made


def node_of(cluster: DevCluster) -> str:
    return str(cluster.kubectl().json("get", "nodes")["items"][0]["metadata"]["name"])


def phase(kubectl: Kubectl, name: str) -> str:
    return kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}")


def test_a_more_important_pod_takes_the_place_of_another(
    cluster: DevCluster, kubectl: Kubectl
) -> None:
    node = node_of(cluster)
    important = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "important"},
        "value": 1000,
    }
    kubectl.apply(important)
    try:
        kubectl.apply(with_port("low", node))
        kubectl("wait", "--for=condition=Ready", "pod/low", "--timeout=30s")
        kubectl.apply(with_port("equal", node))
        wait_until(lambda: "host port" in kubectl("describe", "pod", "equal"))
        kubectl.apply(with_port("high", node, priorityClassName="important"))
        kubectl("wait", "--for=condition=Ready", "pod/high", "--timeout=30s")
        assert "NotFound" in kubectl.result("get", "pod", "low").stderr
        assert "Preempted by pod" in kubectl("get", "events", "--field-selector=reason=Preempted")
        assert phase(kubectl, "equal") == "Pending"
    finally:
        kubectl("delete", "priorityclass", "important")


def test_a_pod_is_packed_if_its_annotation_says_so(kubectl: Kubectl) -> None:
    for i in range(4):
        packed = pod(f"packed-{i}", *SLEEP, resources={"requests": {"cpu": "1m"}})
        packed["metadata"]["annotations"] = {"sampan.io/placement": "first-fit"}
        kubectl.apply(packed)
    jsonpath = "jsonpath={.items[*].spec.nodeName}"
    names = wait_until(
        lambda: (found := kubectl("get", "pods", "-o", jsonpath).split())[3:] and found
    )
    assert len(set(names)) == 1
