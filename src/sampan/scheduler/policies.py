"""How to choose among nodes that would do: the policies of the textbooks, each by one word.

A policy only replaces the scores that look at room. What a user wrote (preferred affinity, soft
spreading, taints to avoid) counts as ever; spreading that nobody asked for is `spread`'s alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sampan.scheduler import room
from sampan.scheduler.arrays import Ratings, Rows
from sampan.scheduler.ask import Ask
from sampan.scheduler.columns import CPU, MEMORY, Table
from sampan.scheduler.demand import GPU_SHARE, WHOLE_GPU, Demand
from sampan.scheduler.devices import each_choice
from sampan.scheduler.rules import Score
from sampan.scheduler.standing import count, has_images

SPREAD: Final = "spread"
ABOVE_ALL: Final = 10.0
"""Weighs more than a user's own preferences do together, short of several at once."""
AMONG_EQUALS: Final = 0.01
SEED: Final = 2026
"""Of the random policy, so that the same history is placed the same way."""

Shape = Sequence[tuple[float, float]]
"""Points (percent in use, score of 0 to 10), in order of the first."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Scores by how long they last: until a node changes, until its Pods do, for one Pod."""

    standing: tuple[Score, ...] = ()
    room: tuple[Score, ...] = ()
    each: tuple[Score, ...] = ()
    spreads_by_default: bool = False
    devices: Callable[[Demand, Table, int], tuple[int, ...]] | None = None
    """How to choose among a node's GPUs; None is the fullest that will do."""


def most_allocated(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by the mean percentage of CPU and memory that would be in use."""
    cpu, memory = room.shares(ask, table, rows)
    cpu += memory
    cpu *= 0.5
    return cpu


def requested_to_capacity_ratio(
    shape: Shape, weights: Mapping[str, float]
) -> Callable[[Ask, Table, Rows], Ratings]:
    """Return a score that maps each resource's use by *shape*, and takes the weighted mean."""
    uses, scores = zip(*shape, strict=True)

    def rates(ask: Ask, table: Table, rows: Rows) -> Ratings:
        total = np.zeros(count(table, rows))
        for name, weight in weights.items():
            use = _use(name, ask, table, rows)
            total += weight * np.interp(use, uses, scores)
        rated: Ratings = total * (10.0 / sum(weights.values()))
        return rated

    return rates


def _use(name: str, ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Return how many percent of a resource would be in use, at most 100."""
    number = table.resource(name)
    capacity = table.capacity[number, : table.top][rows]
    used = table.used[number, : table.top][rows] + ask.demand.requests.get(name, 0)
    share: Ratings = np.minimum(100.0 * used / np.maximum(capacity, 1), 100.0)
    return share


def best_fit(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by how full they would be, less what would be stranded there.

    What is left of one resource is stranded as far as the other is scarcer. Only what this Pod adds
    to that counts, so that Pods that are all alike still fill one node after the other. After
    Borg's hybrid score (Verma et al., 2015); it takes 5 % fewer machines than best fit alone (P2).
    """
    cpu, memory = room.shares(ask, table, rows)
    stranded = np.abs(cpu - memory)
    before = table.share[:, : table.top][:, rows]
    stranded -= np.abs(before[CPU] - before[MEMORY])
    cpu += memory
    if ask.demand.gpus[0]:
        cpu += 2 * gpu_share(ask, table, rows)
        cpu *= 0.5
    cpu *= 0.25
    cpu -= 0.5 * stranded
    cpu += 50.0
    return cpu


def gpu_share(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Return how many percent of a node's GPUs would be in use."""
    total = table.devices.total[: table.top][rows]
    left = table.devices.free[:, : table.top][:, rows].sum(axis=0) - _asked(ask.demand)
    share: Ratings = 100.0 - 100.0 * left / np.maximum(total, 1)
    return share


def _asked(demand: Demand) -> int:
    number, share = demand.gpus
    return number * (share or WHOLE_GPU)


def alignment(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by the product of what is asked and what is free, each as a share (Tetris)."""
    total = np.zeros(count(table, rows))
    asked = 0.0
    for number, name, amount in ask.requests:
        if name in {"pods", GPU_SHARE}:
            continue
        capacity = np.maximum(table.capacity[number, : table.top][rows], 1)
        free = capacity - table.used[number, : table.top][rows]
        total += (amount / capacity) * (free / capacity)
        asked += 1
    if ask.demand.gpus[1]:
        total_gpus = np.maximum(table.devices.total[: table.top][rows], 1)
        free_gpus = table.devices.free[:, : table.top][:, rows].sum(axis=0)
        total += (ask.demand.gpus[1] / total_gpus) * (free_gpus / total_gpus)
    return total * (100.0 / max(asked, 1.0))


def least_fragments(ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by how little of their GPUs becomes useless to typical Pods (FGD, ATC 2023).

    50 is no change; each GPU lost or won is worth some points. Without GPUs, or before there is
    a workload to go by, this is best fit.
    """
    workload = table.workload
    if not workload.often.size or not table.devices.total.any():
        return best_fit(ask, table, rows)
    cpu, memory, gpus = _left(table, rows)
    before = workload.fragments(cpu, memory, gpus)
    cpu -= ask.demand.requests.get("cpu", 0)
    memory -= ask.demand.requests.get("memory", 0)
    least = np.full(cpu.size, np.inf)
    for left in each_choice(ask.demand, gpus):
        after = workload.fragments(cpu, memory, left)
        after[(left < 0).any(axis=0)] = np.inf
        np.minimum(least, after, out=least)
    rated: Ratings = np.clip(50.0 - (least - before) * (50.0 / MOST_LOST), 0.0, 100.0)
    return rated


def least_fragmenting(demand: Demand, table: Table, row: int) -> tuple[int, ...]:
    """Choose the GPU of a node on which a share leaves the least fragments."""
    if not demand.gpus[1] or not table.workload.often.size:
        return ()
    cpu, memory, gpus = _left(table, np.array([row]))
    cpu -= demand.requests.get("cpu", 0)
    memory -= demand.requests.get("memory", 0)
    costs = [
        np.inf if (left < 0).any() else float(table.workload.fragments(cpu, memory, left)[0])
        for left in each_choice(demand, gpus)
    ]
    best = int(np.argmin(costs))
    return (best,) if costs[best] < np.inf else ()


def _left(table: Table, rows: Rows) -> tuple[Ratings, Ratings, Ratings]:
    """Return the CPU, memory and GPUs (a line each) that are free."""
    free = table.capacity[:2, : table.top][:, rows] - table.used[:2, : table.top][:, rows]
    cpu, memory = free.astype(np.float64)
    return cpu, memory, table.devices.free[:, : table.top][:, rows].astype(np.float64)


MOST_LOST: Final = 8000.0
"""Thousandths of GPUs that one Pod can make useless."""


def first_fit(_ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate nodes by their place in the table: the first is best."""
    numbers = np.arange(table.top, dtype=np.float64)[rows]
    numbers *= -100.0 / max(table.top, 1)
    numbers += 100.0
    return numbers


def round_robin(_ask: Ask, table: Table, rows: Rows) -> Ratings:
    """Rate highest the node after the one that the last Pod went to."""
    after = (np.arange(table.top, dtype=np.float64)[rows] - table.latest - 1) % max(table.top, 1)
    rated: Ratings = 100.0 - after * (100.0 / max(table.top, 1))
    return rated


def random(_ask: Ask, table: Table, rows: Rows) -> Ratings:
    rng = np.random.default_rng((SEED, table.placements))
    return rng.random(count(table, rows)) * 100.0


POLICIES: Final[Mapping[str, Policy]] = {
    SPREAD: Policy(
        standing=(Score("ImageLocality", 1, has_images),),
        room=(
            Score("LeastAllocated", 1, room.least_allocated),
            Score("BalancedAllocation", 1, room.balanced),
        ),
        spreads_by_default=True,
    ),
    "binpack": Policy(room=(Score("BestFit", ABOVE_ALL, best_fit),)),
    "most-allocated": Policy(room=(Score("MostAllocated", ABOVE_ALL, most_allocated),)),
    "first-fit": Policy(standing=(Score("FirstFit", ABOVE_ALL, first_fit),)),
    "round-robin": Policy(each=(Score("RoundRobin", ABOVE_ALL, round_robin),)),
    "random": Policy(each=(Score("Random", ABOVE_ALL, random),)),
    "fgd": Policy(
        room=(
            Score("LeastFragments", ABOVE_ALL, least_fragments),
            Score("BestFit", AMONG_EQUALS, best_fit),
        ),
        devices=least_fragmenting,
    ),
    "dot-product": Policy(room=(Score("DotProduct", ABOVE_ALL, alignment),)),
}
"""By the word in a profile, or in a Pod's annotation `sampan.io/placement`."""
