"""The node's own containerd: started, found again, outlived by its containers, ended for good."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sampan.agent import mountns, processes
from sampan.agent.config import AgentConfig
from sampan.agent.containerd import NodeError, ensure_containerd, stop_node
from sampan.agent.containerd_config import Host, configuration
from tests.agent.real_node import (
    needs_node,
    node,
    own_config,
    own_network,
    patiently,
    running_pod,
    set_up,
    wait_until_answers,
)

__all__ = ["node"]
HOST = Host({"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}, "crun", False, False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def a_config(tmp_path: Path, **changes: object) -> AgentConfig:
    config = AgentConfig(
        node_name="n",
        node_ip="192.0.2.7",
        server="https://192.0.2.1:6443",
        data_dir=tmp_path / "data",
        run_dir=tmp_path / "run",
        ca=tmp_path,
        certificate=tmp_path,
        key=tmp_path,
    )
    return msgspec.structs.replace(config, **changes)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_the_configuration_is_toml_with_the_nodes_own_places(tmp_path: Path) -> None:
    import tomllib

    config = a_config(tmp_path)
    read = tomllib.loads(configuration(config, HOST))
    assert read["root"].startswith(str(config.data_dir))
    assert read["grpc"]["address"] == str(config.containerd_socket)
    cri = read["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["default_runtime_name"] == "crun"
    assert set(cri["containerd"]["runtimes"]) == {"crun", "runc"}
    assert cri["restrict_oom_score_adj"], "without CAP_SYS_RESOURCE no sandbox starts otherwise"
    assert "io.containerd.runtime.v1.linux" not in read["disabled_plugins"]


def test_a_path_too_long_for_a_socket_is_refused_in_words(tmp_path: Path) -> None:
    config = a_config(tmp_path, run_dir=Path("/run") / ("x" * 100))
    with pytest.raises(NodeError, match="too long for a socket"):
        ensure_containerd(config)


def test_a_runtime_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    config = a_config(tmp_path, oci_runtime="gvisor")
    with pytest.raises(NodeError, match="gvisor is not installed"):
        ensure_containerd(config)


def test_stopping_a_node_that_never_started_is_no_error(tmp_path: Path) -> None:
    stop_node(a_config(tmp_path))


@needs_node
def test_what_a_dead_node_left_mounted_is_unmounted_before_anything_is_removed(
    tmp_path: Path,
) -> None:
    config = a_config(tmp_path)
    precious, point = tmp_path / "precious", config.run_dir / "volumes" / "of a pod"
    precious.mkdir()
    point.mkdir(parents=True)
    (precious / "file").write_text("keep")
    subprocess.run(["mount", "--bind", precious, point], check=True)
    stop_node(config)
    assert (precious / "file").read_text() == "keep"
    assert not point.exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@needs_node
def test_it_is_started_once_and_found_by_later_agents(node: AgentConfig) -> None:
    first = ensure_containerd(node)
    assert ensure_containerd(node) == first
    assert list(processes.containerds(node)) == [first.pid]


@needs_node
def test_it_outlives_the_agent_that_started_it() -> None:
    with own_config() as config, own_network():
        start = (
            "import sys, msgspec; from sampan.agent.config import AgentConfig;"
            "from sampan.agent.containerd import *;"
            "made = lambda kind, value: kind(value);"
            "config = msgspec.json.decode(sys.argv[1], type=AgentConfig, dec_hook=made);"
            "join_mount_namespace(ensure_containerd(config));"
            "import os; print(os.readlink('/proc/self/ns/mnt'))"
        )
        encoded = msgspec.json.encode(config, enc_hook=str).decode()
        joined = subprocess.run(
            [sys.executable, "-c", start, encoded], capture_output=True, text=True, check=True
        ).stdout.strip()
        pid = next(processes.containerds(config))
        assert mountns.namespace_of(pid) == joined != mountns.namespace_of(os.getpid())
        wait_until_answers(config)


@needs_node
async def test_containers_go_on_while_containerd_is_started_again(node: AgentConfig) -> None:
    async with running_pod(node, "sleep", "1000") as pod:
        before = await pod.containerd.pid(pod.container)
        containerd = ensure_containerd(node).pid
        namespace = mountns.namespace_of(containerd)
        os.kill(containerd, signal.SIGKILL)
        os.waitpid(containerd, 0)  # noqa: ASYNC222 - it is dead already
        again = ensure_containerd(node).pid
        assert again != containerd
        assert mountns.namespace_of(again) == namespace, "or it would not see their file systems"
        wait_until_answers(node)
        assert await patiently(pod.containerd.pid, pod.container) == before
        assert Path(f"/proc/{before}").exists()


@needs_node
@pytest.mark.parametrize("runtime", ["crun", "runc"])
async def test_containers_run_with_either_runtime(runtime: str) -> None:
    if not shutil.which(runtime, path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip(f"{runtime} is not installed")
    with own_config(oci_runtime=runtime) as config, own_network():
        ensure_containerd(config)
        set_up(config)
        async with running_pod(config, "sleep", "1000") as pod:
            tree = config.containerd_state / "io.containerd.runtime.v2.task" / "k8s.io"
            options = (tree / pod.container / "options.json").read_text()
            assert f"/{runtime}" in options


@needs_node
@pytest.mark.parametrize("containerd_died_first", [False, True])
async def test_stopping_a_node_leaves_nothing(*, containerd_died_first: bool) -> None:
    with own_config() as config, own_network():
        ensure_containerd(config)
        set_up(config)
        async with running_pod(config, "sleep", "1000", keep=True) as pod:
            pid = await pod.containerd.pid(pod.container)
            groups = _groups(pid)
        assert groups
        if containerd_died_first:
            os.kill(next(processes.containerds(config)), signal.SIGKILL)
        begun = time.monotonic()
        stop_node(config)
        assert time.monotonic() - begun < 5
        assert processes.everyone(config) == set()
        until(lambda: not Path(f"/proc/{pid}/root/bin").exists(), "the container has ended")
        assert [group for group in groups if group.exists()] == []
        assert str(config.run_dir) not in Path("/proc/self/mountinfo").read_text()
        stop_node(config)


def _groups(pid: int) -> list[Path]:
    """The container's own control groups, as directories."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    names = {line.split(":", 2)[2].lstrip("/") for line in lines} - {""}
    trees = [Path(mount.point) for mount in mountns.mounts() if mount.kind.startswith("cgroup")]
    return [path for tree in trees for name in names if (path := tree / name).exists()]
