"""Images reach the nodes with a registry and without one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.testing.images import build, docker_archive, oci_archive
from sampan.testing.registry import registry
from tests.e2e.support import SLEEP, DevCluster, Kubectl, deployment, free_port, pod, wait_until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("write", [oci_archive, docker_archive])
def test_a_loaded_archive_runs_on_every_node(
    cluster: DevCluster, kubectl: Kubectl, tmp_path: Path, write: Callable[[Path, str], str]
) -> None:
    archive, name = tmp_path / "image.tar", f"sampan-test/{write.__name__}:1"
    write(archive, name)
    shown = cluster.sampan("image", "load", "--kubeconfig", str(cluster.kubeconfig), str(archive))
    assert name in shown.stdout
    everywhere = deployment("everywhere", 3, *SLEEP)
    everywhere["spec"]["template"]["spec"]["containers"][0]["image"] = name
    kubectl.apply(everywhere)
    kubectl("rollout", "status", "deployment/everywhere", "--timeout=60s")
    assert len({p["spec"]["nodeName"] for p in kubectl.pods()}) == 3


def test_what_is_no_archive_is_refused(cluster: DevCluster, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.tar"
    nonsense.write_text("this is not an image")
    refused = cluster.sampan(
        "image", "load", "--kubeconfig", str(cluster.kubeconfig), str(nonsense), check=False
    )
    assert refused.returncode != 0
    assert "not an image archive" in refused.stderr
    absent = cluster.sampan(
        "image", "load", "--kubeconfig", str(cluster.kubeconfig), "/no/file", check=False
    )
    assert absent.returncode != 0
    assert "/no/file" in absent.stderr


def test_a_node_pulls_from_a_registry(cluster: DevCluster, kubectl: Kubectl) -> None:
    gateway = next(iter(cluster.node_addresses().values())).rpartition(".")[0] + ".1"
    with registry(f"{gateway}:{free_port(gateway)}") as running:
        pulled = pod("pulled", *SLEEP)
        pulled["spec"]["containers"][0]["image"] = running.push("team/pulled", "1", build())
        kubectl.apply(pulled)
        kubectl("wait", "--for=condition=Ready", "pod/pulled", "--timeout=60s")
        wait_until(lambda: "Pulled" in kubectl("events", "--for=pod/pulled"))
