"""What Pods write outlives them: claims on real nodes, and named volumes of Compose files."""

import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.e2e.support import IMAGE, SLEEP, DevCluster, Kubectl, is_ready, pod, wait_until
from tests.e2e.test_compose import Stack, ok

pytestmark = pytest.mark.e2e


def claim(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "64Mi"}},
            **spec,
        },
    }


def using(name: str, claimed: str, *command: str) -> dict[str, Any]:
    made = pod(name, *(command or SLEEP), volumeMounts=[{"name": "v", "mountPath": "/data"}])
    made["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": claimed}}]
    return made


def ready(kubectl: Kubectl, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = kubectl.json("get", "pod", name)
        return found if is_ready(found) else None

    return wait_until(look, what=f"{name} is ready")


def test_a_claim_outlives_its_pods_and_its_directory_goes_with_it(kubectl: Kubectl) -> None:
    kubectl.apply(claim("data"))
    assert kubectl.json("get", "pvc", "data")["spec"]["storageClassName"] == "local-path"
    kubectl.apply(using("one", "data"))
    node = ready(kubectl, "one")["spec"]["nodeName"]
    kubectl("exec", "one", "--", "sh", "-c", "echo kept > /data/file")
    kubectl("delete", "pod", "one")
    kubectl.apply(using("two", "data"))
    assert ready(kubectl, "two")["spec"]["nodeName"] == node
    assert kubectl("exec", "two", "--", "cat", "/data/file") == "kept\n"
    volume = kubectl.json("get", "pvc", "data")["spec"]["volumeName"]
    place = Path(kubectl.json("get", "pv", volume)["spec"]["local"]["path"])
    assert (place / "file").read_text() == "kept\n"
    kubectl("delete", "pvc", "data", "--wait=false")
    assert kubectl.json("get", "pvc", "data")["metadata"]["deletionTimestamp"]
    kubectl("delete", "pod", "two")
    wait_until(lambda: "NotFound" in kubectl.result("get", "pv", volume).stderr, what="the end")
    assert not place.exists()


def test_a_volume_of_an_administrator_is_taken_and_kept(kubectl: Kubectl, tmp_path: Path) -> None:
    name = f"pv-{kubectl.namespace}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "hostPath": {"path": str(tmp_path / "shelf")},
        },
    }
    kubectl.apply(volume, claim("mine", storageClassName="by-hand"))
    try:
        wait_until(lambda: kubectl.json("get", "pvc", "mine")["status"]["phase"] == "Bound")
        kubectl.apply(using("user", "mine"))
        ready(kubectl, "user")
        kubectl("exec", "user", "--", "touch", "/data/mine")
        kubectl("delete", "pod/user", "pvc/mine")
        wait_until(lambda: kubectl.json("get", "pv", name)["status"]["phase"] == "Released")
        assert (tmp_path / "shelf" / "mine").exists()
    finally:
        kubectl("delete", "pv", name)


def test_a_volume_of_an_unknown_kind_is_refused_by_name_and_the_pod_says_so(
    kubectl: Kubectl,
) -> None:
    name = f"nfs-{kubectl.namespace}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "far",
            "nfs": {"server": "192.0.2.1", "path": "/"},
        },
    }
    kubectl.apply(volume, claim("far", storageClassName="far"), using("waits", "far"))
    try:
        wait_until(
            lambda: "this node cannot mount nfs" in kubectl("get", "events"), what="an event"
        )
    finally:
        kubectl("delete", "pod/waits", "pvc/far", "--wait=false")
        kubectl("delete", "pv", name)


FILE = """
    services:
      db:
        image: "{image}"
        command: ["sh", "-c", "date +%s%N >> /data/starts; exec sleep 100000"]
        volumes: [data:/data]
    volumes:
      data:
"""


def test_a_named_volume_survives_down_unless_told_otherwise(
    cluster: DevCluster, tmp_path: Path
) -> None:
    stack = Stack(cluster, tmp_path)
    stack.file.write_text(dedent(FILE.format(image=IMAGE)))
    kubectl = cluster.kubectl(stack.project)

    def starts() -> list[str]:
        [db] = kubectl.ready_pods()
        return kubectl("exec", db["metadata"]["name"], "--", "cat", "/data/starts").split()

    try:
        ok(stack("up"))
        first = starts()
        shown = ok(stack("down"))
        assert "its volumes stay: data" in shown
        assert kubectl.pods() == []
        ok(stack("up"))
        assert starts()[: len(first)] == first
        assert len(starts()) > len(first)
        began = time.monotonic()
        ok(stack("down", "--volumes"))
        assert time.monotonic() - began < 30
        assert "NotFound" in kubectl.result("get", "namespace", stack.project).stderr
    finally:
        stack("down", "--volumes")
