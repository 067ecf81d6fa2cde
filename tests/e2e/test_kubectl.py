"""The real kubectl 1.37 finds what it expects, verb by verb."""

import json
import subprocess

import pytest

from tests.e2e.support import SLEEP, WEB, Kubectl, deployment, pod, wait_until

pytestmark = pytest.mark.e2e


def test_run_get_describe_and_delete_a_pod(kubectl: Kubectl) -> None:
    kubectl("run", "one", "--image=sampan-test/busybox:1", "--command", "--", *SLEEP)
    kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
    table = kubectl("get", "pods").splitlines()
    assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1].split()[:4] == ["one", "1/1", "Running", "0"]
    described = kubectl("describe", "pod", "one")
    for event in ("Scheduled", "Created", "Started"):
        assert event in described
    kubectl("delete", "pod", "one", "--grace-period=1")
    assert "NotFound" in kubectl.result("get", "pod", "one").stderr


def test_output_formats_agree(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=colour=teal")
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.colour}") == "teal"
    assert kubectl.json("get", "cm", "settings")["data"] == {"colour": "teal"}
    assert "colour: teal" in kubectl("get", "cm", "settings", "-o", "yaml")
    assert kubectl("get", "cm", "settings", "-o", "name").strip() == "configmap/settings"
    assert "NAME" in kubectl("get", "cm", "settings", "-o", "wide")


def test_apply_twice_changes_nothing_and_edits_are_merged(kubectl: Kubectl) -> None:
    web = deployment("web", 1, *SLEEP)
    assert "created" in kubectl.apply(web)
    assert "unchanged" in kubectl.apply(web)
    kubectl("annotate", "deployment", "web", "team=blue")
    web["spec"]["replicas"] = 2
    assert "configured" in kubectl.apply(web)
    stored = kubectl.json("get", "deployment", "web")
    assert (stored["spec"]["replicas"], stored["metadata"]["annotations"]["team"]) == (2, "blue")


def test_patch_as_edit_does_and_server_side_apply(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", 1, *SLEEP))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "tty": True}]}}}}
    kubectl("patch", "deployment", "web", "--type=strategic", "-p", json.dumps(patch))
    [container] = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert (container["tty"], container["command"][0]) == (True, "sleep")
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"a": "1"},
    }
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(config))
    config["data"] = {"a": "2"}
    other = kubectl.result(
        "apply", "--server-side", "--field-manager=other", "-f", "-", stdin=json.dumps(config)
    )
    assert "conflict" in other.stderr.lower()
    assert 'conflict with "kubectl"' in other.stderr


def test_create_deployment_expose_and_scale(kubectl: Kubectl) -> None:
    kubectl(
        "create", "deployment", "web", "--image=sampan-test/busybox:1", "--replicas=2", "--", *SLEEP
    )
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    assert kubectl.json("get", "service", "web")["spec"]["clusterIP"].startswith("10.43.")
    slices = kubectl.json("get", "endpointslices", "-l", "kubernetes.io/service-name=web")
    assert sum(len(s.get("endpoints") or []) for s in slices["items"]) == 2
    kubectl("scale", "deployment", "web", "--replicas=3")
    wait_until(lambda: len(kubectl.ready_pods("app=web")) == 3, what="three replicas")


def test_set_image_rollout_history_undo_and_restart(kubectl: Kubectl) -> None:
    kubectl.apply(deployment("web", 2, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("set", "env", "deployment/web", "RELEASE=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(kubectl("rollout", "history", "deployment/web").strip().splitlines()) == 4
    kubectl("set", "image", "deployment/web", "main=sampan-test/absent:9")
    stuck = kubectl.result("rollout", "status", "deployment/web", "--timeout=3s")
    assert stuck.returncode != 0
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    container = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert (container["image"], container["env"]) == (
        "sampan-test/busybox:1",
        [{"name": "RELEASE", "value": "2"}],
    )
    before = {p["metadata"]["name"] for p in kubectl.pods("app=web")}
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert not before & {p["metadata"]["name"] for p in kubectl.ready_pods("app=web")}


def test_logs_follow_until_the_container_ends(kubectl: Kubectl) -> None:
    script = "for n in 1 2 3; do echo line $n; sleep 0.3; done"
    once = pod("talker", "sh", "-c", script)
    once["spec"]["restartPolicy"] = "Never"
    kubectl.apply(once)
    wait_until(lambda: kubectl.json("get", "pod", "talker")["status"]["phase"] != "Pending")
    assert kubectl("logs", "-f", "talker", seconds=20).splitlines() == [
        "line 1",
        "line 2",
        "line 3",
    ]
    assert kubectl("logs", "talker", "--tail=1").strip() == "line 3"
    assert kubectl("logs", "talker", "--timestamps").splitlines()[0].endswith("line 1")


def test_exec_passes_stdin_and_the_exit_code(kubectl: Kubectl) -> None:
    kubectl.apply(pod("box", *SLEEP))
    kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=30s")
    assert kubectl("exec", "box", "--", "echo", "hello") == "hello\n"
    assert kubectl("exec", "-i", "box", "--", "cat", stdin="through and back") == "through and back"
    failed = kubectl.result("exec", "box", "--", "sh", "-c", "echo oops >&2; exit 7")
    assert (failed.returncode, failed.stderr.splitlines()[0]) == (7, "oops")
    absent = kubectl.result("exec", "box", "--", "no-such-program")
    assert absent.returncode != 0
    assert "no-such-program" in absent.stderr


def test_exec_with_a_terminal(kubectl: Kubectl) -> None:
    kubectl.apply(pod("box", *SLEEP))
    kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=30s")
    command = " ".join(
        [
            *kubectl.command,
            "exec",
            "-it",
            "box",
            "--",
            "sh",
            "-c",
            "'tty; until stty size | grep 33; do :; done'",
        ]
    )
    done = subprocess.run(
        ["script", "-qec", f"stty rows 33 cols 101; {command}", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "/dev/pts/" in done.stdout
    assert "33 101" in done.stdout


def test_watch_prints_changes_as_they_happen(kubectl: Kubectl) -> None:
    command = [*kubectl.command, "get", "pods", "-w", "--no-headers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        try:
            kubectl.apply(pod("seen", *SLEEP))
            states = []
            for line in watch.stdout or ():
                states.append(line.split()[2])
                if states[-1] == "Running" and line.split()[1] == "1/1":
                    break
        finally:
            watch.kill()
    assert states[0] == "Pending"
    assert states[-1] == "Running"


def test_cordon_label_and_taint_nodes(kubectl: Kubectl) -> None:
    nodes = [n["metadata"]["name"] for n in kubectl.json("get", "nodes")["items"]]
    kubectl("cordon", nodes[0])
    try:
        assert "Ready,SchedulingDisabled" in kubectl("get", "node", nodes[0])
        kubectl.apply(deployment("web", 4, *SLEEP))
        kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        assert nodes[0] not in {p["spec"]["nodeName"] for p in kubectl.pods("app=web")}
    finally:
        kubectl("uncordon", nodes[0])
    kubectl("label", "node", nodes[1], "disk=ssd")
    pinned = pod("pinned", *SLEEP)
    pinned["spec"]["nodeSelector"] = {"disk": "ssd"}
    kubectl.apply(pinned)
    kubectl("wait", "--for=condition=Ready", "pod/pinned", "--timeout=30s")
    assert kubectl.json("get", "pod", "pinned")["spec"]["nodeName"] == nodes[1]
    kubectl("label", "node", nodes[1], "disk-")


def test_explain_api_resources_and_can_i(kubectl: Kubectl) -> None:
    assert "maxSurge" in kubectl("explain", "deployment.spec.strategy", "--recursive")
    resources = kubectl("api-resources")
    for name in ("pods", "deployments", "endpointslices", "serviceaccounts", "leases"):
        assert name in resources
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    denied = kubectl.result("auth", "can-i", "create", "pods", "--as=nobody")
    assert denied.stdout.strip() == "no"
    assert "system:masters" in kubectl("auth", "whoami")


def test_events_tell_what_happened(kubectl: Kubectl) -> None:
    kubectl.apply(pod("noted", *SLEEP))
    kubectl("wait", "--for=condition=Ready", "pod/noted", "--timeout=30s")
    wait_until(lambda: "Started" in kubectl("events", "--for=pod/noted"), what="a Started event")


def test_wait_for_deletion_and_for_jsonpath(kubectl: Kubectl) -> None:
    kubectl.apply(pod("brief", *SLEEP))
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/brief", "--timeout=30s")
    kubectl("delete", "pod", "brief", "--wait=false")
    kubectl("wait", "--for=delete", "pod/brief", "--timeout=30s")


@pytest.mark.parametrize(
    "kind",
    [
        "serviceaccounts",
        "secrets",
        "configmaps",
        "endpointslices",
        "replicasets",
        "nodes",
        "namespaces",
    ],
)
def test_every_kind_of_the_skeleton_can_be_listed(kubectl: Kubectl, kind: str) -> None:
    assert kubectl.json("get", kind)["kind"] == "List"


def test_a_namespace_goes_with_all_that_is_in_it(kubectl: Kubectl) -> None:
    kubectl("create", "namespace", f"{kubectl.namespace}-b")
    inside = Kubectl(kubectl.kubeconfig, f"{kubectl.namespace}-b")
    inside.apply(deployment("web", 1, *WEB))
    inside("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "namespace", f"{kubectl.namespace}-b", "--timeout=60s")
    assert "NotFound" in kubectl.result("get", "namespace", f"{kubectl.namespace}-b").stderr
