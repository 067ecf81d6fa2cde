"""The whole main job on three nodes: start, Pods, updates, a node's death, memory.

The same shapes as the Docker Swarm figures in the project's node facts (three nodes on one
machine), which stand in the last column.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import Figure, Stopwatch, cpu_seconds, pss_mb, report, stopwatch
from tests.e2e.support import IMAGE, SLEEP, DevCluster, Kubectl, deployment, pod
from tests.e2e.test_failures import pid_of

NODES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="repetitions (median is reported)")
    parser.add_argument("--quick", action="store_true", help="one run, without 100 Pods")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    sizes = (30,) if options.quick else (30, 100)
    bench = ClusterBench(sizes)
    for turn in range(runs):
        print(f"run {turn + 1} of {runs}", file=sys.stderr)
        bench.run(f"b{os.getpid() % 10000}")
    report("cluster", list(bench.figures.values()))


class ClusterBench:
    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.figures = {
            key: Figure(name, unit, goal, reference)
            for key, name, unit, goal, reference in (
                ("ready", "server start -> /readyz", "s", "<= 0.6 (G14)", "k3s 0.48"),
                ("up", "dev up, 3 nodes -> all Ready", "s", "<= 2.9", "Swarm 2.9"),
                ("one", "one Pod: create -> Running", "s", "p50 <= 0.4 (G15)", "k3s 2.3"),
                ("pods30", "30 Pods -> all Running", "s", "<= 3.5", "Swarm 10.5"),
                ("pods100", "100 Pods -> all Running", "s", "<= 12", "Swarm 29.9"),
                ("rolling", "rolling update of 30, 5 at a time", "s", "", "Swarm 28-29"),
                ("remove", "remove 30 Pods", "s", "", "Swarm 6.5"),
                ("death", "node death -> replaced", "s", "<= 10 (G22)", "Swarm 18-21"),
                ("server", "server idle, PSS", "MB", "<= 120 (G12)", "k3s 490"),
                ("agent", "agent idle, PSS", "MB", "<= 60 (G13)", "k3s 275"),
                ("server100", "server with 100 Pods, PSS", "MB", "", "dockerd 131 RSS"),
                ("agent100", "agent with 33 Pods, PSS", "MB", "", "dockerd 110 RSS"),
                ("server_cpu", "server idle, share of a core", "%", "<= 1 (G12)", "k3s 45"),
                ("agent_cpu", "agent idle, share of a core", "%", "<= 0.5 (G13)", "k3s 3"),
            )
        }

    def run(self, name: str) -> None:
        self.figures["ready"].add(server_start(name))
        with stopwatch() as watch:
            cluster = DevCluster(name, NODES)
            cluster.sampan("dev", "up", "--name", name, "--nodes", str(NODES), "--no-egress")
        self.figures["up"].add(watch)
        try:
            cluster.load_image(IMAGE)
            self.measure(cluster)
        finally:
            cluster.sampan("dev", "down", "--name", name)

    def measure(self, cluster: DevCluster) -> None:
        kubectl = cluster.kubectl("default")
        self.idle(cluster)
        for number in range(10):
            self.figures["one"].add(one_pod(kubectl, number))
        for size in self.sizes:
            self.figures[f"pods{size}"].add(burst(kubectl, size))
            if size == 100:
                self.memory(cluster, "100")
            if size == 30:
                self.figures["rolling"].add(rolling_update(kubectl))
            removal = empty(kubectl)
            if size == 30:
                self.figures["remove"].add(removal)
        self.figures["death"].add(node_death(cluster, kubectl))

    def idle(self, cluster: DevCluster) -> None:
        time.sleep(5)  # the start's last work must not count as idling
        server, agent = pid_of(cluster, "server"), pid_of(cluster, "node-1")
        before = cpu_seconds(server), cpu_seconds(agent)
        time.sleep(10)
        self.figures["server_cpu"].values.append((cpu_seconds(server) - before[0]) * 10)
        self.figures["agent_cpu"].values.append((cpu_seconds(agent) - before[1]) * 10)
        self.memory(cluster, "")

    def memory(self, cluster: DevCluster, suffix: str) -> None:
        self.figures[f"server{suffix}"].values.append(pss_mb(pid_of(cluster, "server")))
        self.figures[f"agent{suffix}"].values.append(pss_mb(pid_of(cluster, "node-1")))


def server_start(name: str) -> Stopwatch:
    """Start a bare server on an empty directory; stop the clock at the first 200 from /readyz."""
    scratch = Path(f"/tmp/sampan-bench-{name}")
    port = "16443"
    command = [
        *(sys.executable, "-m", "sampan", "server", "--no-agent", "--data-dir", str(scratch)),
        *("--listen", "127.0.0.1", "--port", port),
    ]
    probe = ["curl", "--silent", "--insecure", "--fail", f"https://127.0.0.1:{port}/readyz"]
    with stopwatch() as watch:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0)
    server.send_signal(signal.SIGTERM)
    server.wait()
    subprocess.run(["rm", "-rf", str(scratch)], check=True)
    return watch


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("gave up waiting: the figures would mean nothing")
        time.sleep(0.01)


def one_pod(kubectl: Kubectl, number: int) -> Stopwatch:
    """From kubectl's start to a watch's sight of Running; kubectl itself takes ~0.1 s of that."""
    name = f"one-{number}"
    watcher = watch_pods(kubectl, f"metadata.name={name}")
    with stopwatch() as watch:
        kubectl.apply(pod(name, *SLEEP))
        wait_running(watcher, 1)
    watcher.kill()
    watcher.wait()
    kubectl("delete", "pod", name, "--grace-period=0", "--force")
    return watch


def watch_pods(kubectl: Kubectl, fields: str = "") -> "subprocess.Popen[str]":
    columns = "NAME:.metadata.name,PHASE:.status.phase,DELETED:.metadata.deletionTimestamp"
    selector = [f"--field-selector={fields}"] if fields else []
    return subprocess.Popen(
        [
            *kubectl.command,
            "get",
            "pods",
            "-w",
            "--no-headers",
            "-o",
            f"custom-columns={columns}",
            *selector,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_running(watcher: "subprocess.Popen[str]", count: int) -> None:
    running: set[str] = set()
    for line in watcher.stdout or ():
        name, phase, deleted = line.split()[:3]
        if phase == "Running" and deleted == "<none>":
            running.add(name)
        else:
            running.discard(name)
        if len(running) == count:
            return


def burst(kubectl: Kubectl, size: int) -> Stopwatch:
    watcher = watch_pods(kubectl)
    with stopwatch() as watch:
        kubectl.apply(deployment("web", size, *SLEEP))
        wait_running(watcher, size)
    watcher.kill()
    watcher.wait()
    return watch


def rolling_update(kubectl: Kubectl) -> Stopwatch:
    strategy = {"strategy": {"rollingUpdate": {"maxSurge": 5, "maxUnavailable": 0}}}
    kubectl("patch", "deployment", "web", "-p", json.dumps({"spec": strategy}))
    with stopwatch() as watch:
        kubectl("rollout", "restart", "deployment/web")
        kubectl("rollout", "status", "deployment/web", "--timeout=120s", seconds=130)
    return watch


def empty(kubectl: Kubectl) -> Stopwatch:
    with stopwatch() as watch:
        kubectl(
            "delete", "deployment", "web", "--cascade=foreground", "--timeout=120s", seconds=130
        )
        until(lambda: not kubectl.json("get", "pods")["items"])
    return watch


def node_death(cluster: DevCluster, kubectl: Kubectl) -> Stopwatch:
    kubectl.apply(deployment("web", 6, *SLEEP))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    with stopwatch() as watch:
        cluster.sampan("dev", "kill", "node-2", "--name", cluster.name)
        until(
            lambda: (
                sum(p["spec"].get("nodeName") != "node-2" for p in kubectl.ready_pods("app=web"))
                == 6
            )
        )
    return watch


if __name__ == "__main__":
    main()
