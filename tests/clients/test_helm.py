"""The life of a release with the real helm: hooks, waiting, upgrade, rollback, test, uninstall."""

import json
from pathlib import Path

from tests.clients.conftest import Tools

CHART = str(Path(__file__).parent / "chart")
QUICK = ("--wait", "--timeout", "45s")


def test_a_release_is_installed_upgraded_rolled_back_tested_and_removed(tools: Tools) -> None:
    tools.helm("install", "ship", CHART, *QUICK)
    assert _ready(tools) == 2, "--wait came back before the Deployment was there"
    assert "ship-pre-install" in tools.kubectl("get", "pods", "-o", "name")
    assert tools.kubectl("get", "bt", "ship", "--no-headers").split()[:2] == ["ship", "row"]

    tools.helm("upgrade", "ship", CHART, "--set", "replicas=3,motto=sail", *QUICK)
    assert _ready(tools) == 3
    assert _motto(tools) == "sail"
    assert "ship-post-upgrade" in tools.kubectl("get", "pods", "-o", "name")

    tools.helm("rollback", "ship", "1", *QUICK)
    assert (_ready(tools), _motto(tools)) == (2, "row")
    history = json.loads(tools.helm("history", "ship", "-o", "json"))
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]

    assert "Phase:          Succeeded" in tools.helm("test", "ship")
    assert json.loads(tools.helm("list", "-o", "json"))[0]["name"] == "ship"
    tools.helm("uninstall", "ship", "--wait", "--timeout", "45s")
    assert json.loads(tools.helm("list", "-o", "json")) == []
    left = tools.kubectl(
        "get", "deployments,services,ingresses,boats,configmaps", "-o", "name"
    ).split()
    assert left == ["configmap/kube-root-ca.crt"]


def test_a_release_that_does_not_become_ready_is_rolled_back(tools: Tools) -> None:
    tools.helm("install", "ship", CHART, *QUICK)
    failed = tools.attempt(
        "helm", "upgrade", "ship", CHART, "--set", "image=nowhere.example/missing",
        "--rollback-on-failure", "--timeout", "5s",
    )  # fmt: skip
    assert failed.returncode != 0
    assert "has been rolled back" in failed.stderr
    assert tools.kubectl("get", "deploy", "ship", "-o", "jsonpath={..image}") == "app"


def test_what_another_release_owns_is_not_taken(tools: Tools) -> None:
    tools.kubectl("create", "configmap", "ship")
    refused = tools.attempt("helm", "install", "ship", CHART)
    assert refused.returncode != 0
    assert "invalid ownership metadata" in refused.stderr


def test_a_dry_run_at_the_server_changes_nothing(tools: Tools) -> None:
    tools.helm("install", "ship", CHART, "--dry-run=server")
    assert tools.kubectl("get", "deploy,pods", "-o", "name") == ""


def _ready(tools: Tools) -> int:
    return int(tools.kubectl("get", "deploy", "ship", "-o", "jsonpath={.status.readyReplicas}"))


def _motto(tools: Tools) -> str:
    return tools.kubectl("get", "cm", "ship", "-o", "jsonpath={.data.motto}")
