"""What people do to Pods that run: look into them, measure them, give them more, read long logs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import IMAGE, SLEEP, DevCluster, Kubectl, is_ready, pod, wait_until

pytestmark = pytest.mark.e2e

HELD = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


def ready(kubectl: Kubectl, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = kubectl.json("get", "pod", name)
        return found if is_ready(found) else None

    return wait_until(look, what=f"{name} is ready")


def test_kubectl_debug_looks_at_the_processes_of_a_running_container(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web", *SLEEP))
    ready(kubectl, "web")
    seen = ("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo; sleep 1000")
    debug = ("debug", "web", f"--image={IMAGE}", "--target=main", "-c", "guest", "--", *seen)
    kubectl(*debug)
    wait_until(lambda: kubectl.result("logs", "web", "-c", "guest").stdout == "sleep 100000 \n")
    status = kubectl.json("get", "pod", "web")["status"]
    assert "running" in status["ephemeralContainerStatuses"][0]["state"]
    assert status["containerStatuses"][0]["restartCount"] == 0
    shown = kubectl("exec", "web", "-c", "guest", "--", "sh", "-c", "ls /proc | grep -c '^[0-9]'")
    assert int(shown) >= 3


def test_kubectl_top_tells_who_uses_the_cpu(kubectl: Kubectl, cluster: DevCluster) -> None:
    busy = ("sh", "-c", "while :; do :; done")
    kubectl.apply(pod("busy", *busy, resources=HELD), pod("idle", *SLEEP))
    node = ready(kubectl, "busy")["spec"]["nodeName"]
    ready(kubectl, "idle")

    def cores() -> dict[str, int]:
        lines = kubectl.result("top", "pods", "--no-headers").stdout.splitlines()
        rows = [line.split() for line in lines]
        return {row[0]: int(row[1].removesuffix("m")) for row in rows if len(row) == 3}

    wait_until(lambda: 150 <= cores().get("busy", 0) <= 250, seconds=40, what="200m are told")
    assert cores()["idle"] < 20
    shown = cluster.kubectl()("top", "nodes", "--no-headers")
    assert {line.split()[0] for line in shown.splitlines()} == set(cluster.node_addresses())
    text = cluster.kubectl()("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
    mine = [p for p in json.loads(text)["pods"] if p["podRef"]["namespace"] == kubectl.namespace]
    [found] = [p for p in mine if p["podRef"]["name"] == "busy"]
    assert found["memory"]["workingSetBytes"] > 0
    assert found["network"]["name"] == "eth0"
    assert found["containers"][0]["rootfs"]["usedBytes"] < 10 << 20
    metrics = cluster.kubectl()("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/resource")
    assert f'container="main",namespace="{kubectl.namespace}",pod="busy"' in metrics


def test_a_container_gets_more_without_a_restart(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web", *SLEEP, resources=HELD))
    ready(kubectl, "web")
    limits = {"cpu": "400m", "memory": "96Mi"}
    more = {"requests": HELD["requests"], "limits": limits}
    patch = {"spec": {"containers": [{"name": "main", "resources": more}]}}
    kubectl("patch", "pod", "web", "--subresource=resize", "-p", json.dumps(patch))

    def done() -> bool:
        [status] = kubectl.json("get", "pod", "web")["status"]["containerStatuses"]
        return bool(status.get("resources", {}).get("limits") == limits)

    wait_until(done, what="the resize is told")
    read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    found = kubectl.result("exec", "web", "--", "sh", "-c", f"{read}").stdout
    assert found.strip() in {str(96 << 20), ""}
    [status] = kubectl.json("get", "pod", "web")["status"]["containerStatuses"]
    assert status["restartCount"] == 0


def test_a_container_that_fills_its_log_keeps_only_the_newest_part(
    kubectl: Kubectl, cluster: DevCluster
) -> None:
    script = "seq 1 250000; echo before; sleep 20; echo after; exec sleep 100000"
    kubectl.apply(pod("loud", "sh", "-c", script))
    found = ready(kubectl, "loud")
    node, uid = found["spec"]["nodeName"], found["metadata"]["uid"]
    kept = f"{kubectl.namespace}_loud_{uid}/main"
    logs = Path(cluster.data_dir) / node / "logs" / kept

    def parts() -> list[Path]:
        return sorted(logs.glob("0.log.*"))

    wait_until(lambda: len(parts()) == 1, seconds=40, what="the log is set aside")
    assert kubectl("logs", "loud", "--tail=1").strip() in {"before", "after"}
    wait_until(lambda: kubectl("logs", "loud", "--tail=2") == "before\nafter\n", seconds=40)
    assert (logs / "0.log").stat().st_size < 10 << 20
