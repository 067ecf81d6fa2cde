"""No request fails while Pods come and go, although the application dies at once when told to."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import DevCluster, Kubectl, deployment, wait_until

pytestmark = pytest.mark.e2e

LOAD = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_updates.py"
APP = (
    "mkdir -p /www; hostname > /www/index.html; trap 'exit 0' TERM; "
    "httpd -f -p 8080 -h /www & while :; do wait; done"
)
REPLICAS = 4
RATE = 50


def web() -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    made = deployment("web", REPLICAS, "sh", "-c", APP, readinessProbe=probe)
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
    return made


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080}],
    },
}


@contextmanager
def load(cluster: DevCluster, port: int, address: str) -> Iterator[dict[str, Any]]:
    """Ask steadily, by the Service's address on a node and by the NodePort of each from outside."""
    first, *_ = nodes = cluster.node_addresses()
    enter = ["nsenter", f"--net=/run/netns/{cluster.netns(first)}", "--"]
    ask = [sys.executable, str(LOAD), "--load"]
    commands = [[*enter, *ask, f"http://{address}/", str(RATE), "new"]]
    commands += [[*ask, f"http://{nodes[n]}:{port}/", str(RATE), "keep"] for n in nodes]
    running = [
        subprocess.Popen(c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for c in commands
    ]
    met: dict[str, Any] = {"answered": 0, "failures": {}}
    try:
        yield met
    finally:
        for process in running:
            told = json.loads(process.communicate("\n", timeout=30)[0])
            met["answered"] += told["answered"]
            met["failures"].update(told["failures"])


def test_updates_and_scaling_lose_no_request(cluster: DevCluster, kubectl: Kubectl) -> None:
    kubectl.apply(web(), SERVICE)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    spec = kubectl.json("get", "service", "web")["spec"]

    def only(replicas: int) -> bool:
        found = kubectl.json("get", "pods", "-l", "app=web")["items"]
        return len(found) == len(kubectl.ready_pods("app=web")) == replicas

    with load(cluster, spec["ports"][0]["nodePort"], spec["clusterIP"]) as met:
        for _ in range(2):
            kubectl("rollout", "restart", "deployment/web")
            kubectl("rollout", "status", "deployment/web", "--timeout=60s")
            wait_until(lambda: only(REPLICAS))
        for replicas in (2, REPLICAS):
            kubectl("scale", "deployment/web", f"--replicas={replicas}")
            wait_until(lambda replicas=replicas: only(replicas))  # type: ignore[misc]
    assert met["failures"] == {}
    assert met["answered"] > 500


def test_every_node_says_which_endpoints_it_acts_on(cluster: DevCluster, kubectl: Kubectl) -> None:
    kubectl.apply(web(), SERVICE)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    label = "kubernetes.io/service-name=web"
    [piece] = kubectl.json("get", "endpointslices", "-l", label)["items"]
    before = int(piece["metadata"]["resourceVersion"])
    kubectl("scale", "deployment/web", "--replicas=1")

    def acknowledged() -> bool:
        leases = cluster.kubectl("kube-node-lease").json("get", "leases")["items"]
        said = [lease["metadata"].get("annotations", {}) for lease in leases]
        return all(int(words.get("sampan.io/applied-endpoints", 0)) > before for words in said)

    wait_until(acknowledged)
