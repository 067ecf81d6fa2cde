"""What every benchmark shares: CPU time, memory by PSS, medians, one JSON line a benchmark."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU-seconds that this machine has spent on anything but idling, since boot."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle, iowait = fields[3], fields[4]
    return (sum(fields[:8]) - idle - iowait) / TICKS


def pss_mb(pid: int) -> float:
    """A process's proportional share of memory, in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass
class Stopwatch:
    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure wall-clock seconds and the whole machine's CPU-seconds of what is inside."""
    watch = Stopwatch()
    cpu, wall = busy_seconds(), time.monotonic()
    yield watch
    watch.wall, watch.cpu = time.monotonic() - wall, busy_seconds() - cpu


@dataclass
class Figure:
    """One measured quantity over several runs, beside its goal and its reference."""

    name: str
    unit: str
    goal: str = ""
    reference: str = ""
    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, watch: Stopwatch) -> None:
        self.values.append(watch.wall)
        self.cpu.append(watch.cpu)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def row(self) -> str:
        spread = f"{min(self.values):.2f}-{max(self.values):.2f}"
        cpu = f"{statistics.median(self.cpu):.2f}" if self.cpu else "-"
        return (
            f"| {self.name} | {self.median:.2f} {self.unit} | {spread} | {len(self.values)} "
            f"| {cpu} | {self.goal or '-'} | {self.reference or '-'} |"
        )


HEADER = (
    "| what | median | range | runs | CPU-seconds | goal | reference |\n"
    "|---|---|---|---|---|---|---|"
)


def report(bench: str, figures: Sequence[Figure]) -> None:
    """Print a table for people and one JSON line for machines."""
    print(f"\n{machine()}\n\n{HEADER}")
    for figure in figures:
        if figure.values:
            print(figure.row())
    metrics = {
        f.name: {"median": f.median, "values": f.values, "cpu": f.cpu} for f in figures if f.values
    }
    print(
        "\n"
        + json.dumps({"bench": bench, "git": commit(), "machine": machine(), "metrics": metrics})
    )


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"load {load:.1f} at the end, commit {commit()}"
    )
