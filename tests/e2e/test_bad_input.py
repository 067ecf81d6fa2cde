"""Bad input gets a clear error and loses nothing."""

import os
import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.e2e.support import BIN, SLEEP, DevCluster, Kubectl, deployment, pod, run

pytestmark = pytest.mark.e2e


def test_a_wrong_type_is_named(kubectl: Kubectl) -> None:
    wrong = deployment("web", 1, *SLEEP)
    wrong["spec"]["replicas"] = "many"
    refused = kubectl.result(
        "apply", "--validate=false", "-f", "-", stdin=str(wrong).replace("'", '"')
    )
    assert refused.returncode != 0
    assert "replicas" in refused.stderr


def test_an_unknown_field_is_named(kubectl: Kubectl) -> None:
    wrong = pod("web", *SLEEP, comand=["typo"])
    refused = kubectl.result("create", "-f", "-", stdin=str(wrong).replace("'", '"'))
    assert refused.returncode != 0
    assert 'unknown field "spec.containers[0].comand"' in refused.stderr


def test_a_missing_field_is_named(kubectl: Kubectl) -> None:
    refused = kubectl.result(
        "create",
        "-f",
        "-",
        stdin='{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}',
    )
    assert "spec.containers: Required value" in refused.stderr


def test_a_taken_name_is_refused_and_nothing_changes(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "mine", "--from-literal=a=1")
    refused = kubectl.result("create", "configmap", "mine", "--from-literal=a=2")
    assert 'configmaps "mine" already exists' in refused.stderr
    assert kubectl("get", "cm", "mine", "-o", "jsonpath={.data.a}") == "1"


def test_a_node_port_in_use_is_refused(kubectl: Kubectl) -> None:
    kubectl("create", "service", "nodeport", "one", "--tcp=80", "--node-port=31999")
    refused = kubectl.result(
        "create", "service", "nodeport", "two", "--tcp=80", "--node-port=31999"
    )
    assert "provided port is already allocated" in refused.stderr
    kubectl("delete", "service", "one")
    kubectl("create", "service", "nodeport", "two", "--tcp=80", "--node-port=31999")


def test_a_kind_and_a_namespace_that_do_not_exist(kubectl: Kubectl) -> None:
    assert (
        'namespaces "nowhere" not found'
        in kubectl.result("create", "cm", "x", "-n", "nowhere").stderr
    )
    assert "doesn't have a resource type" in kubectl.result("get", "boats").stderr


def server(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        "server",
        "--no-agent",
        "--listen",
        "127.0.0.1",
        "--port",
        "16999",
        "--data-dir",
        str(data),
    ]
    return run(str(BIN / "sampan"), *command, *arguments, check=False, seconds=30)


def test_a_corrupt_data_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database at all" * 500)
    refused = server(tmp_path)
    assert refused.returncode != 0
    assert "state.db" in refused.stderr
    assert (tmp_path / "state.db").read_bytes() == b"not a database at all" * 500


def test_a_newer_data_directory_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as newer:
        newer.execute("PRAGMA user_version = 9999")
        newer.execute("CREATE TABLE later (x)")
    newer.close()
    refused = server(tmp_path)
    assert refused.returncode != 0
    assert "newer" in refused.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 16999))
        holder.listen()
        refused = server(tmp_path)
    assert refused.returncode != 0
    assert "16999" in refused.stderr


def test_without_root_the_doctor_says_so(tmp_path: Path) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            str(BIN / "sampan"),
            "doctor",
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if "ermission denied" in done.stderr:
        pytest.skip("the checkout is not readable for other users")
    assert done.returncode == 1
    assert "not running as root" in done.stdout


def test_a_missing_containerd_is_told_with_its_cure(tmp_path: Path) -> None:
    for name in ("crun", "busybox", "nsenter"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        [str(BIN / "sampan"), "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 1
    assert "apt-get install containerd" in done.stdout


def test_a_dev_cluster_needs_a_name_that_fits(cluster: DevCluster) -> None:
    refused = cluster.sampan("dev", "up", "--name", "Far Too Long A Name", check=False)
    assert refused.returncode != 0
    assert "cannot name a dev cluster" in refused.stderr
    assert (
        "there is no dev cluster"
        in cluster.sampan("dev", "kill", "x", "--name", "no", check=False).stderr
    )
