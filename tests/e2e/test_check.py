"""`sampan check network` on a real cluster: content, then aware of what somebody broke."""

import subprocess

import pytest

from tests.e2e.support import DevCluster, wait_until

pytestmark = pytest.mark.e2e


def check(cluster: DevCluster) -> subprocess.CompletedProcess[str]:
    return cluster.sampan("check", "network", "--kubeconfig", str(cluster.kubeconfig), check=False)


def test_broken_rules_are_found_from_the_terminal_and_mended(cluster: DevCluster) -> None:
    wait_until(lambda: check(cluster).returncode == 0)
    name, *_ = cluster.node_addresses()
    gone = "delete element ip sampan vips { 10.43.0.1 . tcp . 443 }"
    cluster.on_node(name, "nft", gone)
    said = check(cluster)
    assert said.returncode == 1
    assert "vips { 10.43.0.1 . tcp . 443 }: the kernel was not as it must be" in said.stdout
    wait_until(lambda: check(cluster).returncode == 0)
    assert all(node in check(cluster).stdout for node in cluster.node_addresses())
