"""Requests while the cluster moves: rolling updates, scaling and a drain, and none may fail.

Three nodes, ten replicas of an application that dies at once when it is told to stop. Clients send
a steady stream to the Service's address from every node and to the NodePort from outside: some
with a connection for each request, some by HTTP clients that keep connections where they can.
A request fails when it gets no answer of 200; nothing is ever tried again.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from measure import Figure, report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.support import IMAGE, DevCluster, Kubectl, missing

APP = (
    "mkdir -p /www; hostname > /www/index.html; trap 'exit 0' TERM; "
    "httpd -f -p 8080 -h /www & while :; do wait; done"
)
"""The first process ends at SIGTERM, and its end kills the web server in the middle of its work."""
REPLICAS = 10
TIMEOUT = 10.0


def objects(version: int) -> list[dict[str, Any]]:
    labels = {"app": "web"}
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", APP],
        "env": [{"name": "VERSION", "value": str(version)}],
        "readinessProbe": probe,
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
    }
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30099}]
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": labels, "ports": ports},
        },
    ]


@dataclass
class Tally:
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def add(self, other: dict[str, Any]) -> None:
        self.answered += other["answered"]
        self.failures.update(other["failures"])
        self.slowest = max(self.slowest, other["slowest"])


async def load(url: str, rate: int, *, keep: bool) -> dict[str, Any]:
    """Send *rate* requests a second until told to stop by SIGTERM or the end of our input."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(0, stop.set)
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep)
    patience = aiohttp.ClientTimeout(total=TIMEOUT)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=patience) as session,
        asyncio.TaskGroup() as group,
    ):
        due = loop.time()
        while not stop.is_set():
            group.create_task(one(session, url, tally))
            due += 1 / rate
            await asyncio.sleep(max(due - loop.time(), 0))
    return {
        "answered": tally.answered,
        "failures": dict(tally.failures),
        "slowest": tally.slowest,
    }


async def one(session: aiohttp.ClientSession, url: str, tally: Tally) -> None:
    began = time.monotonic()
    try:
        async with session.get(url) as answer:
            await answer.read()
            if answer.status == 200:
                tally.answered += 1
            else:
                tally.failures[f"status {answer.status}"] += 1
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        at = f"{time.strftime('%H:%M:%S')} {time.monotonic() - began:.2f} s"
        tally.failures[f"{at}: {type(error).__name__}: {error}"] += 1
    tally.slowest = max(tally.slowest, time.monotonic() - began)


@contextmanager
def clients(cluster: DevCluster, address: str, rate: int) -> Iterator[Tally]:
    """Clients on every node and outside while the block lasts; then what they met."""
    here = [sys.executable, __file__, "--load"]
    commands: list[list[str]] = []
    for node, outside in cluster.node_addresses().items():
        enter = ["nsenter", f"--net=/run/netns/{cluster.netns(node)}", "--"]
        commands.append([*enter, *here, f"http://{address}/", str(rate), "new"])
        commands.append([*here, f"http://{outside}:30099/", str(rate), "keep"])
    running = [
        subprocess.Popen(c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for c in commands
    ]
    tally = Tally()
    try:
        yield tally
    finally:
        for process in running:
            out, _ = process.communicate("\n")
            tally.add(json.loads(out))


def settled(kubectl: Kubectl, replicas: int) -> None:
    kubectl("rollout", "status", "deployment/web", "--timeout=120s", seconds=130)
    deadline = time.monotonic() + 60
    while len(kubectl.json("get", "pods", "-l", "app=web")["items"]) != replicas:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not {replicas} replicas")
        time.sleep(0.2)


def update(kubectl: Kubectl) -> None:
    change = {"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "VERSION", "value": str(time.time())}]}
    ]}}}}  # fmt: skip
    kubectl("patch", "deployment", "web", "-p", json.dumps(change))
    settled(kubectl, REPLICAS)


def rescale(kubectl: Kubectl) -> None:
    for replicas in (3, REPLICAS):
        kubectl("scale", "deployment/web", f"--replicas={replicas}")
        settled(kubectl, replicas)


def drain(kubectl: Kubectl) -> None:
    kubectl("drain", "node-2", "--ignore-daemonsets", "--delete-emptydir-data", seconds=120)
    settled(kubectl, REPLICAS)
    kubectl("uncordon", "node-2")


EVENTS: dict[str, Callable[[Kubectl], None]] = {
    "rolling update": update,
    "scale 10, 3, 10": rescale,
    "drain of a node": drain,
}


def measure(requests: int, rate: int, events: Sequence[str]) -> tuple[list[Figure], Tally]:
    """Let events follow each other until so many *requests* have been answered."""
    total = Tally()
    seconds = {name: Figure(f"{name} of {REPLICAS} replicas", "s") for name in events}
    with DevCluster(f"b{os.getpid() % 100000}", nodes=3) as cluster:
        kubectl = cluster.kubectl("default")
        kubectl.apply(*objects(0))
        settled(kubectl, REPLICAS)
        address = kubectl.json("get", "service", "web")["spec"]["clusterIP"]
        while total.answered < requests:
            for name in events:
                with clients(cluster, address, rate) as tally:
                    time.sleep(2)
                    began = time.monotonic()
                    EVENTS[name](kubectl)
                    seconds[name].values.append(time.monotonic() - began)
                    time.sleep(1)
                failed = sum(tally.failures.values())
                print(f"{name}: {tally.answered} answered, {failed} failed", flush=True)
                for text, times in tally.failures.most_common(5):
                    print(f"    {times} x {text}")
                total.answered += tally.answered
                total.failures.update(tally.failures)
                total.slowest = max(total.slowest, tally.slowest)
    return list(seconds.values()), total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--event", choices=[*EVENTS], action="append", help="only these")
    parser.add_argument("--rate", type=int, default=60, help="requests a second and client")
    parser.add_argument("--requests", type=int, default=0, help="how many at least")
    parser.add_argument("--load", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        url, rate, kind = options.load
        print(json.dumps(asyncio.run(load(url, int(rate), keep=kind == "keep"))))
        return
    if reason := missing():
        print(f"skipped: {reason}")
        return
    requests = options.requests or (10_000 if options.quick else 100_000)
    figures, total = measure(requests, options.rate, options.event or [*EVENTS])
    counts = {"answered": total.answered, "failed": sum(total.failures.values())}
    for name, number in counts.items():
        figures.append(Figure(f"requests {name}", "", goal="0" if name == "failed" else "100000"))
        figures[-1].values.append(number)
    figures.append(Figure("slowest request", "s", values=[total.slowest]))
    report("updates", figures)
    if total.failures:
        sys.exit("some requests failed")


if __name__ == "__main__":
    main()
