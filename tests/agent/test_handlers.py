"""Probes against real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing import get_context
from typing import Any

import grpc
import pytest
from msgspec import convert

from sampan.agent.handlers import Target, ask
from sampan.agent.hooks import run_hook
from sampan.agent.probes import Answer
from sampan.agent.runtime import Container, ContainerConfig, ExecResult, SandboxConfig
from sampan.agent.spec import ContainerSpec, Handler, Probe
from sampan.testing.runtime import Behaviour, FakeRuntime

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Serve while the block lasts; every connection is closed at its end."""
    closed: list[asyncio.Event] = []

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed.append(done := asyncio.Event())
        with suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
        for done in closed:
            await done.wait()


def answering(line: str, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request)
        writer.write(f"{line}\r\n\r\n".encode())

    return serve


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def probe(port: int = 0, **fields: Any) -> Answer:
    raw = {"name": "c", "ports": [{"name": "web", "containerPort": port}]}
    target = Target("c1", convert(raw, ContainerSpec), "127.0.0.1")
    return await ask(FakeRuntime({}), target, convert(fields, Probe))


@pytest.mark.parametrize(("code", "ok"), [(200, True), (302, True), (404, False), (503, False)])
async def test_http_is_well_from_200_to_399(code: int, *, ok: bool) -> None:
    async with listening(answering(f"HTTP/1.1 {code} Whatever")) as port:
        answer = await probe(httpGet={"port": port})
    assert answer.ok is ok
    if not ok:
        assert answer.message == f"HTTP probe failed with statuscode: {code}"


async def test_the_request_has_the_asked_path_and_headers_and_the_port_may_be_a_name() -> None:
    seen: list[bytes] = []
    headers = [{"name": "X-Probe", "value": "yes"}, {"name": "Host", "value": "me"}]
    async with listening(answering("HTTP/1.1 200 OK", seen)) as port:
        asked = {"port": "web", "path": "health?x=1", "httpHeaders": headers}
        assert (await probe(port, httpGet=asked)).ok
    assert seen[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: me\r\n")
    assert b"X-Probe: yes\r\n" in seen[0]


async def test_a_port_name_that_is_not_there_is_told() -> None:
    answer = await probe(httpGet={"port": "admin"})
    assert answer == Answer(False, "container c has no port named admin")


async def test_what_does_not_answer_in_time_has_failed() -> None:
    async with listening(say_nothing) as port:
        answer = await probe(httpGet={"port": port}, timeoutSeconds=1)
    assert answer == Answer(False, "timeout: no answer within 1s")


async def test_what_speaks_something_else_has_failed() -> None:
    async with listening(answering("SSH-2.0")) as port:
        answer = await probe(httpGet={"port": port})
    assert "malformed" in answer.message


async def test_tcp_is_well_when_something_listens() -> None:
    async with listening(say_nothing) as port:
        assert (await probe(tcpSocket={"port": port})).ok
    answer = await probe(tcpSocket={"port": port})
    assert not answer.ok
    assert str(port) in answer.message


@pytest.mark.parametrize(("status", "ok"), [(1, True), (2, False), (0, False)])
def test_grpc_speaks_the_health_protocol(status: int, *, ok: bool) -> None:
    # In a process of its own: gRPC's threads stay in the network in which they began, and other
    # tests have them begin elsewhere.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        answered, asked = process.submit(ask_a_grpc_server, status).result()
    assert answered is ok
    assert asked == [b"\x0a\x03web"]


def ask_a_grpc_server(status: int) -> tuple[bool, list[bytes]]:
    return asyncio.run(_ask_a_grpc_server(status))


async def _ask_a_grpc_server(status: int) -> tuple[bool, list[bytes]]:
    asked: list[bytes] = []

    async def check(request: bytes, _context: object) -> bytes:
        asked.append(request)
        return bytes((0x08, status)) if status else b""

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check)
    service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return (await probe(grpc={"port": port, "service": "web"})).ok, asked
    finally:
        await server.stop(None)


async def test_a_program_is_well_when_it_exits_with_zero() -> None:
    runtime = FakeRuntime({})
    runtime.exec_answer = _by_command
    target = Target(await _started(runtime), convert({"name": "c"}, ContainerSpec), "")
    good = convert({"exec": {"command": ["true"]}}, Probe)
    bad = convert({"exec": {"command": ["false"]}}, Probe)
    assert (await ask(runtime, target, good)).ok
    assert await ask(runtime, target, bad) == Answer(False, "it broke")


def _by_command(_container: Container, command: Any) -> ExecResult:
    return ExecResult(0, b"") if command == ["true"] else ExecResult(1, b"it broke\n")


async def _started(runtime: FakeRuntime) -> str:
    runtime.load("app", Behaviour())
    box_config = SandboxConfig(name="p", namespace="d", uid="u")
    box = await runtime.run_sandbox(box_config)
    labels = {"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "c"}
    config = ContainerConfig(
        name="c",
        image="docker.io/library/app:latest",
        labels=labels,
        annotations={"sampan.io/image": "app"},
    )
    made = await runtime.create_container(box, config, box_config)
    await runtime.start_container(made)
    return made


async def test_a_hook_says_what_went_wrong() -> None:
    target = Target("c1", convert({"name": "c"}, ContainerSpec), "127.0.0.1")

    async def run(limit: float = 5, **fields: Any) -> str:
        return await run_hook(FakeRuntime({}), target, convert(fields, Handler), limit)

    async with listening(answering("HTTP/1.1 200 OK")) as port:
        assert await run(httpGet={"port": port}) == ""
    assert await run(httpGet={"port": port}) != ""
    assert await run(sleep={"seconds": 0}) == ""
    assert await run(0.01, sleep={"seconds": 9}) == "not finished within 0.01s"
