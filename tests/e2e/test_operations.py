"""A day's work with the real kubectl: drains, lost machines, bad releases, new settings."""

import base64
import itertools
import os
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sampan.apiserver.pki import key_pem
from tests.e2e.support import SLEEP, WEB, DevCluster, Kubectl, deployment, run, wait_until
from tests.e2e.test_network import service

pytestmark = pytest.mark.e2e
PROBE = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}


@pytest.fixture(scope="module")
def machines() -> Iterator[DevCluster]:
    """Three nodes that these tests may drain and kill."""
    with DevCluster(f"o{os.getpid()}", nodes=3) as running:
        yield running


class Load:
    """Asks one URL after the other, each over a connection of its own, and notes what fails."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.asked = 0
        self.failures: list[str] = []
        self._urls = itertools.cycle(urls)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            url = next(self._urls)
            self.asked += 1
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http only
                    answer.read()
            except (OSError, HTTPException) as error:
                self.failures.append(f"{url}: {error}")


def urls(cluster: DevCluster, kubectl: Kubectl) -> list[str]:
    port = kubectl.json("get", "service", "web")["spec"]["ports"][0]["nodePort"]
    return [f"http://{address}:{port}/" for address in cluster.node_addresses().values()]


def budget(name: str) -> dict[str, Any]:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": spec,
    }


def test_draining_each_node_in_turn_fails_no_request_of_a_single_guarded_replica(
    machines: DevCluster,
) -> None:
    kubectl = machines.kubectl("default")
    guarded = deployment("web", 1, *WEB, readinessProbe=PROBE)
    kubectl.apply(guarded, service("web", type="NodePort"), budget("web"))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    wait_until(lambda: kubectl.json("get", "pdb", "web")["status"].get("currentHealthy") == 1)
    with Load(urls(machines, kubectl)) as load:
        for node in ("node-1", "node-2", "node-3"):
            before = kubectl.ready_pods("app=web")[0]["spec"]["nodeName"]
            kubectl("drain", node, "--ignore-daemonsets", "--timeout=60s")
            after = [p["spec"]["nodeName"] for p in kubectl.ready_pods("app=web")]
            assert len(after) == 1
            assert after[0] != node
            assert before == node or after[0] == before
            kubectl("uncordon", node)
    assert load.asked > 20
    assert load.failures == []
    kubectl("delete", "deployment,service,pdb", "web")


def test_a_drain_says_what_cannot_move_and_why(machines: DevCluster) -> None:
    kubectl = machines.kubectl("default")
    pinned = deployment("pinned", 1, *SLEEP)
    pinned["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-1"}
    kubectl.apply(pinned, budget("pinned"))
    kubectl("rollout", "status", "deployment/pinned", "--timeout=60s")
    refused = kubectl.result("drain", "node-1", "--timeout=15s")
    kubectl("uncordon", "node-1")
    assert refused.returncode != 0
    assert "Cannot evict pod pinned-" in refused.stderr
    assert "has no node: 0/3 nodes are available" in refused.stderr
    assert [p["spec"]["nodeName"] for p in kubectl.ready_pods("app=pinned")] == ["node-1"]
    kubectl("delete", "deployment,pdb", "pinned")


def test_load_moves_back_to_a_machine_that_returns(machines: DevCluster) -> None:
    kubectl = machines.kubectl("default")
    kubectl.apply(deployment("web", 6, *WEB, readinessProbe=PROBE), service("web", type="NodePort"))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")

    def per_node() -> Counter[str]:
        return Counter(p["spec"]["nodeName"] for p in kubectl.ready_pods("app=web"))

    machines.sampan("dev", "kill", "node-2", "--name", machines.name)
    wait_until(lambda: per_node() == {"node-1": 3, "node-3": 3}, seconds=60, what="3 and 3")
    machines.sampan("dev", "up", "--name", machines.name)
    with Load(urls(machines, kubectl)) as load:
        wait_until(lambda: set(per_node().values()) == {2}, seconds=90, what="2, 2 and 2")
    assert load.failures == []
    reasons = kubectl("get", "events", "-o", "jsonpath={.items[*].reason}")
    assert "Rebalancing" in reasons


def test_a_release_that_crashes_is_taken_back_with_its_last_words(kubectl: Kubectl) -> None:
    shop = deployment("shop", 2, *WEB, terminationMessagePolicy="FallbackToLogsOnError")
    shop["metadata"]["annotations"] = {"sampan.io/on-failure": "rollback"}
    kubectl.apply(shop)
    kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    command = ["sh", "-c", "echo no database here; exit 3"]
    shop["spec"]["template"]["spec"]["containers"][0]["command"] = command
    kubectl.apply(shop)
    kubectl("wait", "--for=condition=RolledBack", "deployment/shop", "--timeout=60s")
    kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    told = kubectl("describe", "deployment", "shop")
    assert "ended with exit code 3: no database here" in told
    assert all(p["spec"]["containers"][0]["command"] == list(WEB) for p in kubectl.pods())
    assert len(kubectl.ready_pods("app=shop")) == 2


def test_new_settings_reach_a_workload_that_asks_for_them(kubectl: Kubectl) -> None:
    settings: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"GREETING": "hello"},
    }
    source = [{"configMapRef": {"name": "settings"}}]
    app = deployment("app", 1, "sh", "-c", "echo $GREETING; exec sleep 100000", envFrom=source)
    app["metadata"]["annotations"] = {"sampan.io/on-change": "restart"}
    kubectl.apply(settings, app)
    kubectl("rollout", "status", "deployment/app", "--timeout=60s")
    wait_until(lambda: "sampan.io/config" in kubectl("get", "deployment", "app", "-o", "yaml"))
    settings["data"]["GREETING"] = "good evening"
    kubectl.apply(settings)
    wait_until(
        lambda: (
            [p for p in kubectl.ready_pods() if len(kubectl.pods()) == 1]
            and kubectl("logs", "deployment/app") == "good evening\n"
        ),
        what="the new greeting",
    )


def test_an_autoscaler_follows_what_its_pods_use(kubectl: Kubectl) -> None:
    burning = ("sh", "-c", "while true; do :; done")
    limits = {"requests": {"cpu": "20m"}, "limits": {"cpu": "60m"}}
    kubectl.apply(deployment("busy", 1, *burning, resources=limits))
    kubectl("rollout", "status", "deployment/busy", "--timeout=60s")
    kubectl("autoscale", "deployment", "busy", "--min=1", "--max=2", "--cpu=100%")
    wait_until(
        lambda: len(kubectl.ready_pods("app=busy")) == 2, seconds=90, what="a second replica"
    )
    told = kubectl("describe", "hpa", "busy")
    assert "ValidMetricFound" in told
    assert "SuccessfulRescale" in told


def test_an_approved_signing_request_makes_a_user(kubectl: Kubectl, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    }
    kubectl.apply(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": "ann"},
            "spec": spec,
        }
    )
    kubectl("certificate", "approve", "ann")
    made = wait_until(lambda: kubectl.json("get", "csr", "ann")["status"].get("certificate"))
    files = {"ann.crt": base64.b64decode(made), "ann.key": key_pem(key)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    certificate, private = (str(tmp_path / name) for name in files)
    kubectl("delete", "csr", "ann")
    server = kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    ca = tmp_path / "ca.crt"
    told = kubectl("config", "view", "--raw", "-o", "jsonpath={..certificate-authority-data}")
    ca.write_bytes(base64.b64decode(told))
    who = run(
        kubectl.command[0], "--kubeconfig=/dev/null", f"--server={server}",
        f"--certificate-authority={ca}", f"--client-certificate={certificate}",
        f"--client-key={private}", "auth", "whoami",
    )  # fmt: skip
    assert "ann" in who.stdout
