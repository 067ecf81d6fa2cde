"""What a container uses, read from the kernel's control groups: version 1 or 2, whichever is there.

The runtime's own statistics take a quarter of a second for a hundred containers; these are three
small files each. Sources: the kernel's documentation, admin-guide/cgroup-v1 and cgroup-v2.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

ROOT: Final = Path("/sys/fs/cgroup")
PARENT: Final = "k8s.io"
"""Where containerd puts containers that name no parent."""
_UPPER: Final = re.compile(r"upperdir=([^,\s]+)")


class Usage(Struct, frozen=True, kw_only=True):
    """Totals since the container's start; sizes in bytes."""

    cpu_ns: int
    memory: int
    working_set: int
    rss: int
    faults: int
    major_faults: int
    processes: int


class Traffic(Struct, frozen=True, kw_only=True):
    """Of one network interface, since it was made."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int


class Cgroups:
    """Readings of one machine; *root* is where its control groups are mounted."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._unified = (root / "cgroup.controllers").exists()

    def usage(self, container: str) -> Usage | None:
        """Read what a container uses; None if it does not run."""
        try:
            if self._unified:
                return self._usage_v2(self._root / PARENT / container)
            return self._usage_v1(f"{PARENT}/{container}")
        except (OSError, ValueError, KeyError):
            return None

    def node(self) -> tuple[int, int]:
        """Read the CPU nanoseconds and the processes of the whole machine."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        busy = sum(map(int, fields)) - int(fields[3]) - int(fields[4])
        total = Path("/proc/loadavg").read_text().split()[3].partition("/")[2]
        return busy * 10_000_000, int(total)  # USER_HZ is 100 on Linux

    def first_process(self, container: str) -> int:
        """The process id of a container's first process; 0 if it has none."""
        place = PARENT if self._unified else f"pids/{PARENT}"
        try:
            first = (self._root / place / container / "cgroup.procs").read_text().split()
        except OSError:
            return 0
        return min(map(int, first), default=0)

    def _usage_v1(self, place: str) -> Usage:
        memory = self._root / "memory" / place
        stat = _table(memory / "memory.stat")
        used = _number(memory / "memory.usage_in_bytes")
        return Usage(
            cpu_ns=_number(self._root / "cpuacct" / place / "cpuacct.usage"),
            memory=used,
            working_set=max(used - stat["total_inactive_file"], 0),
            rss=stat["total_rss"],
            faults=stat["total_pgfault"],
            major_faults=stat["total_pgmajfault"],
            processes=_number(self._root / "pids" / place / "pids.current"),
        )

    def _usage_v2(self, place: Path) -> Usage:
        stat = _table(place / "memory.stat")
        used = _number(place / "memory.current")
        return Usage(
            cpu_ns=_table(place / "cpu.stat")["usage_usec"] * 1000,
            memory=used,
            working_set=max(used - stat["inactive_file"], 0),
            rss=stat["anon"],
            faults=stat["pgfault"],
            major_faults=stat["pgmajfault"],
            processes=_number(place / "pids.current"),
        )


def traffic(pid: int) -> list[Traffic]:
    """Read the interfaces of the network namespace that a process is in, without loopback."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return []
    return [found for found in map(_interface, lines) if found.name != "lo"]


def _interface(line: str) -> Traffic:
    name, _, rest = line.partition(":")
    numbers = [int(number) for number in rest.split()]
    return Traffic(
        name=name.strip(),
        rx_bytes=numbers[0],
        rx_errors=numbers[2],
        tx_bytes=numbers[8],
        tx_errors=numbers[10],
    )


def writable_layer(pid: int) -> Path | None:
    """Find the directory that takes what a container writes to its own file system."""
    try:
        mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in mounts:
        fields = line.split()
        if fields[4] == "/" and (match := _UPPER.search(fields[-1])):
            return Path(match[1])
    return None


def disk_usage(root: Path) -> int:
    """Add up the blocks below *root*; what vanishes meanwhile does not count. Slow."""
    return sum(_blocks(root)) * 512


def _blocks(root: Path) -> Iterator[int]:
    try:
        yield root.lstat().st_blocks
        entries = list(root.iterdir()) if root.is_dir() and not root.is_symlink() else []
    except OSError:
        return
    for entry in entries:
        yield from _blocks(entry)


def _number(path: Path) -> int:
    return int(path.read_text())


def _table(path: Path) -> Mapping[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {key: int(value) for key, value in pairs}
