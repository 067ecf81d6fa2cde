"""Long-lived processes that a short-lived command starts, finds again and stops.

A process is remembered in a file with its pid and its start time, so that a pid which the kernel
has since given to somebody else is never signalled.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True):
    pid: int
    started: int
    """Clock ticks after boot, field 22 of /proc/PID/stat."""

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.started


def spawn(record: Path, arguments: Sequence[str], log: Path) -> Process:
    """Start `sampan ARGUMENTS` in a session of its own, remembered at *record*."""
    return spawn_command(record, [sys.executable, "-m", "sampan", *arguments], log)


def spawn_command(record: Path, command: Sequence[str], log: Path) -> Process:
    record.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(child.pid, _start_time(child.pid) or 0)
    record.write_bytes(msgspec.json.encode(process))
    child.returncode = 0  # not ours to wait for: it outlives this command
    return process


def find(record: Path) -> Process | None:
    """Return the process remembered at *record* if it still runs."""
    try:
        process = msgspec.json.decode(record.read_bytes(), type=Process)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return process if process.alive else None


def stop(record: Path, *, seconds: float = 10) -> None:
    """End the process remembered at *record*: a SIGTERM, and after *seconds* a SIGKILL."""
    if process := find(record):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process.pid)
            try:
                _end(handle, process, seconds)
            finally:
                os.close(handle)
    record.unlink(missing_ok=True)


def _end(handle: int, process: Process, seconds: float) -> None:
    if not process.alive:
        return
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    if not _exited(handle, seconds):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        _exited(handle, seconds)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _exited(handle: int, seconds: float) -> bool:
    readable, _, _ = select.select([handle], [], [], seconds)
    return bool(readable)


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a process's log, for the person who must find out why it stopped."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-count:])
