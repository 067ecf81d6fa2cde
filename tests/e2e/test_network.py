"""Real packets: Pod to Pod, through Services, from nodes and from outside, by name."""

import urllib.request
from functools import partial
from typing import Any

import pytest

from tests.e2e.support import SLEEP, WEB, DevCluster, Kubectl, deployment, pod, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def web(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Three replicas that answer with their names, one on each node, behind Service `web`."""
    replicas = deployment(
        "web", 3, *WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    )
    kubectl.apply(replicas, service("web"))
    kubectl.apply(pod("client", *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    pods = kubectl.ready_pods("app=web")
    assert len({p["spec"]["nodeName"] for p in pods}) == 3
    return pods


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def fetch(kubectl: Kubectl, url: str) -> str:
    done = kubectl.result("exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", url)
    return done.stdout.strip()


def names(pods: list[dict[str, Any]]) -> set[str]:
    return {p["metadata"]["name"] for p in pods}


def test_pods_on_all_nodes_reach_each_other(kubectl: Kubectl, web: list[dict[str, Any]]) -> None:
    for replica in web:
        address = replica["status"]["podIP"]
        assert fetch(kubectl, f"http://{address}:8080/") == replica["metadata"]["name"]


def test_a_cluster_ip_balances_over_all_nodes_from_a_pod(
    kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    loop = "for i in $(seq 30); do timeout 3 wget -q -O - http://web/ || echo failed; done"
    answers = kubectl("exec", "client", "--", "sh", "-c", loop).split()
    assert set(answers) == names(web)


def test_a_cluster_ip_works_from_every_node(
    cluster: DevCluster, kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    address = kubectl.json("get", "service", "web")["spec"]["clusterIP"]
    for node in cluster.node_addresses():
        call = f"timeout 3 busybox wget -q -O - http://{address}/ || echo failed"
        loop = f"for i in $(seq 12); do {call}; done"
        answers = cluster.on_node(node, "sh", "-c", loop).split()
        assert set(answers) <= names(web)
        assert len(set(answers)) > 1


def test_a_node_port_answers_outside_on_every_node(
    cluster: DevCluster, kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    kubectl.apply(service("web", type="NodePort"))
    port = kubectl.json("get", "service", "web")["spec"]["ports"][0]["nodePort"]
    for address in cluster.node_addresses().values():
        answers = {wait_until(partial(outside, address, port)) for _ in range(12)}
        assert answers <= names(web)
        assert len(answers) > 1


def outside(address: str, port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=2) as answer:
            return str(answer.read().decode().strip())
    except OSError:
        return ""


def test_services_resolve_by_every_form_of_their_name(
    kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    ns = kubectl.namespace
    for name in ("web", f"web.{ns}", f"web.{ns}.svc", f"web.{ns}.svc.cluster.local"):
        assert fetch(kubectl, f"http://{name}/") in names(web)
    assert fetch(kubectl, "http://absent/") == ""


def test_a_headless_service_resolves_to_its_pods(
    kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    headless = service("web", clusterIP="None")
    headless["metadata"]["name"] = "peers"
    kubectl.apply(headless)
    lookup = ("exec", "client", "--", "nslookup", f"peers.{kubectl.namespace}.svc.cluster.local")
    addresses = {p["status"]["podIP"] for p in web}
    wait_until(lambda: all(a in kubectl.result(*lookup).stdout for a in addresses))


def test_a_service_without_endpoints_refuses_at_once(
    kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    kubectl.apply(service("empty"))
    address = kubectl.json("get", "service", "empty")["spec"]["clusterIP"]
    wait_until(
        lambda: (
            "refused"
            in kubectl.result(
                "exec", "client", "--", "timeout", "5", "wget", "-O", "-", f"http://{address}/"
            ).stderr
        )
    )


def test_a_pod_reaches_itself_through_its_service(
    kubectl: Kubectl, web: list[dict[str, Any]]
) -> None:
    kubectl("scale", "deployment", "web", "--replicas=1")
    [last] = wait_until(lambda: len(left := kubectl.pods("app=web")) == 1 and left)
    loop = "for i in 1 2 3 4 5; do timeout 3 wget -q -O - http://web/ || echo failed; done"
    wait_until(
        lambda: (
            set(kubectl("exec", last["metadata"]["name"], "--", "sh", "-c", loop).split())
            == {last["metadata"]["name"]}
        )
    )


def test_the_api_is_reachable_from_a_pod_by_name(kubectl: Kubectl) -> None:
    kubectl.apply(pod("client", *SLEEP))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    dial = "nc -w 3 kubernetes.default.svc.cluster.local 443 < /dev/null && echo open"
    assert kubectl("exec", "client", "--", "sh", "-c", dial).strip() == "open"
