"""A node's containerd for tests of what works on it: in a network of its own, gone afterwards."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from cri_api.v1 import api_pb2 as cri

from sampan.agent import mountns, pause
from sampan.agent.config import AgentConfig
from sampan.agent.containerd import ensure_containerd, stop_node
from sampan.agent.streams.containerd import Containerd, open_containerd
from sampan.testing.images import oci_archive

IMAGE = "docker.io/sampan-test/busybox:1"
PATIENCE = 15.0
_CLONE_NEWNET = 0x40000000
_PASSING = (
    "cni plugin not initialized", "ttrpc: closed", "server is not initialized yet",
    "StatusCode.UNAVAILABLE",
)  # fmt: skip


def missing() -> str:
    """Why this machine cannot run a node; "" if it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [p for p in ("containerd", "ctr", "busybox") if not shutil.which(p, path=places)]
    return f"not installed: {', '.join(absent)}" if absent else ""


needs_node = pytest.mark.skipif(bool(missing()), reason=missing() or "it can")


@contextmanager
def own_config(oci_runtime: str = "auto") -> Iterator[AgentConfig]:
    """Directories for a node; at the end its processes and they are gone."""
    with tempfile.TemporaryDirectory(prefix="sampan-node-") as scratch:
        base = Path(scratch)
        config = AgentConfig(
            node_name="node-t",
            node_ip="192.0.2.7",
            server="https://192.0.2.1:6443",
            data_dir=base / "data",
            run_dir=base / "run",
            ca=base / "ca.crt",
            certificate=base / "node.crt",
            key=base / "node.key",
            oci_runtime=oci_runtime,
        )
        try:
            yield config
        finally:
            stop_node(config)


@pytest.fixture(scope="module")
def node() -> Iterator[AgentConfig]:
    """A node that runs, with the test image."""
    with own_config() as config, own_network():
        ensure_containerd(config)
        set_up(config)
        yield config


def set_up(config: AgentConfig) -> None:
    """Give a containerd that has just been started what Pods need."""
    wait_until_answers(config)
    _configure_cni(config)
    archive = config.data_dir / "test.tar"
    archive.write_bytes(pause.archive())
    ctr(config, "images", "import", str(archive))
    oci_archive(archive, IMAGE)
    ctr(config, "images", "import", str(archive))


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and the processes that it starts, into a new network."""
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        mountns._call("unshare", _CLONE_NEWNET)
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            mountns.enter_network(before.fileno())


def ctr(config: AgentConfig, *arguments: str) -> str:
    command = ["ctr", "--address", str(config.containerd_socket), "--namespace", "k8s.io"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_answers(config: AgentConfig) -> None:
    deadline = time.monotonic() + PATIENCE
    command = ["ctr", "--address", str(config.containerd_socket), "version"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        log = config.data_dir / "containerd.log"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def _configure_cni(config: AgentConfig) -> None:
    bridge = {
        "type": "bridge",
        "bridge": "br0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(config.run_dir / "ipam"),
            "ranges": [[{"subnet": "10.99.0.0/24"}]],
        },
    }
    conf = {"cniVersion": "0.4.0", "name": "test", "plugins": [bridge]}
    (config.cni_conf_dir / "10-test.conflist").write_text(json.dumps(conf))


class RunningPod:
    """A sandbox and one container, made by CRI as the agent makes them."""

    def __init__(self, containerd: Containerd, config: AgentConfig) -> None:
        self.containerd = containerd
        self.config = config
        self.name = f"pod-{uuid4().hex[:8]}"
        self.sandbox = ""
        self.container = ""

    def params(self, **more: Any) -> dict[str, Any]:
        return {"namespace": "default", "pod": self.name, "container": "main", **more}

    async def start(self, *command: str, **container: Any) -> None:
        labels = {
            "io.kubernetes.pod.namespace": "default",
            "io.kubernetes.pod.name": self.name,
            "io.kubernetes.pod.uid": self.name,
        }
        directory = f"{self.config.log_dir}/default_{self.name}_{self.name}"
        self._sandbox_config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=self.name, namespace="default", uid=self.name),
            log_directory=directory,
            labels=labels,
        )
        run = cri.RunPodSandboxRequest(config=self._sandbox_config)
        self.sandbox = (await patiently(self.containerd.cri.RunPodSandbox, run)).pod_sandbox_id
        await self.start_container(*command, **container)

    async def start_container(self, *command: str, attempt: int = 0, **container: Any) -> None:
        log_dir = self.config.log_dir / f"default_{self.name}_{self.name}" / "main"
        log_dir.mkdir(parents=True, exist_ok=True)
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="main", attempt=attempt),
            image=cri.ImageSpec(image=IMAGE),
            command=command,
            labels={**self._sandbox_config.labels, "io.kubernetes.container.name": "main"},
            log_path=f"main/{attempt}.log",
            **container,
        )
        create = cri.CreateContainerRequest(
            pod_sandbox_id=self.sandbox, config=config, sandbox_config=self._sandbox_config
        )
        self.container = (await self.containerd.cri.CreateContainer(create)).container_id
        start = cri.StartContainerRequest(container_id=self.container)
        await self.containerd.cri.StartContainer(start)

    async def remove(self) -> None:
        if self.sandbox:
            stop = cri.StopPodSandboxRequest(pod_sandbox_id=self.sandbox)
            await patiently(self.containerd.cri.StopPodSandbox, stop)
            remove = cri.RemovePodSandboxRequest(pod_sandbox_id=self.sandbox)
            await patiently(self.containerd.cri.RemovePodSandbox, remove)


async def patiently(call: Any, request: Any) -> Any:
    """Try again while containerd starts or reads its network, or a container is just ending."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await call(request)
        except grpc.RpcError as error:
            passing = any(words in str(error) for words in _PASSING)
            if not passing or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


async def settle(config: AgentConfig) -> None:
    """Let gRPC deliver what it still holds of ended calls: its queue outlives a test's event loop.

    The queue is one for the process, and in order: when a call made now is answered, it is empty.
    """
    async with open_containerd(config.containerd_socket) as containerd:
        await containerd.cri.Version(cri.VersionRequest(), wait_for_ready=True)


@asynccontextmanager
async def running_pod(
    config: AgentConfig, *command: str, keep: bool = False, **more: Any
) -> AsyncIterator[RunningPod]:
    """Run *command* in a Pod of its own, which *keep* leaves running."""
    async with open_containerd(config.containerd_socket) as containerd:
        pod = RunningPod(containerd, config)
        try:
            await pod.start(*command, **more)
            yield pod
        finally:
            if not keep:
                await pod.remove()
