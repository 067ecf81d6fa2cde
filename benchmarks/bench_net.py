"""The node's network: how long rules take to load and to change, and what the DNS server answers.

In a network namespace of its own, with the real kernel: cold load of many Services, the change of
one among them, the first packet through them; and DNS queries over loopback.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network

import uvloop
from measure import Figure, cpu_seconds, report, stopwatch

from sampan.api.objects import EndpointSlice, Object, Service
from sampan.net import links, namespaces, nft
from sampan.net.compile import NodeFacts, compile_service
from sampan.net.dns import DnsServer
from sampan.net.netlink import Netlink
from sampan.net.program import Program
from sampan.net.upstream import Upstream
from sampan.net.zone import Zone, service_records

NAMESPACE = f"sampan-bench-{os.getpid()}"
PODS, CLUSTER = IPv4Network("10.42.0.0/24"), IPv4Network("10.42.0.0/16")
SERVICES, DNS = IPv4Network("10.43.0.0/16"), "10.43.0.10"
FACTS = NodeFacts("node-1", PODS, CLUSTER, SERVICES, DNS)
DOMAIN = "cluster.local"
ENDPOINTS = 2
CHANGES = 20


def service(number: int) -> Service:
    return Service.of(
        {
            "metadata": {"name": f"s{number}", "namespace": "default"},
            "spec": {"clusterIP": str(SERVICES[number + 256]), "ports": [{"port": 80}]},
        }
    )


def slice_of(number: int, endpoints: int, *, shift: int = 0) -> EndpointSlice:
    first = number * ENDPOINTS + shift
    members: list[Object] = [
        {"addresses": [str(CLUSTER[(first + i) % 60000 + 256])], "conditions": {"ready": True}}
        for i in range(endpoints)
    ]
    return EndpointSlice.of(
        {
            "metadata": {"name": f"s{number}-1", "namespace": "default"},
            "endpoints": members,
            "ports": [{"port": 8080}],
        }
    )


def fill(program: Program, count: int) -> None:
    for number in range(count):
        part = compile_service(service(number), [slice_of(number, ENDPOINTS)], FACTS)
        program.put(f"s{number}", part)


def measure_rules(count: int, runs: int) -> list[Figure]:
    cold = Figure(f"{count} Services, cold load", "s", goal="5 s for 10000")
    change = Figure(f"one of {count} changes", "ms", goal="20 ms")
    ours = Figure(f"one of {count} changes, without the kernel", "ms")
    for _ in range(runs):
        program = Program(FACTS)
        with stopwatch() as watch:
            fill(program, count)
            program.take()
            nft.run(program.whole())
        cold.add(watch)
        for step in range(CHANGES):
            number = step * 7 % count
            began = time.perf_counter()
            part = slice_of(number, ENDPOINTS + step % 2, shift=step)
            program.put(f"s{number}", compile_service(service(number), [part], FACTS))
            commands = program.take().commands()
            ours.values.append((time.perf_counter() - began) * 1000)
            nft.run(commands)
            change.values.append((time.perf_counter() - began) * 1000)
    return [cold, change, ours]


def percentiles(name: str, unit: str, values: Sequence[float], goal: str) -> list[Figure]:
    ordered = sorted(values)
    at = {"median": len(ordered) // 2, "p99": len(ordered) * 99 // 100}
    return [Figure(f"{name}, {p}", unit, goal=goal, values=[ordered[i]]) for p, i in at.items()]


def measure_first_packet(count: int) -> list[Figure]:
    """A UDP packet to a Service's address and its answer, each time as a new flow."""
    times: list[float] = []
    program = Program(FACTS)
    fill(program, count)
    front = {"clusterIP": "10.43.0.77", "ports": [{"port": 80, "protocol": "UDP"}]}
    meta = {"name": "echo", "namespace": "default"}
    behind: Object = {
        "metadata": meta,
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 9999, "protocol": "UDP"}],
    }
    offered = Service.of({"metadata": meta, "spec": front})
    program.put("echo", compile_service(offered, [EndpointSlice.of(behind)], FACTS))
    nft.run(program.whole())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 9999))
        for _ in range(500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("127.0.0.1", 0))
                began = time.perf_counter()
                client.sendto(b"x", ("10.43.0.77", 80))
                echo.recvfrom(10)
                times.append((time.perf_counter() - began) * 1000)
    return percentiles(f"first packet, {count} Services", "ms", times, "p99 0.05 ms")


def in_namespace(work: Callable[[], list[Figure]]) -> list[Figure]:
    def prepared() -> list[Figure]:
        with Netlink() as netlink:
            links.set_link(netlink, "lo", up=True)
            route = links.Route(SERVICES, "lo")
            links.set_route(netlink, route, links.STATIC)
        return work()

    namespaces.create(NAMESPACE)
    try:
        return namespaces.run_in(NAMESPACE, prepared)
    finally:
        namespaces.delete(NAMESPACE)


def measure_dns(seconds: float) -> list[Figure]:
    """Ask one server process from a client process with many queries on their way."""
    rate = Figure("DNS answers a core-second", "/s", goal="12000 /s")
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve-dns"], stdout=subprocess.PIPE, text=True
    )
    try:
        port = int(server.stdout.readline()) if server.stdout else 0
        before = cpu_seconds(server.pid)
        answers, delays = ask_for(port, seconds)
        rate.values.append(answers / max(cpu_seconds(server.pid) - before, 0.01))
    finally:
        server.kill()
        server.wait()
    return [rate, *percentiles("DNS answer, 64 on their way", "ms", delays, "p99 10 ms")]


def ask_for(port: int, seconds: float) -> tuple[int, list[float]]:
    window = 64
    queries = [_query(number, f"s{number % 1000}.default.svc.{DOMAIN}") for number in range(4096)]
    sent: dict[int, float] = {}
    delays: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(1)
        number, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            while len(sent) < window:
                number += 1
                sent[number % 4096] = time.perf_counter()
                client.send(queries[number % 4096])
            answer = client.recv(512)
            began = sent.pop(int.from_bytes(answer[:2], "big"))
            delays.append((time.perf_counter() - began) * 1000)
    return len(delays), delays


def _query(number: int, name: str) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def serve_dns() -> None:
    zone = Zone(DOMAIN, pods=CLUSTER, services=SERVICES)
    for number in range(1000):
        zone.put(str(number), service_records(service(number), (), DOMAIN))

    async def run() -> None:
        server = DnsServer(zone, Upstream(["127.0.0.1"]), "127.0.0.1", port=0)
        print(server.address[1], flush=True)
        await server.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer runs")
    parser.add_argument("--serve-dns", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_dns:
        serve_dns()
        return
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return
    sizes: Sequence[int] = (100, 1000) if options.quick else (100, 1000, 10000)
    runs = 1 if options.quick else 3

    def rules() -> list[Figure]:
        figures = [figure for size in sizes for figure in measure_rules(size, runs)]
        return figures + [figure for size in sizes for figure in measure_first_packet(size)]

    figures = in_namespace(rules) + measure_dns(1 if options.quick else 5)
    report("net", figures)


if __name__ == "__main__":
    main()
