"""Logs, exec and port-forward through the tunnel, with the real kubectl and a fake agent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sampan.api.objects import Object
from sampan.apiserver import pki
from sampan.apiserver.http import upgrade
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.server import ApiServer, ApiServerSettings
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.store.memory import MemoryStore
from tests.apiserver.http.support import KUBECTL, SUCCESS, Live, Verb, until


def refusing(code: int, reason: str, message: str) -> Verb:
    async def verb(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
        await stream.send_json({**status, "message": message})

    return verb


async def test_logs_pass_their_parameters_and_arrive_as_they_are(live: Live) -> None:
    seen: list[Object] = []

    async def logs(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        seen.append(params)
        await stream.send_str(SUCCESS)
        await stream.send_bytes(b"one\ntw")
        await stream.send_bytes(b"o\n")

    await live.pod_on("n1")
    async with live.agent("n1", logs=logs):
        ran = await live.kubectl("logs", "web", "-c", "side", "-f", "--tail=5", "--timestamps")
    assert ran.out == "one\ntwo\n"
    wanted = {
        "namespace": "default", "pod": "web", "container": "side", "follow": True,
        "previous": False, "timestamps": True, "tailLines": 5,
    }  # fmt: skip
    assert seen == [wanted]


async def test_what_the_agent_refuses_is_the_clients_answer(live: Live) -> None:
    await live.pod_on("n1")
    why = 'container "main" in pod "web" is waiting to start: ContainerCreating'
    async with live.agent("n1", logs=refusing(400, "BadRequest", why)):
        answer = await live.request("GET", "/api/v1/namespaces/default/pods/web/log?container=main")
    assert (answer.status, answer.json["message"]) == (400, why)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "a container name must be specified for pod web, choose one of: [main side]"),
        ("?container=none", "container none is not valid for pod web"),
        ("?container=main&tailLines=x", "tailLines: 'x' is not a whole number"),
        ("?container=main&sinceSeconds=0", "sinceSeconds must be greater than 0"),
        ("?container=main&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "at most one of"),
        ("?container=main&sinceTime=yesterday", "not an RFC 3339 time"),
    ],
)
async def test_wrong_log_options_are_named(live: Live, query: str, message: str) -> None:
    await live.pod_on("n1")
    answer = await live.request("GET", f"/api/v1/namespaces/default/pods/web/log{query}")
    assert answer.status == 400
    assert message in answer.json["message"]


async def test_the_default_containers_annotation_counts(live: Live) -> None:
    seen: list[str] = []

    async def logs(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        seen.append(params["container"])
        await stream.send_str(SUCCESS)

    await live.pod_on("n1", annotations={"kubectl.kubernetes.io/default-container": "side"})
    async with live.agent("n1", logs=logs):
        answer = await live.request("GET", "/api/v1/namespaces/default/pods/web/log")
    assert (answer.status, seen) == (200, ["side"])


async def test_without_a_tunnel_the_node_is_unavailable(live: Live) -> None:
    await live.pod_on("n1")
    answer = await live.request("GET", "/api/v1/namespaces/default/pods/web/log?container=main")
    assert answer.status == 503
    assert "node n1 is not connected" in answer.json["message"]


async def test_a_pod_without_a_node_has_no_logs_yet(live: Live) -> None:
    await live.pod_on("")
    answer = await live.request("GET", "/api/v1/namespaces/default/pods/web/log?container=main")
    assert (answer.status, answer.json["message"]) == (400, "pod web does not have a host assigned")


async def test_an_agent_that_dies_while_asked_gives_503_at_once(live: Live) -> None:
    await live.pod_on("n1")
    async with live.agent("n1"):  # one that never dials back
        path = "/api/v1/namespaces/default/pods/web/log?container=main"
        asking = asyncio.ensure_future(live.request("GET", path))
        await until(lambda: live.server.open_streams() == 1)
    answer = await asyncio.wait_for(asking, 5)
    assert answer.status == 503


async def echo(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
    """Send stdin back in capitals until it is closed, then exit with 7."""
    await stream.send_str(SUCCESS)
    await stream.send_bytes(b"\x02" + " ".join(params["command"]).encode() + b"\n")
    async for message in stream:
        if message.data[:1] == b"\x00":
            await stream.send_bytes(b"\x01" + message.data[1:].upper())
        elif message.data == b"\xff\x00":
            break
    failure = {
        "status": "Failure", "reason": "NonZeroExitCode", "message": "exit 7",
        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
    }  # fmt: skip
    await stream.send_bytes(b"\x03" + json.dumps(failure).encode())


async def test_exec_carries_stdin_stdout_stderr_and_the_exit_code(live: Live) -> None:
    await live.pod_on("n1")
    async with live.agent("n1", exec=echo):
        ran = await live.kubectl(
            "exec", "-i", "web", "-c", "main", "--", "sh", "-c", "x y", stdin="loud\n" * 20_000
        )
    assert ran.out == "LOUD\n" * 20_000
    assert ran.err.splitlines()[0] == "sh -c x y"
    assert ran.code == 7


async def test_exec_that_the_agent_refuses_says_why(live: Live) -> None:
    await live.pod_on("n1")
    async with live.agent("n1", exec=refusing(500, "InternalError", "container not running")):
        ran = await live.kubectl("exec", "web", "-c", "main", "--", "true")
    assert ran.code == 1
    assert "container not running" in ran.err


async def test_version_4_of_the_protocol_is_spoken_too(live: Live) -> None:
    await live.pod_on("n1")
    path = "/api/v1/namespaces/default/pods/web/exec?container=main&command=a&stdin=1&stdout=1"
    async with live.agent("n1", exec=echo), aiohttp.ClientSession() as session:
        client = await session.ws_connect(
            live.url + path, protocols=("v4.channel.k8s.io",), ssl=live.admin_tls
        )
        assert client.protocol == "v4.channel.k8s.io"
        assert await client.receive_bytes() == b"\x02a\n"
        await client.send_bytes(b"\x00hey")
        assert await client.receive_bytes() == b"\x01HEY"
        await client.send_bytes(b"\xff\x00")
        assert (await client.receive_bytes())[:1] == b"\x03"
        await client.close()


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The protocols of connections that were taken over for SPDY."""
    protocols: list[str] = []
    accept = upgrade.accept

    async def noted(exchange: Exchange, protocol: str) -> upgrade.Upgraded:
        protocols.append(protocol)
        return await accept(exchange, protocol)

    monkeypatch.setattr(upgrade, "accept", noted)
    return protocols


async def test_older_clients_exec_over_spdy(live: Live, upgraded: list[str]) -> None:
    await live.pod_on("n1")
    async with live.agent("n1", exec=echo):
        ran = await live.kubectl(
            "exec", "-i", "web", "-c", "main", "--", "sh", "-c", "x y",
            stdin="loud\n" * 20_000, KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false",
        )  # fmt: skip
    assert ran.out == "LOUD\n" * 20_000
    assert ran.err.splitlines()[0] == "sh -c x y"
    assert ran.code == 7
    assert upgraded == ["v4.channel.k8s.io"]


async def test_older_clients_forward_ports_over_spdy(live: Live, upgraded: list[str]) -> None:
    await running(live)
    environment = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
    async with (
        live.agent("n1", portforward=server_in_pod),
        port_forward(live, 80, **environment) as (port, _),
    ):
        big = bytes(range(256)) * 4000
        answers = await asyncio.gather(ask(port, b"hello"), ask(port, big))
    assert list(answers) == [b"80:hello", b"80:" + big]
    assert upgraded == ["portforward.k8s.io"]


async def test_to_read_pods_is_not_to_run_things_in_them(live: Live) -> None:
    await live.pod_on("n1")
    await live.kubectl("create", "role", "r", "--verb=get", "--resource=pods,pods/exec")
    await live.kubectl("create", "rolebinding", "r", "--role=r", "--user=alice")
    async with live.agent("n1", exec=echo):
        ran = await live.kubectl("exec", "web", "-c", "main", "--as=alice", "--", "true")
    assert 'User "alice" cannot create resource "pods/exec"' in ran.err


async def server_in_pod(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
    """Answer each TCP connection with its port and what it sent, once it stops sending."""
    if params["port"] == 81:
        await refusing(500, "InternalError", "connection refused")(params, stream)
        return
    await stream.send_str(SUCCESS)
    received = b""
    async for message in stream:
        received += message.data
        if not message.data:
            break
    await stream.send_bytes(f"{params['port']}:".encode() + received)
    await stream.send_bytes(b"")


@contextlib.asynccontextmanager
async def port_forward(
    live: Live, remote: int, **environment: str
) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "--kubeconfig", live.kubeconfig, "port-forward", "pod/web", f":{remote}",
        "--address=127.0.0.1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(live.scratch), **environment},
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    try:
        async with asyncio.timeout(10):
            line = (await process.stdout.readline()).decode()
        yield int(line.split(" -> ")[0].rpartition(":")[2]), process.stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ask(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def running(live: Live) -> None:
    await live.pod_on("n1")
    path = "/api/v1/namespaces/default/pods/web/status"
    merge = "application/merge-patch+json"
    status = {"status": {"phase": "Running"}}
    assert (await live.request("PATCH", path, status, Content_Type=merge)).status == 200


async def test_port_forward_carries_many_connections(live: Live) -> None:
    await running(live)
    async with live.agent("n1", portforward=server_in_pod), port_forward(live, 80) as (port, _):
        big = bytes(range(256)) * 4000
        answers = await asyncio.gather(ask(port, b"hello"), ask(port, big), ask(port, b""))
    assert list(answers) == [b"80:hello", b"80:" + big, b"80:"]


async def test_python_clients_forward_ports_in_channels(live: Live) -> None:
    async def shouts(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        if params["port"] == 81:
            await refusing(500, "InternalError", "connection refused")(params, stream)
            return
        await stream.send_str(SUCCESS)
        async for message in stream:
            await stream.send_bytes(message.data.upper())

    await running(live)
    path = "/api/v1/namespaces/default/pods/web/portforward"
    async with live.agent("n1", portforward=shouts), aiohttp.ClientSession() as session:
        client = await session.ws_connect(
            f"{live.url}{path}?ports=80,81", protocols=("v4.channel.k8s.io",), ssl=live.admin_tls
        )
        told = [await client.receive_bytes(timeout=5) for _ in range(5)]
        assert told[:4] == [b"\x00\x50\x00", b"\x01\x50\x00", b"\x02\x51\x00", b"\x03\x51\x00"]
        assert told[4] == b"\x03error forwarding port 81: connection refused"
        await client.send_bytes(b"\x00hello")
        assert await client.receive_bytes(timeout=5) == b"\x00HELLO"
        await client.close()
        for query in ("", "?ports=x", "?ports=0", "?ports=65536"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(
                    live.url + path + query, protocols=("v4.channel.k8s.io",), ssl=live.admin_tls
                )
            assert refused.value.status == 400


async def test_port_forward_tells_what_went_wrong(live: Live) -> None:
    await running(live)
    async with live.agent("n1", portforward=server_in_pod), port_forward(live, 81) as (port, err):
        assert await ask(port, b"hello") == b""
        async with asyncio.timeout(10):
            told = (await err.readline()).decode()
    assert "error forwarding port 81 to pod web" in told
    assert "connection refused" in told


async def test_a_stopping_server_ends_streams_and_tunnels_at_once(
    keys: pki.Pki, tmp_path: Path
) -> None:
    registry = StoreRegistry(MemoryStore(), Settings())
    await registry.start()
    server = ApiServer(
        registry, keys, ApiServerSettings(data_dir=tmp_path, listen=("127.0.0.1",), port=0)
    )
    talking, stop, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with server.serving():
            await stop.wait()
        stopped.set()

    async def logs(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        await stream.send_str(SUCCESS)
        await stream.send_bytes(b"still running\n")
        talking.set()
        await stream.receive()

    live = Live(registry, server, keys, tmp_path)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(serve())
        await until(lambda: server.port != 0)
        await live.pod_on("n1")
        async with live.agent("n1", logs=logs):
            path = "/api/v1/namespaces/default/pods/web/log?container=main&follow=1"
            following = group.create_task(live.request("GET", path))
            watching = group.create_task(live.request("GET", "/api/v1/pods?watch=1"))
            await talking.wait()
            await until(lambda: server.open_watches() == 1)
            begun = asyncio.get_running_loop().time()
            stop.set()
            await stopped.wait()
            assert asyncio.get_running_loop().time() - begun < 1
        assert (await following).body == b"still running\n"
        assert (await watching).status == 200


async def test_only_the_node_itself_may_have_its_tunnel(live: Live) -> None:
    for tls in (live.admin_tls, live.tls("alice"), live.tls()):
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{live.url}/sampan/v1/tunnel", ssl=tls)
            assert refused.value.status == 403


async def test_a_node_cannot_take_another_nodes_stream(live: Live) -> None:
    tls = live.tls("system:node:n2", "system:nodes")
    answer = await live.request("GET", "/sampan/v1/streams/guessed", tls=tls)
    assert answer.status == 400
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{live.url}/sampan/v1/streams/guessed", ssl=tls)
    assert refused.value.status == 404


async def test_exec_whose_agent_goes_away_fails(live: Live) -> None:
    """Without a final status, kubectl would take the silence for success."""

    async def exec_(params: Object, stream: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        await stream.send_str(SUCCESS)
        await stream.send_bytes(b"\x01half an ans")

    await live.pod_on("n1")
    async with live.agent("n1", exec=exec_):
        ran = await live.kubectl("exec", "web", "-c", "main", "--", "cat", "file")
    assert ran.out == "half an ans"
    assert ran.code != 0
    assert "the node's agent went away before the process ended" in ran.err
