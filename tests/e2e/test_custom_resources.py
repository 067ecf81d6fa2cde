"""A kind of a user's own on a real cluster: its objects own workloads, and go with their kind."""

import pytest

from tests.e2e.support import SLEEP, Kubectl, deployment, wait_until

pytestmark = pytest.mark.e2e

ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def test_a_custom_resource_owns_a_deployment_and_goes_with_its_definition(
    kubectl: Kubectl,
) -> None:
    group = f"{kubectl.namespace}.example.com"  # tests at the same time have kinds of their own
    version = {"name": "v1", "served": True, "storage": True,
               "schema": {"openAPIV3Schema": ANYTHING}}  # fmt: skip
    kubectl.apply({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"shops.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "shops", "kind": "Shop"},
            "versions": [version],
        },
    })  # fmt: skip
    kubectl("wait", "--for=condition=Established", f"crd/shops.{group}", "--timeout=10s")
    shop = {"apiVersion": f"{group}/v1", "kind": "Shop", "metadata": {"name": "s"}}
    kubectl.apply(shop)
    uid = kubectl.json("get", f"shops.{group}", "s")["metadata"]["uid"]
    web = deployment("web", 1, *SLEEP)
    web["metadata"]["ownerReferences"] = [
        {"apiVersion": f"{group}/v1", "kind": "Shop", "name": "s", "uid": uid}
    ]
    kubectl.apply(web)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("delete", "crd", f"shops.{group}", "--timeout=30s")
    wait_until(lambda: "NotFound" in kubectl.result("get", "deployment", "web").stderr)
    wait_until(lambda: not kubectl.json("get", "pods")["items"], seconds=60)
