"""Webhooks over real TLS: by URL, by a Service through the tunnel, and what kubectl shows."""

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from sampan.api import kinds
from sampan.api.kinds import BY_GVK
from sampan.api.objects import Object
from sampan.apiserver import pki
from tests.apiserver.http.support import SUCCESS, Live, pod

VALIDATING = BY_GVK["admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"]
MUTATING = BY_GVK["admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"]
NAMES = ("hooks.default.svc",)
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps"]}  # fmt: skip
Answer = Callable[[Object], Object | Awaitable[Object]]


def allow(_: Object) -> Object:
    return {"allowed": True}


@dataclass
class Hooks:
    """A webhook server on loopback that answers what *answer* says."""

    keys: pki.Pki
    answer: Answer = allow
    port: int = 0
    asked: list[Object] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    targets: list[str] = field(default_factory=list)

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.keys.ca_pem).decode()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.connections.add(request.transport)
        self.targets.append(request.path_qs)
        if request.path == "/odd":
            return web.Response(status=503, text="busy")
        review = orjson.loads(await request.read())
        self.asked.append(review["request"])
        answer = self.answer(review["request"])
        if not isinstance(answer, dict):
            answer = await answer
        response = {"uid": review["request"]["uid"], **answer}
        text = orjson.dumps({**review, "response": response})
        return web.Response(body=text, content_type="application/json")


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    made = Hooks(pki.load(tmp_path / "hooks", names=NAMES))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made.keys.serving_files)
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


def by_url(hooks: Hooks, path: str = "/", **more: Any) -> Object:
    config = {"url": f"https://127.0.0.1:{hooks.port}{path}", "caBundle": hooks.bundle}
    return {
        "metadata": {"name": "h"},
        "webhooks": [{
            "name": "h.hooks.example.com", "clientConfig": config, "rules": [RULE],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], **more,
        }],
    }  # fmt: skip


async def made(live: Live, name: str = "c") -> Any:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return await live.request("POST", "/api/v1/namespaces/default/configmaps", obj)


async def test_a_denial_and_warnings_reach_kubectl(live: Live, hooks: Hooks) -> None:
    await live.make(VALIDATING, by_url(hooks))
    hooks.answer = lambda _: {"allowed": True, "warnings": ["mind the gap"]}
    ran = await live.kubectl("create", "configmap", "a")
    assert (ran.code, ran.err) == (0, "Warning: mind the gap\n")
    status = {"message": "no more of them", "code": 403}
    hooks.answer = lambda _: {"allowed": False, "status": status}
    ran = await live.kubectl("create", "configmap", "b")
    assert ran.code == 1
    assert 'admission webhook "h.hooks.example.com" denied the request: no more of them' in ran.err
    assert hooks.targets[0] == "/?timeout=10s"


async def test_a_mutation_is_stored_and_answered(live: Live, hooks: Hooks) -> None:
    await live.make(MUTATING, by_url(hooks))
    patch = [{"op": "add", "path": "/data", "value": {"by": "hook"}}]
    text = base64.b64encode(json.dumps(patch).encode()).decode()
    hooks.answer = lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": text}
    assert (await made(live)).json["data"] == {"by": "hook"}
    got = await live.kubectl("get", "configmap", "c", "-o", "jsonpath={.data.by}")
    assert got.out == "hook"
    [asked] = hooks.asked
    assert asked["userInfo"]["username"] == "system:admin"
    assert asked["object"]["kind"] == "ConfigMap"


async def test_one_connection_serves_many_calls(live: Live, hooks: Hooks) -> None:
    await live.make(VALIDATING, by_url(hooks))
    for name in ("a", "b", "c"):
        assert (await made(live, name)).status == 201
    assert len(hooks.asked) == 3
    assert len(hooks.connections) == 1


async def test_a_call_takes_no_longer_than_it_may(live: Live, hooks: Hooks) -> None:
    await live.make(VALIDATING, by_url(hooks, timeoutSeconds=1))
    never = asyncio.Event()

    async def wait(_: Object) -> Object:
        await never.wait()
        return {}

    hooks.answer = wait
    answer = await made(live)
    assert answer.status == 500
    assert answer.json["message"].endswith("context deadline exceeded")
    never.set()


async def test_a_stranger_behind_the_address_is_not_believed(
    live: Live, hooks: Hooks, keys: pki.Pki
) -> None:
    configuration = by_url(hooks)
    other = base64.b64encode(keys.ca_pem).decode()
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = other
    await live.make(VALIDATING, configuration)
    answer = await made(live)
    assert answer.status == 500
    assert "failed calling webhook" in answer.json["message"]
    assert "certificate" in answer.json["message"]
    assert hooks.asked == []


async def test_what_is_no_answer_is_told_with_its_code(live: Live, hooks: Hooks) -> None:
    await live.make(VALIDATING, by_url(hooks, "/odd"))
    answer = await made(live)
    assert 'the server answered 503: "busy"' in answer.json["message"]


async def test_nobody_listening_is_told_and_may_be_ignored(live: Live, hooks: Hooks) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        hooks.port = probe.getsockname()[1]
    await live.make(VALIDATING, by_url(hooks))
    answer = await made(live)
    assert answer.status == 500
    assert f'Post "https://127.0.0.1:{hooks.port}/?timeout=10s"' in answer.json["message"]
    patch = [{"op": "add", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    await live.request(
        "PATCH", VALIDATING.path(name="h"), patch, Content_Type="application/json-patch+json"
    )
    assert (await made(live)).status == 201


async def service_of(live: Live, **endpoint: Any) -> None:
    meta = {"name": "hooks", "namespace": "default"}
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    await live.make(kinds.SERVICES, {"metadata": meta, "spec": {"ports": ports}})
    labels = {"kubernetes.io/service-name": "hooks"}
    await live.make(
        kinds.ENDPOINT_SLICES,
        {
            "metadata": {"name": "hooks-1", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": endpoint.pop("port")}],
            "endpoints": [endpoint],
        },
    )


def by_service(hooks: Hooks) -> Object:
    configuration = by_url(hooks)
    service = {"name": "hooks", "namespace": "default", "path": "/review"}
    configuration["webhooks"][0]["clientConfig"] = {"service": service, "caBundle": hooks.bundle}
    return configuration


async def test_a_service_is_reached_through_the_tunnel_of_its_pods_node(
    live: Live, hooks: Hooks
) -> None:
    async def forward(params: Object, stream: aiohttp.ClientWebSocketResponse[bool]) -> None:
        assert (params["pod"], params["port"]) == ("server", 8443)
        reader, writer = await asyncio.open_connection("127.0.0.1", hooks.port)
        await stream.send_str(SUCCESS)

        async def back() -> None:
            with suppress(ConnectionError):  # the server hangs up when it has its answer
                while data := await reader.read(1 << 16):
                    await stream.send_bytes(data)

        async with asyncio.TaskGroup() as group:
            group.create_task(back())
            async for message in stream:
                writer.write(message.data)
            writer.close()

    await live.pod_on("n1", "server")
    ref = {"kind": "Pod", "name": "server", "namespace": "default"}
    await service_of(live, port=8443, addresses=["10.42.0.9"], nodeName="n1", targetRef=ref)
    await live.make(VALIDATING, by_service(hooks))
    unreachable = await made(live)
    assert unreachable.status == 500
    async with live.agent("n1", portforward=forward):
        assert (await made(live)).status == 201
    assert hooks.targets == ["/review?timeout=10s"]
    assert live.server.open_streams() == 0


async def test_an_endpoint_that_is_no_pod_is_dialled(live: Live, hooks: Hooks) -> None:
    await service_of(live, port=hooks.port, addresses=["127.0.0.1"])
    await live.make(VALIDATING, by_service(hooks))
    assert (await made(live)).status == 201
    assert len(hooks.asked) == 1


async def test_a_service_without_endpoints_is_told(live: Live, hooks: Hooks) -> None:
    await live.make(VALIDATING, by_service(hooks))
    assert 'services "hooks" not found' in (await made(live)).json["message"]


async def test_exec_is_asked_about_before_it_begins(live: Live, hooks: Hooks) -> None:
    rule = {**RULE, "operations": ["CONNECT"], "resources": ["pods/exec"]}
    await live.make(VALIDATING, by_url(hooks, rules=[rule]))
    await live.pod_on("n1")
    hooks.answer = lambda _: {"allowed": False, "status": {"message": "hands off"}}
    ran = await live.kubectl("exec", "web", "-c", "main", "--", "ls", "/")
    assert "hands off" in ran.err
    assert hooks.asked[0]["object"]["command"] == ["ls", "/"]
    assert hooks.asked[0]["operation"] == "CONNECT"


async def test_kubectl_shows_what_pod_security_warns_of(live: Live) -> None:
    await live.kubectl("label", "ns", "default", "pod-security.kubernetes.io/warn=restricted")
    ran = await live.kubectl("create", "deployment", "web", "--image=x:1")
    assert ran.code == 0
    assert 'Warning: would violate PodSecurity "restricted:latest"' in ran.err
    ran = await live.kubectl("create", "-f", "-", stdin=json.dumps(pod("p")))
    assert 'containers "main", "side" must set' in ran.err


async def test_kubectl_makes_and_describes_a_quota(live: Live) -> None:
    made = await live.kubectl("create", "quota", "q", "--hard=pods=1,cpu=2")
    assert made.code == 0, made.err
    told = (await live.kubectl("describe", "quota", "q")).out.split()
    assert told[-6:] == ["cpu", "0", "2", "pods", "0", "1"]
    refused = await live.kubectl("run", "p", "--image=x:1")
    assert "failed quota: q: must specify cpu for: p" in refused.err
