"""Sessions of the real kubectl, as a person would type them."""

import json

from tests.clients.conftest import Tools

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: app}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"""


def test_a_deployment_from_apply_to_delete(tools: Tools) -> None:
    assert tools.kubectl("apply", "-f", "-", stdin=WEB).count("created") == 2
    assert "successfully rolled out" in tools.kubectl("rollout", "status", "deploy/web")
    assert tools.attempt("kubectl", "diff", "-f", "-", stdin=WEB).returncode == 0
    changed = WEB.replace("replicas: 2", "replicas: 3")
    difference = tools.attempt("kubectl", "diff", "-f", "-", stdin=changed, PATH="/usr/bin:/bin")
    assert difference.returncode == 1
    assert "+  replicas: 3" in difference.stdout

    tools.kubectl("set", "env", "deploy/web", "MOTTO=sail")
    tools.kubectl("rollout", "status", "deploy/web")
    assert len(tools.kubectl("rollout", "history", "deploy/web").splitlines()) >= 4
    tools.kubectl("rollout", "undo", "deploy/web")
    tools.kubectl("rollout", "status", "deploy/web")
    assert "MOTTO" not in tools.kubectl("get", "deploy", "web", "-o", "yaml")

    tools.kubectl("scale", "deploy/web", "--replicas=1", "--current-replicas=2")
    tools.kubectl("wait", "deploy/web", "--for=jsonpath={.status.replicas}=1", "--timeout=30s")
    described = tools.kubectl("describe", "deploy", "web")
    assert "1 desired" in described
    tools.kubectl("delete", "-f", "-", "--timeout=30s", stdin=WEB)
    assert tools.kubectl("get", "deploy,rs,svc", "-o", "name") == ""


def test_labels_annotations_patches_and_selectors(tools: Tools) -> None:
    for name in ("a", "b"):
        tools.kubectl("create", "cm", name, "--from-literal=k=1")
    tools.kubectl("label", "cm", "a", "tier=web")
    tools.kubectl("annotate", "cm", "a", "note=x")
    tools.kubectl("annotate", "cm", "a", "note-")
    tools.kubectl("patch", "cm", "a", "--type=json", "-p", '[{"op":"remove","path":"/data/k"}]')
    found = tools.kubectl("get", "cm", "-l", "tier in (web),!gone", "-o", "json")
    [only] = json.loads(found)["items"]
    assert "annotations" not in only["metadata"]
    assert not only.get("data")
    by_field = tools.kubectl("get", "cm", "--field-selector=metadata.name=b", "-o", "name")
    assert by_field == "configmap/b\n"
    tools.kubectl("replace", "-f", "-", stdin=json.dumps({**only, "data": {"k": "2"}}))
    again = tools.attempt("kubectl", "replace", "-f", "-", stdin=json.dumps(only))
    assert "the object has been modified" in again.stderr


def test_taking_over_from_client_side_apply_keeps_one_owner(tools: Tools) -> None:
    tools.kubectl("apply", "-f", "-", stdin=WEB)
    tools.kubectl("apply", "--server-side", "-f", "-", stdin=WEB)
    scaled = WEB.replace("replicas: 2", "replicas: 1")
    tools.kubectl("apply", "--server-side", "-f", "-", stdin=scaled)
    tools.kubectl("scale", "deploy/web", "--replicas=4")
    refused = tools.attempt("kubectl", "apply", "--server-side", "-f", "-", stdin=scaled)
    assert ".spec.replicas" in refused.stderr
    forced = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    tools.kubectl(*forced, stdin=scaled)
    assert tools.kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "1"


def test_a_cordoned_and_drained_node_is_left_and_comes_back(tools: Tools) -> None:
    tools.kubectl("create", "deployment", "web", "--image=app", "--replicas=2")
    tools.kubectl("rollout", "status", "deploy/web")
    drained = ("drain", "node-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    tools.kubectl(*drained, "--timeout=45s", "--pod-selector=app=web")
    try:
        tools.kubectl("rollout", "status", "deploy/web")
        nodes = tools.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={..nodeName}")
        assert set(nodes.split()) == {"node-2"}
    finally:
        tools.kubectl("uncordon", "node-1")
