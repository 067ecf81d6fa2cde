"""How well Pods are packed, policy beside policy (BENCHMARKS.md, 7.2).

P1 fills a cluster of GPUs with a shuffled trace until 130 % of it has been asked for. The trace is
the openb one of Alibaba (`--trace FOLDER`, with its CSV files), or a synthetic one with the same
shares of whole, shared and no GPUs. P2 asks how few machines hold a workload (cell compaction).
P3 lets Pods come and go.
"""

import csv
import heapq
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sampan.api.objects import Node, Object
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import GPU_SHARE, Demand, Demands
from sampan.scheduler.place import Placed, Placer
from sampan.scheduler.profile import DEFAULT_NAME, with_policy
from sampan.scheduler.views import Pod

GPU = "nvidia.com/gpu"
MODEL = "example.com/gpu-model"
P1_POLICIES = ("random", "first-fit", "spread", "dot-product", "binpack", "fgd")
P2_POLICIES = ("first-fit", "spread", "most-allocated", "dot-product", "binpack")
PUBLISHED = {"random": 87.47, "dot-product": 90.85, "binpack": 93.08, "fgd": 95.39}
"""GPU allocated % at 130 % on the real trace: Random, Dot-product, Best-fit and FGD of ATC'23."""


def node(name: str, cpu: int, memory_mib: int, gpus: int = 0, model: str = "") -> Node:
    room = {"cpu": f"{cpu}m", "memory": f"{memory_mib}Mi", "pods": "1000"}
    if gpus:
        room[GPU] = str(gpus)
    return Node.of({
        "metadata": {"name": name, "labels": {MODEL: model} if model else {}},
        "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    })  # fmt: skip


@dataclass(frozen=True)
class Task:
    cpu: int
    memory_mib: int
    gpus: int = 0
    milli: int = 1000
    models: tuple[str, ...] = ()

    @property
    def gpu_milli(self) -> int:
        return self.gpus * self.milli

    def pod(self) -> Pod:
        requests: Object = {"cpu": f"{self.cpu}m", "memory": f"{self.memory_mib}Mi"}
        if self.gpus and self.milli < 1000:
            requests[GPU_SHARE] = str(self.milli)
        elif self.gpus:
            requests[GPU] = str(self.gpus)
        spec: Object = {"containers": [{"name": "c", "resources": {"requests": requests}}]}
        if self.models:
            wanted = {"key": MODEL, "operator": "In", "values": list(self.models)}
            terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
            spec["affinity"] = {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
            }
        return Pod.of({"metadata": {"name": "t", "namespace": "default"}, "spec": spec})


class Cell:
    """A cluster that one policy fills."""

    def __init__(self, nodes: Sequence[Node], word: str) -> None:
        self.table = Table()
        self.placer = Placer(self.table, {DEFAULT_NAME: with_policy(word)})
        for each in nodes:
            self.table.set_node(each)

    def place(self, uid: str, demand: Demand) -> bool:
        [outcome] = self.placer.place([(uid, demand)])
        return isinstance(outcome, Placed)


# ---- P1


def openb(folder: Path) -> tuple[list[Node], list[Task]]:
    with next(folder.rglob("openb_node_list_gpu_node.csv")).open() as file:
        nodes = [
            node(r["sn"], int(r["cpu_milli"]), int(r["memory_mib"]), int(r["gpu"]), r["model"])
            for r in csv.DictReader(file)
        ]
    with next(folder.rglob("openb_pod_list_default.csv")).open() as file:
        tasks = [
            Task(
                int(r["cpu_milli"]),
                int(r["memory_mib"]),
                int(r["num_gpu"]),
                int(r["gpu_milli"]) or 1000,
                tuple(filter(None, r.get("gpu_spec", "").split("|"))),
            )
            for r in csv.DictReader(file)
        ]
    return nodes, tasks


def synthetic(scale: float) -> tuple[list[Node], list[Task]]:
    """Nodes and tasks in openb's shares (FGD paper, table 1); its CPU and memory are guessed."""
    shapes = ((588, 8, 96_000, 786_432), (421, 2, 96_000, 393_216), (133, 2, 64_000, 262_144),
              (29, 8, 96_000, 786_432), (42, 4, 64_000, 393_216))  # fmt: skip
    nodes = [
        node(f"n{shape}-{i}", cpu, memory, gpus)
        for shape, (number, gpus, cpu, memory) in enumerate(shapes)
        for i in range(max(round(number * scale), 1))
    ]
    rng = random.Random(2023)
    shares = ((13.3, 0, 0), (37.8, 1, 0), (48.0, 1, 1000), (0.2, 2, 1000), (0.2, 4, 1000),
              (0.5, 8, 1000))  # fmt: skip
    tasks = []
    for _ in range(round(8152 * scale)):
        [(_, gpus, milli)] = rng.choices(shares, [share for share, _, _ in shares])
        tasks.append(_task(rng, gpus, milli))
    return nodes, tasks


SHARES_OF_ONE = (230, 310, 440, 460, 500, 550, 590, 610, 680, 720, 810, 890)
"""Thousandths of a GPU; 564 on average, as in the trace."""


def _task(rng: random.Random, gpus: int, milli: int) -> Task:
    if not gpus:
        cpu, memory = (4000, 8000, 16_000, 32_000), (8192, 16_384, 32_768)
        return Task(rng.choice(cpu), rng.choice(memory))
    if milli == 0:
        cpu, memory = (3152, 4000, 6000, 8000), (8192, 16_384)
        return Task(rng.choice(cpu), rng.choice(memory), 1, rng.choice(SHARES_OF_ONE))
    cores, memory = rng.choice((8000, 11_400, 11_900, 12_000)), rng.choice((32_768, 49_152, 65_536))
    return Task(gpus * cores, gpus * memory, gpus, milli)


@dataclass(frozen=True)
class Filled:
    at_100: float
    """GPU allocated, in percent of all, when 100 % has been asked for."""
    at_130: float
    seconds: float


def fill(nodes: Sequence[Node], tasks: Sequence[Task], word: str, seed: int) -> Filled:
    begun = time.perf_counter()
    cell, demands = Cell(nodes, word), Demands()
    capacity = int(cell.table.devices.total.sum())
    order = list(tasks)
    random.Random(seed).shuffle(order)
    asked = got = number = 0
    at_100 = 0.0
    while asked < 1.3 * capacity:
        task = order[number % len(order)]
        if cell.place(str(number), demands.of(task.pod())):
            got += task.gpu_milli
        number += 1
        before, asked = asked, asked + task.gpu_milli
        if before < capacity <= asked:
            at_100 = 100 * got / capacity
    return Filled(at_100, 100 * got / capacity, time.perf_counter() - begun)


def p1(folder: Path | None, scale: float, seeds: Sequence[int]) -> Iterator[str]:
    nodes, tasks = openb(folder) if folder else synthetic(scale)
    what = f"the trace in {folder}" if folder else "a synthetic trace"
    yield f"P1: {what}, {len(nodes)} nodes, {len(tasks)} tasks, {len(seeds)} seed(s)"
    yield "| policy | GPU allocated % at 100 % | at 130 % | published at 130 % (real trace) | s |"
    yield "|---|---|---|---|---|"
    for word in P1_POLICIES:
        runs = [fill(nodes, tasks, word, seed) for seed in seeds]
        at_100, at_130 = (
            statistics.mean(getattr(r, a) for r in runs) for a in ("at_100", "at_130")
        )
        seconds = statistics.mean(run.seconds for run in runs)
        published = PUBLISHED.get(word, "-")
        yield f"| {word} | {at_100:.2f} | {at_130:.2f} | {published} | {seconds:.1f} |"


# ---- P2


SHAPES = ((32_000, 131_072), (64_000, 262_144), (96_000, 786_432))
CLASSES = ((250, 512), (1000, 1024), (2000, 8192), (4000, 4096), (8000, 65_536))
"""Medians of CPU in thousandths and memory in MiB."""


def workload(machines: int, load: float, seed: int) -> tuple[list[Node], list[Task]]:
    rng = random.Random(seed)
    rooms = [rng.choice(SHAPES) for _ in range(machines)]
    nodes = [node(f"m{i}", cpu, memory) for i, (cpu, memory) in enumerate(rooms)]
    limits = [load * sum(room[i] for room in rooms) for i in range(2)]
    tasks: list[Task] = []
    used = [0, 0]
    while True:
        cpu, memory = rng.choice(CLASSES)
        asked = (_log_normal(rng, cpu, 32_000), _log_normal(rng, memory, 131_072))
        if any(u + a > limit for u, a, limit in zip(used, asked, limits, strict=True)):
            return nodes, tasks
        used = [u + a for u, a in zip(used, asked, strict=True)]
        tasks.append(Task(*asked))


def _log_normal(rng: random.Random, median: int, most: int) -> int:
    exact = median * rng.lognormvariate(0.0, 0.6)
    step = max(median // 20, 1)
    return min(max(round(exact / step) * step, step), most)


def fits(nodes: Sequence[Node], demands: Sequence[Demand], word: str) -> bool:
    cell = Cell(nodes, word)
    return all(cell.place(str(i), demand) for i, demand in enumerate(demands))


def compacted(nodes: Sequence[Node], tasks: Sequence[Task], word: str, seed: int) -> int:
    """Return how many machines are left when as many as possible are taken away at random."""
    known = Demands()
    demands = [known.of(task.pod()) for task in tasks]
    order = list(nodes)
    random.Random(seed).shuffle(order)
    low, high = len(order) // 4, len(order)
    while low < high:
        middle = (low + high) // 2
        if fits(order[:middle], demands, word):
            high = middle
        else:
            low = middle + 1
    return high


def p2(machines: int, seeds: int) -> Iterator[str]:
    nodes, tasks = workload(machines, 0.6, seed=7)
    yield f"P2: {len(nodes)} machines of 3 shapes, {len(tasks)} Pods of 5 classes, {seeds} trials"
    yield "| policy | machines (90th percentile) | against best fit (most-allocated) |"
    yield "|---|---|---|"
    counts = {}
    for word in P2_POLICIES:
        trials = sorted(compacted(nodes, tasks, word, seed) for seed in range(seeds))
        counts[word] = trials[min(int(0.9 * len(trials)), len(trials) - 1)]
    for word, count in counts.items():
        against = 100 * (count / counts["most-allocated"] - 1)
        yield f"| {word} | {count} | {against:+.1f} % |"


# ---- P3


class Life:
    """One policy's cluster in which Pods come, wait and go."""

    def __init__(self, machines: int, load: float, word: str, seed: int) -> None:
        nodes, tasks = workload(machines, load, seed)
        known = Demands()
        self.cell = Cell(nodes, word)
        self.demands = [known.of(task.pod()) for task in tasks]
        self.rng = random.Random(seed)
        self.leaving: list[tuple[float, str]] = []
        self.waiting: list[tuple[float, str, Demand]] = []
        self.waited = 0.0
        self.refused = 0

    def run(self, pods: int) -> None:
        """A Pod lives for 1 on average, so that *load* of the scarcer resource is asked for."""
        now = 0.0
        for i in range(pods):
            now += self.rng.expovariate(len(self.demands))
            while self.leaving and self.leaving[0][0] <= now:
                gone, uid = heapq.heappop(self.leaving)
                self.cell.table.remove(uid)
                waiting, self.waiting = self.waiting, []
                for since, other, demand in waiting:
                    self._come(gone, since, other, demand)
            self.refused += not self._come(now, now, str(i), self.rng.choice(self.demands))

    def _come(self, now: float, since: float, uid: str, demand: Demand) -> bool:
        if not self.cell.place(uid, demand):
            self.waiting.append((since, uid, demand))
            return False
        self.waited += now - since
        heapq.heappush(self.leaving, (now + self.rng.expovariate(1.0), uid))
        return True


def p3(machines: int, pods: int) -> Iterator[str]:
    yield f"P3: {machines} machines, {pods} arrivals; a Pod lives for 1 on average"
    yield "| policy | load % | refused at first % | mean wait | never placed |"
    yield "|---|---|---|---|---|"
    for load in (0.85, 0.97):
        for word in P2_POLICIES:
            life = Life(machines, load, word, seed=3)
            life.run(pods)
            refused, waited = 100 * life.refused / pods, life.waited / pods
            yield f"| {word} | {load:.0%} | {refused:.2f} | {waited:.5f} | {len(life.waiting)} |"
