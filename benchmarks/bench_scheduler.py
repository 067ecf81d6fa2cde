"""The scheduler: Pods placed a second, beside what kube-scheduler's CI demands; and how tightly.

`core` is the decision alone, in memory; its rates are by CPU time, which is what one idle core
would do. `e2e` is everything from the creation of a Pod over HTTPS to its binding in SQLite (see
`scheduler_e2e`). The default sizes take some minutes; `--full` has kube-scheduler's own.
`--trace FOLDER` takes the GPU trace of Alibaba (openb) for P1.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import scheduler_e2e
import scheduler_packing
import scheduler_workloads as work
from measure import HEADER, Figure, report
from scheduler_workloads import WORKLOADS, Sizes, Workload, made

from sampan.api.objects import Node
from sampan.scheduler.columns import Table
from sampan.scheduler.demand import Demand, Demands, attachment, together_by
from sampan.scheduler.explain import explain
from sampan.scheduler.place import Placed, Placer
from sampan.scheduler.preempt import Circumstances, preempt
from sampan.scheduler.storage import Claim, Storage, Volume
from sampan.scheduler.views import Pod

RUNS = 3
EVERY = 0.2
"""Seconds between two Pods of churn."""


class Core:
    """What decides, without the API."""

    def __init__(self, workload: Workload, nodes: int) -> None:
        self.table = Table()
        self.placer = Placer(self.table)
        self.demands = Demands()
        self.storage = Storage()
        self.workload = workload
        for name, labels in workload.namespaces.items():
            self.table.set_namespace(name, labels)
        for raw in made(workload.node or work.node, nodes):
            self.table.set_node(Node.of(raw))
            if workload.volumes:
                limits = {attachment("csi.example.com"): 39}
                self.table.set_limits(raw["metadata"]["name"], limits)

    def demand(self, pod: Pod) -> Demand:
        selector = self.workload.service
        together = together_by("default", [selector]) if selector else None
        return self.demands.of(pod, together, self.storage.needs(pod))

    def place(self, pods: Sequence[Pod]) -> int:
        asked = ((pod.metadata.uid, self.demand(pod)) for pod in pods)
        return sum(isinstance(outcome, Placed) for outcome in self.placer.place(asked))

    def bound_volumes(self, number: int) -> None:
        for i in range(number):
            spec = {"csi": {"driver": "csi.example.com"}, "capacity": {"storage": "1Gi"}}
            self.storage.set_volume(
                f"v-{i}", Volume.of({"metadata": {"name": f"v-{i}"}, "spec": spec})
            )
            claim = {
                "metadata": {"name": f"data-{i}", "namespace": "default"},
                "spec": {"volumeName": f"v-{i}"},
                "status": {"phase": "Bound"},
            }
            self.storage.set_claim(f"default/data-{i}", Claim.of(claim))

    def churn(self, number: int) -> None:
        """Let one more Pod come that fits nowhere, and do for it what the loop would."""
        raw = self.workload.churn(number) if self.workload.churn else {}
        pod = Pod.of(raw)
        if self.place([pod]):
            return
        ask = self.placer.ask(self.demand(pod))
        explain(self.placer, ask)
        found = preempt(self.placer, ask, Circumstances())
        if found:
            for held in found.victims:
                self.table.remove(held.uid)
            self.place([pod])

    def replace_a_node(self, number: int) -> None:
        self.table.drop_node(f"spare-{number - 1}")
        raw = work.node(number)
        raw["metadata"]["name"] = f"spare-{number}"
        self.table.set_node(Node.of(raw))


def measure(workload: Workload, sizes: Sizes) -> tuple[float, float]:
    """Return Pods a second of one core, and CPU-seconds; who else is busy does not count."""
    nodes, before, number = sizes
    core = Core(workload, nodes)
    if workload.volumes:
        core.bound_volumes(number)
    if core.place([Pod.of(raw) for raw in made(workload.before, before)]) < before:
        sys.exit(f"{workload.name}: the Pods before do not fit")
    waiting = [Pod.of(raw) for raw in made(workload.measured, number)]
    cpu = time.process_time()
    placed = sum(_through(core, waiting))
    cpu = time.process_time() - cpu
    if placed != number:
        sys.exit(f"{workload.name}: only {placed} of {number} Pods were placed")
    return number / cpu, cpu


def _through(core: Core, waiting: Sequence[Pod]) -> Iterator[int]:
    """Place all, with the workload's churn in between."""
    if not core.workload.churn:
        yield core.place(waiting)
        return
    begun, churned, replaced = time.process_time(), 0, 0
    for start in range(0, len(waiting), 50):
        yield core.place(waiting[start : start + 50])
        passed = time.process_time() - begun
        if passed > churned * EVERY:
            core.churn(churned)
            churned += 1
        if core.workload.restless and passed > replaced:
            core.replace_a_node(replaced)
            replaced += 1


def core_figures(*, full: bool, only: str) -> Iterator[Figure]:
    for workload in WORKLOADS:
        if only not in workload.name:
            continue
        sizes = workload.full if full else workload.small
        name = f"{workload.name}: {sizes[0]} nodes, {sizes[2]} Pods"
        figure = Figure(name, "Pods/s", workload.goal, workload.reference)
        for _ in range(RUNS):
            rate, cpu = measure(workload, sizes)
            figure.values.append(rate)
            figure.cpu.append(cpu)
        print(figure.row(), file=sys.stderr, flush=True)
        yield figure


def preemptions(sizes: Sizes) -> Figure:
    """S17: every high Pod needs the room of three low ones, which goes at once."""
    nodes, before, number = sizes
    figure = Figure(f"S17 preemption: {nodes} nodes, {number} Pods", "Pods/s", "50", "never ends")
    for _ in range(RUNS):
        core = Core(Workload("S17", work.high, sizes, before=work.low), nodes)
        core.place([Pod.of(raw) for raw in made(work.low, before)])
        waiting = [Pod.of(raw) for raw in made(work.high, number)]
        cpu = time.process_time()
        for pod in waiting:
            if core.place([pod]):
                continue
            found = preempt(core.placer, core.placer.ask(core.demand(pod)), Circumstances())
            if found is None:
                sys.exit("S17: no victims found")
            for held in found.victims:
                core.table.remove(held.uid)
            core.place([pod])
        cpu = time.process_time() - cpu
        figure.values.append(number / cpu)
        figure.cpu.append(cpu)
    print(figure.row(), file=sys.stderr, flush=True)
    return figure


def refusals(nodes: int, number: int) -> Figure:
    """Refuse and explain a Pod that fits nowhere, with something changing before each time."""
    figure = Figure(f"refused and explained: {nodes} nodes", "a second")
    for _ in range(RUNS):
        core = Core(Workload("refusals", work.plain, (nodes, 0, number)), nodes)
        hopeless = Pod.of(work.hopeless(0))
        others = [Pod.of(raw) for raw in made(work.plain, number)]
        spent, cpu = 0.0, time.process_time()
        for other in others:
            core.place([other])
            begun = time.process_time()
            core.place([hopeless])
            explain(core.placer, core.placer.ask(core.demand(hopeless)))
            spent += time.process_time() - begun
        figure.values.append(number / spent)
        figure.cpu.append(time.process_time() - cpu)
    print(figure.row(), file=sys.stderr, flush=True)
    return figure


def scale_curve(*, full: bool) -> Iterator[Figure]:
    """S26: the time of one Pod must grow less than a tenth as fast as the number of nodes."""
    for nodes in (100, 1000, 5000, *((15_000, 50_000) if full else ())):
        workload = Workload("S26", work.plain, (nodes, 0, 5000))
        figure = Figure(f"S26 scale: {nodes} nodes, 5000 Pods", "Pods/s")
        for _ in range(RUNS):
            rate, cpu = measure(workload, (nodes, 0, min(5000, 40 * nodes)))
            figure.values.append(rate)
            figure.cpu.append(cpu)
        print(figure.row(), file=sys.stderr, flush=True)
        yield figure


def e2e_figures(*, full: bool, only: str) -> Iterator[Figure]:
    for name, make, before, goal, reference in (
        ("S1 basic", work.plain, work.before, "1000", "680"),
        ("S5 anti-affinity", work.social("green", work.GREEN, work.APART), None, "1500", "60"),
        ("S13 spread, hard", work.spread("hard", "DoNotSchedule"), work.before, "2000", "460"),
        ("S19 while hopeless ones arrive", work.plain, work.before, "S1 less 10 %", "590"),
    ):
        if only not in name:
            continue
        nodes, pods = (5000, 10_000) if full else (500, 2000)
        pods = min(pods, nodes * 4 // 5) if "S5" in name else pods
        figure = Figure(f"e2e {name}: {nodes} nodes, {pods} Pods", "Pods/s", goal, reference)
        churn = made(work.hopeless, 100_000) if "S19" in name else ()
        run = scheduler_e2e.measure(
            nodes=[work.zoned(i) for i in range(nodes)],
            before=list(made(before, nodes // 5)),
            pods=list(made(make, pods)),
            namespaces=("a", "b"),
            churn=churn,
        )
        figure.values.append(run.rate)
        figure.cpu.append(run.cpu)
        print(figure.row(), file=sys.stderr, flush=True)
        yield figure


def packing(*, full: bool, trace: Path | None) -> None:
    seeds = range(42, 52) if full else (42,)
    machines, trials = (2000, 11) if full else (100, 5)
    parts: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: scheduler_packing.p1(trace, 1.0 if full or trace else 0.2, list(seeds)),
        lambda: scheduler_packing.p2(machines, trials),
        lambda: scheduler_packing.p3(100, 50_000 if full else 5000),
    )
    for part in parts:
        print()
        for line in part():
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="kube-scheduler's own sizes")
    parser.add_argument("--quick", action="store_true", help="the core at small sizes, no more")
    parser.add_argument("--only", default="", help="workloads with this in their name")
    parser.add_argument("--driver", choices=("core", "e2e", "packing"), help="one driver only")
    parser.add_argument("--trace", type=Path, help="folder of the openb trace, for P1")
    options = parser.parse_args()
    drivers = [options.driver] if options.driver else ["core", "e2e", "packing"]
    if options.quick:
        drivers = ["core"]
    figures: list[Figure] = []
    print(HEADER, file=sys.stderr)
    if "core" in drivers:
        figures += core_figures(full=options.full, only=options.only)
        if not options.only:
            figures.append(preemptions((5000, 20_000, 5000) if options.full else (500, 2000, 500)))
            figures.append(refusals(5000 if options.full else 500, 500))
            figures += scale_curve(full=options.full)
    if "e2e" in drivers:
        figures += e2e_figures(full=options.full, only=options.only)
    if "packing" in drivers and not options.only:
        packing(full=options.full, trace=options.trace)
    report("scheduler", figures)


if __name__ == "__main__":
    main()
