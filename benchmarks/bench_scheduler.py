"""The scheduler's core: Pods placed a second, in memory, without the API (BENCHMARKS.md, 7.1).

Nodes have 4 CPU, 32 GiB and room for 110 Pods, and Pods ask for 100m CPU and 500 MiB, as in
Kubernetes' scheduler_perf, whose thresholds are beside the figures: those include its API.
`--quick` is 500 nodes and 1000 Pods.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from measure import Figure, report

from sampan.api.objects import Node, Object
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import HOSTNAME, ZONE, Demands
from sampan.scheduler.explain import explain
from sampan.scheduler.place import Placed, Placer
from sampan.scheduler.views import Pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
RUNS = 3


def nodes(number: int) -> Iterable[Node]:
    for i in range(number):
        name = f"node-{i}"
        labels = {HOSTNAME: name, ZONE: f"moon-{i % 3 + 1}", "pool": f"pool-{i % 200}"}
        yield Node.of({
            "metadata": {"name": name, "labels": labels},
            "status": {
                "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })  # fmt: skip


def raw(number: int, sort: str, cpu: str = "100m", memory: str = "500Mi", **spec: Any) -> Object:
    requests = {"cpu": cpu, "memory": memory}
    container = {"name": "pause", "image": "pause", "resources": {"requests": requests}}
    meta: Object = {"name": f"{sort}-{number}", "namespace": "default", "uid": f"{sort}-{number}"}
    meta["labels"] = {"sort": sort}
    return {"metadata": meta, "spec": {"containers": [container], **spec}}


def plain(number: int) -> Object:
    return raw(number, "plain")


def different(number: int) -> Object:
    selector = {"pool": f"pool-{number % 200}"}
    cpu, memory = f"{50 + number % 100}m", f"{300 + number // 100 % 400}Mi"
    return raw(number, "different", cpu, memory, nodeSelector=selector)


def everywhere(number: int) -> Object:
    """As different, but every node is a candidate."""
    return raw(number, "everywhere", f"{50 + number % 100}m", f"{300 + number // 100 % 400}Mi")


def apart(number: int) -> Object:
    term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"sort": "apart"}}}
    return raw(number, "apart", affinity={"podAntiAffinity": {REQUIRED: [term]}})


def beside(number: int) -> Object:
    term = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"sort": "beside"}}}
    return raw(number, "beside", affinity={"podAffinity": {REQUIRED: [term]}})


def spread(number: int, how: str = "DoNotSchedule") -> Object:
    constraint = {
        "maxSkew": 5,
        "topologyKey": ZONE,
        "whenUnsatisfiable": how,
        "labelSelector": {"matchLabels": {"sort": "spread"}},
    }
    return raw(number, "spread", topologySpreadConstraints=[constraint])


def spread_softly(number: int) -> Object:
    return spread(number, "ScheduleAnyway")


def replica(number: int) -> Object:
    made = raw(number, "replica")
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "controller": True}
    made["metadata"]["ownerReferences"] = [{**owner, "uid": f"set-{number // 1000}"}]
    return made


def hopeless(number: int) -> Object:
    return raw(number, "hopeless", cpu="9")


class Core:
    def __init__(self, size: int) -> None:
        self.table = Table()
        self.placer = Placer(self.table)
        self.demands = Demands()
        for node in nodes(size):
            self.table.set_node(node)

    def place(self, pods: Sequence[Pod]) -> int:
        asked = ((pod.metadata.uid, self.demands.of(pod)) for pod in pods)
        return sum(isinstance(outcome, Placed) for outcome in self.placer.place(asked))


def measure(figure: Figure, size: int, make: Callable[[int], Object], pods: int) -> None:
    for _ in range(RUNS):
        core = Core(size)
        core.place([Pod.of(plain(-1 - i)) for i in range(size // 5)])
        waiting = [Pod.of(make(i)) for i in range(pods)]
        wall, cpu = time.perf_counter(), time.process_time()
        placed = core.place(waiting)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if placed != pods:
            sys.exit(f"{figure.name}: only {placed} of {pods} Pods were placed")
        figure.values.append(pods / wall)
        figure.cpu.append(cpu)


def measure_refusals(figure: Figure, size: int, pods: int) -> None:
    """Refuse and explain Pods that fit nowhere, with something changing before each."""
    for _ in range(RUNS):
        core = Core(size)
        hopeless_one = core.demands.of(Pod.of(hopeless(0)))
        others = [Pod.of(plain(i)) for i in range(pods)]
        spent, cpu = 0.0, time.process_time()
        for other in others:
            core.place([other])
            begun = time.perf_counter()
            list(core.placer.place([("hopeless", hopeless_one)]))
            explain(core.placer, core.placer.ask(hopeless_one))
            spent += time.perf_counter() - begun
        figure.values.append(pods / spent)
        figure.cpu.append(time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 nodes and 1000 Pods")
    quick = parser.parse_args().quick
    size, pods = (500, 1000) if quick else (5000, 10_000)
    some = min(size * 2 // 5, pods)
    workloads = (
        ("S1 identical", plain, pods, "10000", "680"),
        ("S2 all different, 1 of 200 selectors", different, pods, "3000", "-"),
        ("S2 all different, anywhere", everywhere, pods, "3000", "-"),
        ("S5 anti-affinity by host", apart, some, "1500", "60"),
        ("S7 affinity by zone", beside, some, "1000", "35"),
        ("S13 spread over zones, hard", spread, pods // 2, "2000", "460"),
        ("S14 spread over zones, soft", spread_softly, pods // 2, "2000", "340"),
        ("S15 replicas, spread by default", replica, pods, "2000", "160"),
    )
    figures = []
    for name, make, number, goal, reference in workloads:
        figure = Figure(f"{name}: {size} nodes, {number} Pods", "Pods/s", goal, reference)
        measure(figure, size, make, number)
        figures.append(figure)
    refused = Figure(f"S19 refused and explained: {size} nodes", "a second")
    measure_refusals(refused, size, pods // 10)
    report("scheduler", [*figures, refused])


if __name__ == "__main__":
    main()
