"""Load on an API server, from a process of its own: requests kept in flight, or watches kept open.

A scenario comes as JSON on the command line, the result leaves as JSON. HTTP is spoken by hand over
raw protocols, so that the generator costs a fraction of what it measures, and tells its own CPU.
"""

import asyncio
import base64
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
import yaml

STAMP = b'"sampan.io/sent":"'


def context(kubeconfig: Path) -> ssl.SSLContext:
    """Trust and credentials as a kubeconfig with embedded data tells them."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return tls


def request(method: str, path: str, body: bytes = b"", media: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1\r\n"
    if body:
        head += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def pod(name: str, padding: int = 900) -> dict[str, Any]:
    """A Pod of about 1.5 KB as clients send it, and 2 KB as the server keeps it."""
    container = {"name": "main", "image": "registry.example/team/app:1.2.3"}
    resources = {"requests": {"cpu": "100m", "memory": "500Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "bench", "tier": "web"},
            "annotations": {"note": "x" * padding},
        },
        "spec": {
            "containers": [{**container, "resources": resources, "ports": [{"containerPort": 80}]}],
            "schedulerName": "nobody",
        },
    }


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def annotation(name: str) -> tuple[str, dict[str, Any]]:
    stamp = {"sampan.io/sent": f"{time.monotonic():.6f}"}
    return f"/api/v1/namespaces/default/pods/{name}", {"metadata": {"annotations": stamp}}


def renewal(name: str) -> tuple[str, dict[str, Any]]:
    """A node's heartbeat; the first one makes the Lease."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
    return path, {"metadata": {"name": name}, "spec": spec}


class Client(asyncio.Protocol):
    """One keep-alive connection: send, then be called with the status of each answer."""

    def __init__(self, answered: Callable[["Client", int], None]) -> None:
        self._answered = answered
        self._head = b""
        self._left = -1
        self._status = 0
        self.received = 0
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self.sent_at:
            self._answered(self, 0)

    def send(self, message: bytes) -> None:
        self.sent_at = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._left < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._head = self._head[:end].lower(), self._head[end + 4 :], b""
            self._status = int(head[9:12])
            self._left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            self._answered(self, self._status)

    def close(self) -> None:
        self.sent_at = 0.0
        self._transport.close()


class Load:
    """Keeps every connection busy with what *messages* says, until time or messages are over."""

    def __init__(self, messages: Iterator[tuple[str, bytes]], seconds: float) -> None:
        self._messages = messages
        self._until = time.perf_counter() + seconds
        self._names: dict[Client, str] = {}
        self.latencies: list[float] = []
        self.acknowledged: list[str] = []
        self.failed: dict[int, int] = {}
        self.idle = asyncio.Event()
        self._busy = 0

    def begin(self, client: Client) -> None:
        self._busy += 1
        self._next(client)

    def answered(self, client: Client, status: int) -> None:
        self.latencies.append(time.perf_counter() - client.sent_at)
        if 200 <= status < 300:
            self.acknowledged.append(self._names[client])
        else:
            self.failed[status] = self.failed.get(status, 0) + 1
        if status:
            self._next(client)
        else:
            self._rest()

    def _next(self, client: Client) -> None:
        following = next(self._messages, None) if time.perf_counter() < self._until else None
        if following is None:
            client.close()
            self._rest()
            return
        self._names[client], message = following
        client.send(message)

    def _rest(self) -> None:
        self._busy -= 1
        if not self._busy:
            self.idle.set()


def messages(spec: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    number, prefix = 0, spec.get("prefix", "p")
    while number < spec.get("count", 1 << 60):
        name = f"{prefix}-{number}"
        if spec["do"] == "create":
            made = json.dumps(pod(name)).encode()
            yield name, request("POST", "/api/v1/namespaces/default/pods", made)
        elif spec["do"] == "nodes":
            yield name, request("POST", "/api/v1/nodes", json.dumps(node(name)).encode())
        else:
            yield name, request("GET", spec["path"])
        number += 1


async def requests(spec: dict[str, Any], tls: ssl.SSLContext) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    load: Load

    def answered(client: Client, status: int) -> None:
        load.answered(client, status)

    clients = []
    for _ in range(spec["connections"]):
        _, client = await loop.create_connection(
            lambda: Client(answered),
            "127.0.0.1",
            spec["port"],
            ssl=tls,
            server_hostname="127.0.0.1",
        )
        clients.append(client)
    load = Load(messages(spec), spec.get("seconds", 3600))
    began = time.perf_counter()
    for client in clients:
        load.begin(client)
    await load.idle.wait()
    return {
        "seconds": time.perf_counter() - began,
        "done": len(load.acknowledged),
        "failed": load.failed,
        "received": sum(client.received for client in clients),
        "acknowledged": load.acknowledged if spec.get("names") else [],
        **spread(load.latencies, "ms", 1000),
    }


def spread(values: list[float], unit: str, scale: float) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    at = {"p50": 0.5, "p99": 0.99}
    return {
        f"{name}_{unit}": ordered[min(len(ordered) - 1, int(len(ordered) * share))] * scale
        for name, share in at.items()
    }


class Watcher(asyncio.Protocol):
    """Counts the events of one watch and how old each is; *stalled* ones stop reading."""

    def __init__(self, message: bytes, watched: "Watched", *, stalled: bool) -> None:
        self._message = message
        self._watched = watched
        self._stalled = stalled
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        if self._stalled:
            self._transport.pause_reading()
            return
        watched = self._watched
        watched.events += data.count(b'{"type":"')
        now = time.monotonic()
        data = self._rest + data
        at = data.find(STAMP)
        while at >= 0:
            end = data.find(b'"', at + len(STAMP))
            if end < 0:
                break
            watched.delays.append(now - float(data[at + len(STAMP) : end]))
            at = data.find(STAMP, end)
        self._rest = data[at:] if at >= 0 else data[-len(STAMP) :]


class Watched:
    def __init__(self) -> None:
        self.events = 0
        self.delays: list[float] = []


async def watches(spec: dict[str, Any], tls: ssl.SSLContext) -> dict[str, Any]:
    """Hold watches open for as long as standard input is; then tell what they saw."""
    loop, watched = asyncio.get_running_loop(), Watched()
    message = request("GET", spec["path"])
    for number in range(spec["connections"]):
        stalled = number < spec.get("stalled", 0)
        await loop.create_connection(
            lambda stalled=stalled: Watcher(message, watched, stalled=stalled),
            "127.0.0.1", spec["port"], ssl=tls, server_hostname="127.0.0.1",
        )  # fmt: skip
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    return {"events": watched.events, **spread(watched.delays, "ms", 1000)}


async def writers(spec: dict[str, Any], tls: ssl.SSLContext) -> dict[str, Any]:
    """Write objects in turn at a fixed rate, however long answers take (an open loop)."""
    renewing = spec["do"] == "lease"
    method, change = ("PUT", renewal) if renewing else ("PATCH", annotation)
    media = "application/json" if renewing else "application/merge-patch+json"
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    failed: dict[int, int] = {}
    waiting: list[asyncio.Queue[int]] = []
    clients = []
    for _ in range(spec["connections"]):
        done: asyncio.Queue[int] = asyncio.Queue()
        waiting.append(done)
        _, client = await loop.create_connection(
            lambda done=done: Client(lambda _, status: done.put_nowait(status)),
            "127.0.0.1", spec["port"], ssl=tls, server_hostname="127.0.0.1",
        )  # fmt: skip
        clients.append(client)
    began = time.monotonic()
    until = began + spec["seconds"]

    async def write(which: int) -> None:
        period = spec["connections"] / spec["rate"]
        due, turn = began + period * which / spec["connections"], which
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            path, body = change(f"{spec['prefix']}-{turn % spec['objects']}")
            clients[which].send(request(method, path, json.dumps(body).encode(), media))
            if (status := await waiting[which].get()) not in {200, 201}:
                failed[status] = failed.get(status, 0) + 1
            latencies.append(time.monotonic() - due)
            due, turn = due + period, turn + spec["connections"]

    async with asyncio.TaskGroup() as group:
        for which in range(spec["connections"]):
            group.create_task(write(which))
    for client in clients:
        client.close()
    return {"done": len(latencies), "failed": failed, **spread(latencies, "ms", 1000)}


def main() -> None:
    spec = json.loads(sys.argv[1])
    tls = context(Path(spec["kubeconfig"]))
    work = {"watch": watches, "patch": writers, "lease": writers}.get(spec["do"], requests)
    result = uvloop.run(work(spec, tls))
    print(json.dumps({**result, "cpu": time.process_time()}), flush=True)


if __name__ == "__main__":
    main()
