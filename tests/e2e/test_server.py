"""The two commands by which a user installs Sampan: a server that is a node, and a second node.

Each machine is a network namespace; nothing else is special about them.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.agent.config import AgentConfig
from sampan.agent.containerd import stop_node
from sampan.net import testbed
from sampan.testing.images import oci_archive
from tests.e2e.support import BIN, IMAGE, SLEEP, Kubectl, deployment, run, wait_until

pytestmark = pytest.mark.e2e

BED = "srvtest"
SUBNET = "10.211.99.0/24"
RUN = Path("/run/sampan/srvtest")


class Machine:
    """One machine of the test bed, with directories of its own for a node."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.data, self.run = directory / f"m{number}", RUN / f"m{number}"
        self.address = f"10.211.99.{10 + number}"
        self.log = directory / f"m{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        """Run *command* here; what it prints goes to the log."""
        inside = ("nsenter", f"--net={testbed.netns_path(BED, f'node-{self.number}')}", "--")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([*inside, *command], stdout=log, stderr=log)

    def stop(self) -> int:
        """Ask the process to end, and say how it did."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=15)
        self._process = None
        return code

    def tear_down(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        stop_node(
            AgentConfig(
                node_name="gone",
                node_ip=self.address,
                server="",
                data_dir=self.data,
                run_dir=self.run,
                ca=self.data,
                certificate=self.data,
                key=self.data,
            )
        )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    first, second = Machine(1, tmp_path), Machine(2, tmp_path)
    try:
        testbed.create(BED, subnet=SUBNET, nodes=2, egress=False)
        yield first, second
    finally:
        for machine in (first, second):
            machine.tear_down()
        testbed.destroy(BED)
        run("rm", "-rf", str(RUN))


def start_server(machine: Machine, data: Path) -> None:
    node = ("--agent-data-dir", str(machine.data), "--agent-run-dir", str(machine.run))
    machine.start(str(BIN / "sampan"), "server", "--data-dir", str(data), *node, "--node-name", "a")


def containers(kubectl: Kubectl) -> set[str]:
    return {s["containerID"] for p in kubectl.pods() for s in p["status"]["containerStatuses"]}


def test_a_server_and_a_second_machine_by_the_line_that_it_prints(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    first, second = machines
    start_server(first, tmp_path / "server")
    line = wait_until(
        lambda: re.search(r"sampan (agent --server \S+ --token \S+)", first.log.read_text()),
        what=f"the line for other machines in {first.log}",
    )
    own = ("--data-dir", str(second.data), "--run-dir", str(second.run), "--node-name", "b")
    second.start(str(BIN / "sampan"), *shlex.split(line[1]), *own)
    kubeconfig = tmp_path / "server" / "kubeconfig"
    kubectl = Kubectl(kubeconfig, "default")
    wait_until(lambda: kubectl.result("get", "node", "a", "b").returncode == 0, what="two nodes")
    kubectl("wait", "--for=condition=Ready", "node/a", "node/b", "--timeout=30s")
    oci_archive(tmp_path / "image.tar", IMAGE)
    load = ("image", "load", "--kubeconfig", str(kubeconfig), str(tmp_path / "image.tar"))
    run(str(BIN / "sampan"), *load)
    kubectl.apply(deployment("web", 2, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert {p["spec"]["nodeName"] for p in kubectl.pods()} == {"a", "b"}

    before = containers(kubectl)
    began = time.monotonic()
    assert first.stop() == 0
    assert second.stop() == 0
    assert time.monotonic() - began < 15
    assert len(list(first.run.glob("containerd.sock"))) == 1
    start_server(first, tmp_path / "server")
    second.start(str(BIN / "sampan"), *shlex.split(line[1]), *own)
    wait_until(lambda: kubectl.result("get", "nodes").returncode == 0, what="the API again")
    wait_until(
        lambda: len(kubectl.ready_pods("app=web")) == 2 and containers(kubectl) == before,
        what="the same containers, picked up again",
    )
    assert all(
        s["restartCount"] == 0 for p in kubectl.pods() for s in p["status"]["containerStatuses"]
    )
    assert os.access(kubeconfig, os.R_OK)
    assert kubeconfig.stat().st_mode & 0o077 == 0
