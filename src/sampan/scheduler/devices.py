"""GPUs one by one: which are free, whole or in part, and what is left of use to typical Pods.

A Pod asks for whole GPUs (`nvidia.com/gpu: 2`, or any `VENDOR/gpu`) or for thousandths of one
(`sampan.io/gpu-milli: 300`). Which ones it got is written on the Pod by its binding.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sampan.scheduler.demand import WHOLE_GPU, Demand

Free = NDArray[np.int64]
Column = NDArray[np.float64]

TYPICAL: Final = 64
"""How many sorts of Pods stand for the workload."""
EAGER: Final = 16
"""After so many Pods the workload is looked at for the first time, then at each doubling."""
PATIENT: Final = 4096


class Devices:
    """The thousandths free of each GPU: a column a row, a line a GPU."""

    def __init__(self, size: int) -> None:
        self.free: Free = np.zeros((0, size), np.int64)
        self.total: Free = np.zeros(size, np.int64)

    def grow(self, size: int) -> None:
        lines, before = self.free.shape
        wide = np.zeros((lines, size), np.int64)
        wide[:, :before] = self.free
        self.free = wide
        self.total = np.concatenate([self.total, np.zeros(size - before, np.int64)])

    def set_number(self, row: int, number: int) -> bool:
        """Give *row* so many GPUs, all free; False if it has as many already."""
        if self.total[row] == number * WHOLE_GPU:
            return False
        if number > len(self.free):
            more = np.zeros((number - len(self.free), self.free.shape[1]), np.int64)
            self.free = np.vstack([self.free, more])
        self.free[:, row] = 0
        self.free[:number, row] = WHOLE_GPU
        self.total[row] = number * WHOLE_GPU
        return True

    def choose(self, demand: Demand, row: int) -> tuple[int, ...]:
        """Choose GPUs for a Pod: the fullest that will do for a share, the first free ones else."""
        number, share = demand.gpus
        free = self.free[:, row]
        if share:
            fitting = np.flatnonzero(free >= share)
            if fitting.size:
                return (int(fitting[free[fitting].argmin()]),)
            return (int(free.argmax()),) if free.size else ()
        return tuple(np.argsort(free != WHOLE_GPU, kind="stable")[:number].tolist())

    def use(self, demand: Demand, row: int, which: tuple[int, ...], sign: int) -> None:
        for line in which:
            if line < len(self.free):
                self.free[line, row] -= sign * (demand.gpus[1] or WHOLE_GPU)

    def lacking(self, demand: Demand, rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Say where a Pod cannot have its GPUs."""
        number, share = demand.gpus
        free = self.free[:, rows]
        able = (free >= (share or WHOLE_GPU)).sum(axis=0)
        lacking: NDArray[np.bool_] = able < max(number, 1)
        return lacking


Sort = tuple[int, int, int, int]
"""CPU, memory, whole GPUs, share of one."""


@dataclass(slots=True)
class Workload:
    """Which Pods with GPUs come how often: what fragments are measured by."""

    seen: Counter[Sort] = field(default_factory=Counter)
    noted: int = 0
    _due: int = EAGER
    cpu: Column = field(default_factory=lambda: np.zeros(0))
    memory: Column = field(default_factory=lambda: np.zeros(0))
    number: Column = field(default_factory=lambda: np.zeros(0))
    least: Column = field(default_factory=lambda: np.zeros(0))
    """What a GPU must have free to be of use."""
    often: Column = field(default_factory=lambda: np.zeros(0))

    def note(self, demand: Demand) -> bool:
        """Count a Pod; say whether the picture of the workload has been made anew."""
        number, share = demand.gpus
        if not number:
            return False
        asked = demand.requests
        self.seen[asked.get("cpu", 0), asked.get("memory", 0), number, share] += 1
        self.noted += 1
        if self.noted < self._due:
            return False
        self._due = self.noted + min(self.noted, PATIENT)
        self._picture()
        return True

    def _picture(self) -> None:
        sorts, counts = zip(*self.seen.most_common(TYPICAL), strict=True)
        table = np.array(sorts, np.float64)
        self.cpu, self.memory, self.number, share = table.T
        self.least = np.where(share > 0, share, WHOLE_GPU)
        self.often = np.array(counts, np.float64) / sum(counts)

    def fragments(self, cpu: Column, memory: Column, gpus: Column) -> Column:
        """Return how much of each node's free GPUs typical Pods cannot use.

        *gpus* has a line a GPU and a column a node. A node that cannot take a sort of Pods at all
        is a fragment as a whole for it; else the GPUs with too little are. Source: Weng et al.,
        "Beware of Fragmentation", ATC 2023.
        """
        useful = gpus[:, :, None] >= self.least
        enough = useful.sum(axis=0) >= self.number
        enough &= (cpu[:, None] >= self.cpu) & (memory[:, None] >= self.memory)
        usable = (gpus[:, :, None] * useful).sum(axis=0) * enough
        lost: Column = gpus.sum(axis=0) - usable @ self.often
        return lost


def each_choice(demand: Demand, gpus: Column) -> Iterator[Column]:
    """Yield what is left of *gpus* (a line each) for every way to give a Pod what it asks.

    The way is the same on all nodes; where it is impossible, something is less than nothing.
    """
    number, share = demand.gpus
    if not number:
        yield gpus
    elif share:
        for line in range(len(gpus)):
            left = gpus.copy()
            left[line] -= share
            yield left
    else:
        whole = gpus == WHOLE_GPU
        first = whole & (np.cumsum(whole, axis=0) <= number)
        yield np.where(first, 0.0, gpus)
