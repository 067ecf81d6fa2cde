"""The API server over HTTPS: rates, latencies, memory, start, and what a kill may not lose.

The shapes are A1 to A9 and F1 to F3 of the project's benchmark plan. The server is the real one,
with its control plane; the load comes from processes of its own (`load.py`). Rates depend on what
else the machine does, so each stands beside the server's CPU time an operation, which hardly does.
"""

import argparse
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from load import context
from measure import Figure, cpu_seconds, pss_mb, report

HERE = Path(__file__).resolve().parent
PODS = "/api/v1/namespaces/default/pods"


class Server:
    """`sampan server --no-agent` on loopback, with its data in *where*."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.process: subprocess.Popen[bytes]

    def start(self) -> float:
        """Start it and return how many seconds later it was ready."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "sampan", "server", "--no-agent", "--listen", "127.0.0.1",
                   "--advertise", "127.0.0.1", "--port", str(self.port), "--data-dir",
                   str(self.where)]  # fmt: skip
        began = time.monotonic()
        with (self.where / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() - began > 60:
                sys.exit(f"the server did not start:\n{(self.where / 'log').read_text()}")
            time.sleep(0.005)
        return time.monotonic() - began

    def _ready(self) -> bool:
        blind = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing is sent, and it is loopback
        try:
            with urllib.request.urlopen(
                f"https://127.0.0.1:{self.port}/readyz", context=blind, timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()

    @property
    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def pss(self) -> float:
        return pss_mb(self.process.pid)

    def get(self, path: str, **headers: str) -> tuple[float, bytes]:
        """Get *path* as the administrator; return the seconds it took, and the body."""
        asked = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", headers=headers)
        tls = context(self.where / "kubeconfig")
        began = time.monotonic()
        with urllib.request.urlopen(asked, context=tls) as answer:  # noqa: S310 - our own https URL
            body = answer.read()
        return time.monotonic() - began, body

    def begin(self, do: str, **spec: Any) -> "subprocess.Popen[str]":
        told = {"do": do, "port": self.port, "kubeconfig": str(self.where / "kubeconfig"), **spec}
        return subprocess.Popen(
            [sys.executable, str(HERE / "load.py"), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def load(self, do: str, **spec: Any) -> dict[str, Any]:
        """Put load on it to the end; the result tells the server's CPU-seconds as well."""
        before = self.cpu
        result = finished(self.begin(do, **spec))
        return {**result, "server": self.cpu - before}

    @contextmanager
    def watching(
        self, connections: int, result: dict[str, Any], stalled: int = 0
    ) -> Iterator[None]:
        """Keep full Pod watches open meanwhile; *result* gets what they saw."""
        revision = json.loads(self.get(f"{PODS}?limit=1")[1])["metadata"]["resourceVersion"]
        path = f"{PODS}?watch=1&resourceVersion={revision}"
        watchers = self.begin("watch", connections=connections, path=path, stalled=stalled)
        assert watchers.stdout  # noqa: S101
        watchers.stdout.readline()
        yield
        time.sleep(0.5)
        result.update(finished(watchers))


def finished(load: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = load.communicate("\n")
    return json.loads(out.splitlines()[-1])  # type: ignore[no-any-return]


@contextmanager
def served() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-api-") as where:
        server = Server(Path(where).resolve())
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()


class Figures:
    def __init__(self) -> None:
        self.all: dict[str, Figure] = {}

    def add(self, name: str, unit: str, value: float, goal: str = "", reference: str = "") -> None:
        self.all.setdefault(name, Figure(name, unit, goal, reference)).values.append(value)


def creates(figures: Figures, server: Server, run: int, seconds: float) -> None:
    """A1 and A1b: durable creates, by many and by one."""
    many = server.load("create", connections=64, seconds=seconds, prefix=f"many{run}")
    figures.add("A1 durable creates, 64 clients", "/s", many["done"] / many["seconds"], ">= 2000")
    cost = many["server"] * 1000 / many["done"]
    figures.add("A1 server CPU a create", "ms", cost, "<= 0.5")
    figures.add("A1 latency p50", "ms", many["p50_ms"])
    figures.add("A1 latency p99", "ms", many["p99_ms"])
    one = server.load("create", connections=1, seconds=seconds / 4, prefix=f"one{run}")
    figures.add("A1b latency p50, 1 client", "ms", one["p50_ms"])


def churn(figures: Figures, server: Server, seconds: float, objects: int) -> None:
    """A2: 100 writes a second on many Pods, seen by ten full watches."""
    seen: dict[str, Any] = {}
    with server.watching(10, seen):
        result = server.load(
            "patch", connections=10, rate=100, seconds=seconds, prefix="kept", objects=objects
        )
    figures.add("A2 write latency p99", "ms", result["p99_ms"], "<= 50", "k8s SLO 1000")
    figures.add("A2 watch delay p99", "ms", seen["p99_ms"])
    figures.add("A2 server CPU", "% of a core", 100 * result["server"] / seconds)


def reads(figures: Figures, server: Server, seconds: float) -> None:
    """A3 and A4: one hot object by many; whole lists, pages, and a selector without a hit."""
    hot = server.load("get", connections=64, seconds=seconds, path=f"{PODS}/kept-0")
    figures.add("A3 GET of one object, 64 clients", "/s", hot["done"] / hot["seconds"])
    figures.add("A3 server CPU a GET", "ms", hot["server"] * 1000 / hot["done"])
    before = server.pss
    for name, query in (
        ("all", ""),
        ("limit=500", "?limit=500"),
        ("no hit by label", "?labelSelector=app%3Dnone"),
        ("no hit by field", "?fieldSelector=spec.nodeName%3Dnone"),
    ):
        for _ in range(3):
            seconds_taken, _ = server.get(PODS + query)
            figures.add(f"A4 LIST, {name}", "ms", seconds_taken * 1000)
    figures.add("A4 memory that lists leave", "MB", server.pss - before, "<= 50")


def fan_out(figures: Figures, server: Server, watchers: int, seconds: float) -> None:
    """A5: what watches cost, as deliveries a second of the server's CPU beyond the writes' own."""
    alone = server.load("create", connections=16, count=2000, prefix=f"alone{watchers}")
    seen: dict[str, Any] = {}
    with server.watching(watchers, seen):
        opened = server.cpu
        server.load("create", connections=16, count=2000, prefix=f"seen{watchers}")
        time.sleep(min(seconds, watchers / 100))
    extra = max(0.01, server.cpu - opened - alone["server"])
    figures.add(
        f"A5 deliveries, {watchers} watches", "/s of CPU", seen["events"] / extra, ">= 100000",
        "k8s 94000",
    )  # fmt: skip


def stalled_reader(figures: Figures, server: Server, seconds: float, objects: int) -> None:
    delays = []
    for stalled in (0, 1):
        seen: dict[str, Any] = {}
        with server.watching(10, seen, stalled):
            server.load(
                "patch", connections=4, rate=100, seconds=seconds, prefix="kept", objects=objects
            )
        delays.append(seen["p99_ms"])
    figures.add("A5 delay p99, one stalled / none", "x", delays[1] / delays[0], "<= 1.2")


def leases(figures: Figures, server: Server, seconds: float, nodes: int) -> None:
    """A8: heartbeats of many nodes, each every second; the first round makes the Leases."""
    for label in ("", "again"):
        result = server.load(
            "lease", connections=16, rate=nodes, seconds=seconds, prefix="node", objects=nodes
        )
        if label:
            share = 100 * result["server"] / seconds
            figures.add(f"A8 CPU of {nodes} renewals/s", "% of a core", share)
            figures.add(f"A8 renewal latency p99, {nodes}/s", "ms", result["p99_ms"])


def killed(figures: Figures, server: Server, seconds: float) -> None:
    """A9: kill the server in the middle of creates; every acknowledged one must be there again."""
    loading = server.begin("create", connections=64, seconds=60, prefix="a9", names=True)
    time.sleep(seconds)
    newest = int(json.loads(server.get(f"{PODS}?limit=1")[1])["metadata"]["resourceVersion"])
    server.stop(signal.SIGKILL)
    acknowledged = finished(loading)["acknowledged"]
    figures.add("A6 restart, until ready", "s", server.start())
    page = json.loads(server.get(PODS)[1])
    there = {item["metadata"]["name"] for item in page["items"]}
    figures.add("A9 acknowledged before the kill", "", len(acknowledged))
    figures.add("A9 acknowledged and lost", "", len(set(acknowledged) - there), "0")
    figures.add(
        "A9 revisions used twice", "", float(int(page["metadata"]["resourceVersion"]) < newest), "0"
    )


def memory(figures: Figures, server: Server, count: int) -> None:
    """A7: what a Pod costs, once the server has calmed down."""
    time.sleep(2)
    before = server.pss
    server.load("create", connections=32, count=count, prefix="kept")
    time.sleep(3)
    cost = (server.pss - before) * 1000 / count
    figures.add(f"A7 memory a Pod, {count} Pods", "KB", cost, "<= 12", "k8s 90-130")


def idle(figures: Figures, server: Server, seconds: float, name: str) -> None:
    time.sleep(3)
    before = server.cpu
    time.sleep(seconds)
    figures.add(f"{name} CPU", "% of a core", 100 * (server.cpu - before) / seconds, "<= 1")
    figures.add(f"{name} PSS", "MB", server.pss, "<= 120", "k3s 490")


def starts(figures: Figures, times: int) -> None:
    for _ in range(times):
        with served() as server:
            figures.add("F1 first start, until ready", "ms", server.start() * 1000, "<= 600")
            spent = server.cpu * 1000
            server.stop()
            figures.add("F1 start again, until ready", "ms", server.start() * 1000, "<= 600")
            figures.add("F1 CPU of a first start", "ms", spent)


def measure(*, quick: bool) -> Mapping[str, Figure]:
    figures = Figures()
    seconds = 5.0 if quick else 20.0
    objects = 2000 if quick else 10_000
    starts(figures, 3 if quick else 20)
    with served() as server:
        server.start()
        idle(figures, server, seconds, "F2 idle")
        memory(figures, server, objects)
        churn(figures, server, seconds * (1 if quick else 3), objects)
        reads(figures, server, seconds / 2)
        for watchers in (10, 100) if quick else (10, 100, 1000):
            fan_out(figures, server, watchers, seconds)
        stalled_reader(figures, server, seconds, objects)
        for run in range(2 if quick else 5):
            creates(figures, server, run, seconds)
        killed(figures, server, seconds / 2)
    with served() as server:
        server.start()
        leases(figures, server, seconds, 1000)
        idle(figures, server, seconds, "F3 idle, 1000 Leases known")
    return figures.all


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    quick = options.parse_args().quick
    os.environ.setdefault("SAMPAN_LOG_LEVEL", "WARNING")
    figures = measure(quick=quick)
    report("api", list(figures.values()))


if __name__ == "__main__":
    main()
