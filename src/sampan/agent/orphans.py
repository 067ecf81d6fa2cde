"""What containerd forgets when it is killed: shims that it was starting, groups it was removing.

A shim's process is named after its sandbox, a control group after its container. A shim of no
sandbox, and a group without processes of no container, both twice with some time between, are
nobody's. (Other nodes of the machine have their groups at the same place: none of theirs is empty
for so long but those that are left over.)
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.agent import processes
from sampan.agent.cgroups import PARENT, ROOT
from sampan.agent.config import AgentConfig

BETWEEN: Final = 10.0
"""Seconds between the two looks: longer than a sandbox needs from its shim to its record."""

Shim = tuple[int, str]
"""A process, and the sandbox that it is for."""

log = logging.getLogger(__name__)


async def end_orphans(config: AgentConfig, known: Callable[[], Awaitable[Collection[str]]]) -> None:
    """Remove what is of none of the *known* sandboxes and containers, now and a little later."""
    ids = await known()
    shims, groups = _unknown(config, ids), _empty_groups(ids)
    if not shims and not groups:
        return
    await asyncio.sleep(BETWEEN)
    ids = await known()
    for group in groups & _empty_groups(ids):
        with suppress(OSError):
            os.rmdir(group)  # noqa: PTH106 - the kernel's answer is all that matters
    for pid, sandbox in shims & _unknown(config, ids):
        log.warning("shim %d of sandbox %s is nobody's; ending it", pid, sandbox)
        for victim in (pid, *_members(sandbox)):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


def _unknown(config: AgentConfig, sandboxes: Collection[str]) -> set[Shim]:
    shims = ((pid, sandbox_of(_command(pid))) for pid in processes.shims(config))
    return {(pid, sandbox) for pid, sandbox in shims if sandbox and sandbox not in sandboxes}


def _empty_groups(known: Collection[str], root: Path = ROOT) -> set[str]:
    """The control groups of containers that are not known, and have no process."""
    found = set()
    for parent in (root / PARENT, *(place / PARENT for place in root.iterdir())):
        if not parent.is_dir():
            continue
        names = {entry.name for entry in os.scandir(parent) if entry.is_dir()}
        for name in names.difference(known):
            with suppress(OSError):
                if not (parent / name / "cgroup.procs").read_text():
                    found.add(str(parent / name))
    return found


def sandbox_of(command: Sequence[str]) -> str:
    """The id in a shim's command line; "" if there is none, or it is about to be replaced."""
    if "-id" not in command[:-1] or command[-1] in {"start", "delete"}:
        return ""
    return command[command.index("-id") + 1]


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _members(sandbox: str) -> set[int]:
    """The processes in the control group of a sandbox, in whichever version there is."""
    places = [ROOT / PARENT / sandbox, ROOT / "pids" / PARENT / sandbox]
    found: set[int] = set()
    for place in places:
        with suppress(OSError):
            found |= {int(pid) for pid in (place / "cgroup.procs").read_text().split()}
    return found
