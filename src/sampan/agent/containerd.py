"""The node's own containerd: started once, found again by every later agent, ended with the node.

It lives in a mount namespace of its own, and so do its shims; both outlive the agent. A machine's
Docker or Kubernetes is never touched: root, state, socket and configuration are the node's.

Nothing here may start a thread or import gRPC: `sampan agent` enters the mount namespace first.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from sampan.agent import mountns, processes
from sampan.agent.config import AgentConfig
from sampan.agent.containerd_config import Host, configuration

_CNI_PLUGINS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_PLACES: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_SOCKET: Final = 100
"""Of the 107 bytes that a socket's path may have; containerd appends `.ttrpc`."""
_LARGEST_LOG: Final = 16 << 20
_CGROUPS: Final = {"cgroup", "cgroup2"}


class NodeError(Exception):
    """The node cannot run containers; the text says why and what to do."""


class Process(Struct, frozen=True):
    pid: int


def ensure_containerd(config: AgentConfig) -> Process:
    """Return the node's containerd, starting it if it does not run; it outlives this process.

    It may not answer yet: `wait_until_ready` of `sampan.agent.run` waits for that.
    """
    if pid := next(processes.containerds(config), None):
        return Process(pid)
    _check(config)
    shim = next(processes.shims(config), None)
    binds = _binds(config)
    if shim is None:
        _forget_boot(config)
    for directory in (*binds.values(), config.data_dir):
        directory.mkdir(parents=True, exist_ok=True)
    _link_plugins(config.cni_bin_dir)
    config.cni_conf_dir.mkdir(parents=True, exist_ok=True)
    config.registry_dir.mkdir(parents=True, exist_ok=True)
    config.containerd_config.write_text(configuration(config, _host(config)))
    if _inside(config):
        return _spawn(config, None)
    if shim is None:
        return _spawn(config, partial(mountns.create, binds))
    return _spawn(config, partial(mountns.enter, shim))


def join_mount_namespace(process: Process) -> None:
    """See what the node's containers see: their mounts, volumes and network namespaces."""
    try:
        mountns.enter(process.pid)
    except OSError as error:
        raise NodeError(
            f"cannot enter the mount namespace of containerd (process {process.pid}): {error}"
        ) from error


def stop_node(config: AgentConfig) -> None:
    """End every container, shim and containerd of the node; leave no mount and no control group.

    Works whatever still lives or never started. Images, logs and volumes stay. The agent must be
    gone already.
    """
    groups = processes.end(config)
    _unmount_below(config.data_dir)
    trees = [Path(mount.point) for mount in mountns.mounts() if mount.kind in _CGROUPS]
    for group in groups:
        for tree in trees:
            _remove_group(tree, group)
    _forget_boot(config)


def _binds(config: AgentConfig) -> Mapping[Path, Path]:
    """The places whose paths are fixed in containerd, its shims and the CNI library."""
    return {
        Path("/run/containerd"): config.containerd_state,
        Path("/run/netns"): config.netns_dir,
        Path("/var/lib/cni"): config.run_dir / "cni" / "state",
    }


def _inside(config: AgentConfig) -> bool:
    """Whether this process is in the node's mount namespace already."""
    with suppress(FileNotFoundError):
        return Path("/run/containerd").samefile(config.containerd_state)
    return False


def _forget_boot(config: AgentConfig) -> None:
    """Drop what a reboot would: it tells of processes and mounts that are no more."""
    if _inside(config):
        return
    _unmount_below(config.run_dir)
    run = config.run_dir
    for directory in (*_binds(config).values(), config.exec_dir, run / "cni", run / "volumes"):
        shutil.rmtree(directory, ignore_errors=True)
    config.containerd_socket.unlink(missing_ok=True)


def _unmount_below(directory: Path) -> None:
    for mount in reversed(list(mountns.mounts())):
        if Path(mount.point).is_relative_to(directory):
            mountns.unmount(Path(mount.point))


def _check(config: AgentConfig) -> None:
    if len(os.fsencode(config.containerd_socket)) > _LONGEST_SOCKET:
        raise NodeError(
            f"{config.containerd_socket}: this path is too long for a socket; give a shorter "
            "--run-dir"
        )


def _host(config: AgentConfig) -> Host:
    runtimes = {name: found for name in ("crun", "runc") if (found := _find(name))}
    wanted = next(iter(runtimes), "") if config.oci_runtime == "auto" else config.oci_runtime
    if wanted not in runtimes:
        name = wanted or "crun"
        raise NodeError(f"{name} is not installed: apt-get install {name}")
    return Host.of_this_machine(runtimes, wanted)


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PLACES}")


def _link_plugins(directory: Path) -> None:
    """Show the distribution's CNI plugins beside our own: containerd 1.6 looks in one place."""
    directory.mkdir(parents=True, exist_ok=True)
    for place in _CNI_PLUGINS:
        for plugin in place.glob("*"):
            with suppress(FileExistsError):
                (directory / plugin.name).symlink_to(plugin)


def _spawn(config: AgentConfig, enter: Callable[[], None] | None) -> Process:
    program = _find("containerd")
    if not program:
        raise NodeError("containerd is not installed: apt-get install containerd")
    log = config.data_dir / "containerd.log"
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        log.replace(log.with_suffix(".log.old"))
    path = f"{os.environ.get('PATH', '')}:{_PLACES}".lstrip(":")
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                [program, "--config", str(config.containerd_config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": path},
                start_new_session=True,
                preexec_fn=enter,  # noqa: PLW1509 - no other thread runs Python when it is given
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeError(
            f"cannot start containerd in a mount namespace of its own: {error}"
        ) from error
    child.returncode = 0  # not ours to wait for: it outlives this process
    return Process(child.pid)


def _remove_group(tree: Path, group: str) -> None:
    """Remove an empty control group, and those above it that are empty with it gone."""
    with suppress(OSError):  # in use, or of another tree
        for path in (Path(group), *Path(group).parents[:-1]):
            (tree / str(path).lstrip("/")).rmdir()
