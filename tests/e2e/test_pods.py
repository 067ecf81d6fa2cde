"""One Pod's whole life on a real node: from spec to container and back."""

from typing import Any

import pytest

from tests.e2e.support import SLEEP, Kubectl, pod, wait_until

pytestmark = pytest.mark.e2e


def container_status(kubectl: Kubectl, name: str) -> dict[str, Any]:
    statuses = kubectl.json("get", "pod", name)["status"].get("containerStatuses") or [{}]
    return dict(statuses[0])


def waiting(kubectl: Kubectl, name: str, *reasons: str) -> dict[str, Any] | None:
    status = container_status(kubectl, name)
    return status if status.get("state", {}).get("waiting", {}).get("reason") in reasons else None


def wait_ready(kubectl: Kubectl, name: str, seconds: int = 30) -> None:
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds}s")


def test_a_container_that_ends_is_started_again_at_once_and_then_backed_off(
    kubectl: Kubectl,
) -> None:
    kubectl.apply(pod("crash", "sh", "-c", "exit 3"))
    wait_until(lambda: container_status(kubectl, "crash").get("restartCount", 0) >= 1, seconds=10)
    status = wait_until(lambda: waiting(kubectl, "crash", "CrashLoopBackOff"), seconds=20)
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "CrashLoopBackOff" in kubectl("get", "pod", "crash")


def test_never_and_on_failure_are_honoured(kubectl: Kubectl) -> None:
    done = pod("done", "true")
    done["spec"]["restartPolicy"] = "Never"
    failed = pod("failed", "sh", "-c", "exit 9")
    failed["spec"]["restartPolicy"] = "Never"
    fine = pod("fine", "true")
    fine["spec"]["restartPolicy"] = "OnFailure"
    kubectl.apply(done, failed, fine)
    for name, phase in (("done", "Succeeded"), ("failed", "Failed"), ("fine", "Succeeded")):
        kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", f"pod/{name}", "--timeout=30s")
    assert container_status(kubectl, "failed")["state"]["terminated"]["reason"] == "Error"
    assert "Completed" in kubectl("get", "pod", "done")


def test_liveness_restarts_and_readiness_decides_who_gets_traffic(kubectl: Kubectl) -> None:
    alive = {
        "exec": {"command": ["test", "-e", "/tmp/alive"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    ready = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    probed = pod(
        "probed",
        "sh",
        "-c",
        "touch /tmp/alive; exec sleep 10000",
        livenessProbe=alive,
        readinessProbe=ready,
    )
    kubectl.apply(probed)
    wait_until(lambda: container_status(kubectl, "probed").get("state", {}).get("running"))
    assert not container_status(kubectl, "probed")["ready"]
    kubectl("exec", "probed", "--", "touch", "/tmp/ready")
    wait_ready(kubectl, "probed")
    kubectl("exec", "probed", "--", "rm", "/tmp/ready")
    kubectl("wait", "--for=condition=Ready=false", "pod/probed", "--timeout=20s")
    kubectl("exec", "probed", "--", "rm", "/tmp/alive")
    wait_until(lambda: container_status(kubectl, "probed").get("restartCount", 0) >= 1, seconds=30)
    assert "Liveness probe failed" in kubectl("describe", "pod", "probed")


def test_http_and_tcp_probes(kubectl: Kubectl) -> None:
    kubectl.apply(
        pod(
            "served",
            *("sh", "-c", "mkdir /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www"),
            readinessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            livenessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            ports=[{"containerPort": 8080, "name": "http"}],
        ),
        pod(
            "unserved",
            *SLEEP,
            readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        ),
    )
    wait_ready(kubectl, "served")
    wait_until(lambda: "Readiness probe failed" in kubectl("describe", "pod", "unserved"))
    assert not container_status(kubectl, "unserved")["ready"]


def test_environment_from_fields_config_maps_and_secrets(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=teal")
    kubectl("create", "secret", "generic", "keys", "--from-literal=token=s3cret")
    env = [
        {"name": "PLAIN", "value": "one"},
        {"name": "EXPANDED", "value": "$(PLAIN)-two"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
    ]
    kubectl.apply(
        pod(
            "env", *SLEEP, env=env, envFrom=[{"prefix": "C_", "configMapRef": {"name": "settings"}}]
        )
    )
    wait_ready(kubectl, "env")
    seen = dict(
        line.split("=", 1)
        for line in kubectl("exec", "env", "--", "env").splitlines()
        if "=" in line
    )
    wanted = {
        "PLAIN": "one", "EXPANDED": "one-two", "POD": "env", "COLOUR": "teal", "TOKEN": "s3cret",
        "C_colour": "teal",
    }  # fmt: skip
    assert {name: seen.get(name) for name in wanted} == wanted


def test_config_map_secret_and_empty_dir_volumes(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=teal")
    kubectl("create", "secret", "generic", "keys", "--from-literal=token=s3cret")
    mounts = [
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "keys", "mountPath": "/etc/keys", "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "fast", "mountPath": "/fast"},
    ]
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounted = pod("mounted", *SLEEP, volumeMounts=mounts)
    mounted["spec"]["volumes"] = volumes
    kubectl.apply(mounted)
    wait_ready(kubectl, "mounted")
    assert kubectl("exec", "mounted", "--", "cat", "/etc/settings/colour") == "teal"
    assert kubectl("exec", "mounted", "--", "cat", "/etc/keys/token") == "s3cret"
    assert (
        kubectl("exec", "mounted", "--", "sh", "-c", "echo x > /scratch/f; cat /scratch/f") == "x\n"
    )
    full = kubectl.result(
        "exec", "mounted", "--", "dd", "if=/dev/zero", "of=/fast/f", "bs=64k", "count=64"
    )
    assert full.returncode != 0
    assert "space" in full.stderr
    kubectl(
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=red",
        "-o",
        "yaml",
        "--dry-run=client",
    )
    kubectl("patch", "configmap", "settings", "-p", '{"data": {"colour": "red"}}')
    wait_until(
        lambda: kubectl("exec", "mounted", "--", "cat", "/etc/settings/colour") == "red",
        seconds=90,
        what="the new value in the volume",
    )


def test_the_kernel_enforces_limits_and_oom_is_reported(kubectl: Kubectl) -> None:
    limits = {"limits": {"memory": "32Mi", "cpu": "200m"}}
    hungry = pod("hungry", "sh", "-c", "head -c 200m /dev/zero | tail", resources=limits)
    hungry["spec"]["restartPolicy"] = "Never"
    kubectl.apply(hungry, pod("modest", *SLEEP, resources=limits))
    kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/hungry", "--timeout=30s")
    ended = container_status(kubectl, "hungry")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert "OOMKilled" in kubectl("get", "pod", "hungry")
    wait_ready(kubectl, "modest")
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    read = f"cat {files} 2>/dev/null || true"
    assert int(kubectl("exec", "modest", "--", "sh", "-c", read)) == 32 << 20


def test_termination_is_graceful_and_bounded(kubectl: Kubectl) -> None:
    polite = pod("polite", "sh", "-c", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done")
    polite["spec"]["terminationGracePeriodSeconds"] = 20
    stubborn = pod("stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    stubborn["spec"]["terminationGracePeriodSeconds"] = 2
    kubectl.apply(polite, stubborn)
    wait_ready(kubectl, "polite")
    wait_ready(kubectl, "stubborn")
    kubectl("delete", "pod", "polite", "stubborn", "--wait=false")
    kubectl("wait", "--for=delete", "pod/polite", "--timeout=10s")
    kubectl("wait", "--for=delete", "pod/stubborn", "--timeout=15s")


def test_init_containers_run_first_and_in_order(kubectl: Kubectl) -> None:
    spec = pod("ordered", "sh", "-c", "cat /work/log; exec sleep 10000")
    mount = [{"name": "work", "mountPath": "/work"}]
    spec["spec"]["volumes"] = [{"name": "work", "emptyDir": {}}]
    spec["spec"]["containers"][0]["volumeMounts"] = mount
    image = spec["spec"]["containers"][0]["image"]
    spec["spec"]["initContainers"] = [
        {
            "name": n,
            "image": image,
            "command": ["sh", "-c", f"echo {n} >> /work/log"],
            "volumeMounts": mount,
        }
        for n in ("first", "second")
    ]
    kubectl.apply(spec)
    wait_ready(kubectl, "ordered")
    assert kubectl("logs", "ordered").split() == ["first", "second"]


def test_an_unknown_image_says_so_and_harms_nobody(kubectl: Kubectl) -> None:
    lost = pod("lost", *SLEEP)
    lost["spec"]["containers"][0]["image"] = "127.0.0.1:1/no/such:1"
    kubectl.apply(lost, pod("fine", *SLEEP))
    wait_ready(kubectl, "fine")
    lost_status = wait_until(lambda: waiting(kubectl, "lost", "ErrImagePull", "ImagePullBackOff"))
    assert "127.0.0.1:1/no/such:1" in lost_status["state"]["waiting"]["message"]
    assert "Failed" in kubectl("describe", "pod", "lost")


def test_a_command_that_does_not_exist_is_reported(kubectl: Kubectl) -> None:
    kubectl.apply(pod("typo", "/no/such/program"))
    wait_until(
        lambda: "/no/such/program" in str(container_status(kubectl, "typo")), what="the reason"
    )
