"""Ask a container how it is: by a program inside it, by HTTP, TCP or gRPC from the node.

The agent is in the node's network, so it reaches Pods at their own addresses. Nothing here raises
for an answer that is merely bad.
"""

import asyncio
import ssl
from typing import Final

import grpc
from msgspec import Struct

from sampan.agent.probes import Answer
from sampan.agent.runtime import Runtime, RuntimeFailure, TimedOut
from sampan.agent.spec import (
    ContainerSpec,
    ExecAction,
    Grpc,
    HttpGet,
    Probe,
    TcpSocket,
    port_number,
)

ENOUGH: Final = 10 * 1024
"""Bytes of an answer that are looked at."""
_HEALTHY: Final = range(200, 400)
_SERVING: Final = 1
_NAMES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class Target(Struct, frozen=True):
    """One running container and where it is reached."""

    id: str
    container: ContainerSpec
    ip: str


async def ask(runtime: Runtime, target: Target, probe: Probe) -> Answer:
    """Probe once; never longer than the probe's timeout."""
    limit = float(max(probe.timeout_seconds, 1))
    try:
        if probe.exec:
            return await run_command(runtime, target, probe.exec, limit)
        async with asyncio.timeout(limit):
            return await _over_the_network(target, probe)
    except TimeoutError:
        return Answer(False, f"timeout: no answer within {limit:g}s")
    except (OSError, LookupError) as error:
        return Answer(False, str(error))


async def _over_the_network(target: Target, probe: Probe) -> Answer:
    if probe.http_get:
        return await get(target, probe.http_get)
    if probe.tcp_socket:
        return await connect(target, probe.tcp_socket)
    if probe.grpc:
        return await check_health(target, probe.grpc)
    return Answer(True)


async def run_command(runtime: Runtime, target: Target, action: ExecAction, limit: float) -> Answer:
    try:
        result = await runtime.exec(target.id, action.command, limit)
    except TimedOut:
        return Answer(False, f"command timed out: {action.command!r} after {limit:g}s")
    except RuntimeFailure as error:
        return Answer(False, str(error))
    text = result.output[:ENOUGH].decode(errors="replace").strip()
    return Answer(result.exit_code == 0, text or f"command exited with {result.exit_code}")


async def get(target: Target, asked: HttpGet) -> Answer:
    """Speak just enough HTTP/1.1; a certificate is not looked at, as in Kubernetes."""
    host, port = asked.host or target.ip, port_number(target.container, asked.port)
    secure = asked.scheme.upper() == "HTTPS"
    reader, writer = await asyncio.open_connection(host, port, ssl=_trusting() if secure else None)
    try:
        writer.write(_request(asked, host, port))
        head = (await reader.readline()).decode("latin-1").strip()
        version, _, rest = head.partition(" ")
        code = rest.partition(" ")[0]
        if not version.startswith("HTTP/") or not code.isdigit():
            return Answer(False, f"malformed HTTP response: {head[:80]!r}")
        return Answer(int(code) in _HEALTHY, f"HTTP probe failed with statuscode: {code}")
    finally:
        writer.transport.abort()


def _request(asked: HttpGet, host: str, port: int) -> bytes:
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe/sampan", "Accept": "*/*"}
    headers |= {header.name: header.value for header in asked.http_headers}
    path = asked.path if asked.path.startswith("/") else f"/{asked.path}"
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def connect(target: Target, asked: TcpSocket) -> Answer:
    host, port = asked.host or target.ip, port_number(target.container, asked.port)
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()
    return Answer(True)


async def check_health(target: Target, asked: Grpc) -> Answer:
    """Ask by the gRPC health checking protocol: field 1 of both messages is all there is."""
    service = asked.service.encode()
    message = b"\x0a" + _varint(len(service)) + service if service else b""
    async with grpc.aio.insecure_channel(f"{target.ip}:{asked.port}") as channel:
        try:
            answer: bytes = await channel.unary_unary("/grpc.health.v1.Health/Check")(message)
        except grpc.RpcError as error:
            return Answer(False, f"health rpc failed: {error.details() or error.code().name}")
    status = answer[1] if len(answer) > 1 and answer[0] == 0x08 else 0  # noqa: PLR2004 - field 1, varint
    return Answer(status == _SERVING, f"service unhealthy (responded with {_NAMES.get(status)!r})")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))
