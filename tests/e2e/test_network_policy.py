"""Policies on a real cluster: enforced from a Pod's first packet, and lifted as quickly."""

from typing import Any

import pytest

from tests.e2e.support import SLEEP, WEB, Kubectl, pod, wait_until

pytestmark = pytest.mark.e2e


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def fetch(kubectl: Kubectl, who: str, address: str) -> bool:
    command = ("timeout", "1", "wget", "-q", "-O", "-", f"http://{address}:8080/")
    return kubectl.result("exec", who, "--", *command).returncode == 0


def verdict(kubectl: Kubectl) -> set[str]:
    """What the newcomer says of its first call, once it has said it."""
    return {"reached", "stopped"} & set(kubectl.result("logs", "newcomer").stdout.split())


def test_default_deny_holds_from_the_first_packet_and_allows_what_it_says(
    kubectl: Kubectl,
) -> None:
    kubectl.apply(pod("web", *WEB), pod("friend", *SLEEP))
    kubectl("wait", "--for=condition=Ready", "pod/web", "pod/friend", "--timeout=30s")
    address = kubectl.json("get", "pod", "web")["status"]["podIP"]
    wait_until(lambda: fetch(kubectl, "friend", address))

    kubectl.apply(policy("deny", podSelector={}, policyTypes=["Egress"]))
    wait_until(lambda: not fetch(kubectl, "friend", address))
    once = f"timeout 1 wget -q -O - http://{address}:8080/ && echo reached || echo stopped"
    kubectl.apply(pod("newcomer", "sh", "-c", f"{once}; sleep 100000"))
    assert wait_until(lambda: verdict(kubectl)) == {"stopped"}

    may = {"podSelector": {"matchLabels": {"app": "friend"}}}
    to = {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}
    kubectl.apply(
        policy("in", podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [may]}]),
        policy("out", podSelector={}, policyTypes=["Egress"], egress=[to]),
    )
    wait_until(lambda: fetch(kubectl, "friend", address))
    assert not fetch(kubectl, "newcomer", address)
