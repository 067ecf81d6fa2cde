"""Which processes of this machine belong to a node: its containerd, its shims, its containers.

They are found by what they are, never by a remembered pid: a shim's command line names the node's
socket, and a container's root file system lies in the node's directory. So none is missed when the
agent or containerd has died, and nobody else's process is ever meant.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.agent import mountns
from sampan.agent.config import AgentConfig

_ENDED_WITHIN: Final = 10.0
_PAUSE: Final = 0.005


def containerds(config: AgentConfig) -> Iterator[int]:
    wanted = ["--config", str(config.containerd_config)]
    for pid, command in _commands():
        if Path(command[0]).name == "containerd" and command[1:3] == wanted:
            yield pid


def shims(config: AgentConfig) -> Iterator[int]:
    socket = str(config.containerd_socket)
    for pid, command in _commands():
        if Path(command[0]).name.startswith("containerd-shim") and socket in command:
            yield pid


def containers(config: AgentConfig) -> Iterator[int]:
    """Find the processes whose root file system is one of the node's snapshots."""
    snapshots = f"{config.containerd_root}/"
    known = {"": False, mountns.namespace_of(os.getpid()): False}
    for pid in _pids():
        namespace = mountns.namespace_of(pid)
        if namespace not in known:
            known[namespace] = any(
                mount.point == "/" and snapshots in f"{mount.root} {mount.options}"
                for mount in mountns.mounts(str(pid))
            )
        if known[namespace]:
            yield pid


def everyone(config: AgentConfig) -> set[int]:
    return {*containerds(config), *shims(config), *containers(config)}


def end(config: AgentConfig) -> set[str]:
    """Kill all of the node's processes; return the control groups that its containers were in."""
    groups: set[str] = set()
    deadline = time.monotonic() + _ENDED_WITHIN
    while found := everyone(config):
        for pid in containers(config):
            groups |= _groups(pid)
        # containerd first: it must not see its containers die and clean up at the same time.
        for pid in (*containerds(config), *found):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(found)} of {config.node_name} do not end")
        time.sleep(_PAUSE)
    return groups


def _groups(pid: int) -> set[str]:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return set()
    return {path for line in lines if (path := line.split(":", 2)[2]) != "/"}


def _commands() -> Iterator[tuple[int, list[str]]]:
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if command:
            yield pid, os.fsdecode(command).rstrip("\0").split("\0")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - a hundred Path objects less
