"""HTTP to a Pod through the tunnel of its node."""

import aiohttp
import pytest

from sampan.api import kinds
from sampan.api.objects import Object
from tests.apiserver.http.support import SUCCESS, Live

PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
Stream = aiohttp.ClientWebSocketResponse[bool]


async def echo(params: Object, stream: Stream) -> None:
    """An HTTP server that answers with the head and the body that it got."""
    await stream.send_str(SUCCESS)
    got = b""
    while b"\r\n\r\n" not in got or (b"chunked" in got and not got.endswith(b"0\r\n\r\n")):
        got += await stream.receive_bytes()
    head = (
        f"HTTP/1.1 202 Accepted\r\nX-Port: {params['port']}\r\nContent-Length: {len(got)}\r\n\r\n"
    )
    await stream.send_bytes(head.encode())
    await stream.send_bytes(got)
    await stream.send_bytes(b"")


async def test_a_request_goes_to_the_pod_as_it_came(live: Live) -> None:
    await live.pod_on("n1")
    async with live.agent("n1", portforward=echo):
        answer = await live.request(
            "POST", f"{PODS}/web:8080/proxy/a/b%20c/?q=1", b"body", X_Mine="yes",
            Authorization="secret",
        )  # fmt: skip
    assert (answer.status, answer.headers["X-Port"]) == (202, "8080")
    assert answer.body.startswith(b"POST /a/b%20c/?q=1 HTTP/1.1\r\nHost: web:8080\r\n")
    assert b"X-Mine: yes" in answer.body
    assert b"body" in answer.body
    assert b"secret" not in answer.body


async def test_a_service_leads_to_a_ready_pod(live: Live) -> None:
    await live.pod_on("n1")
    meta = {"name": "s", "namespace": "default"}
    await live.make(kinds.SERVICES, {"metadata": meta, "spec": {"ports": [{"port": 80}]}})
    missing = await live.request("GET", f"{SERVICES}/s/proxy/")
    assert (missing.status, 'service "s"' in missing.json["message"]) == (503, True)
    ref = {"kind": "Pod", "name": "web", "namespace": "default"}
    endpoint = {"addresses": ["10.42.0.2"], "nodeName": "n1", "targetRef": ref}
    labels = {"kubernetes.io/service-name": "s"}
    await live.make(
        kinds.ENDPOINT_SLICES,
        {
            "metadata": {"name": "s-1", "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [endpoint],
        },
    )
    async with live.agent("n1", portforward=echo):
        for name in ("s", "s:http", "s:8080"):
            answer = await live.request("GET", f"{SERVICES}/{name}/proxy/index.html")
            assert (answer.status, answer.headers["X-Port"]) == (202, "8080")
            assert answer.body.startswith(b"GET /index.html HTTP/1.1")


@pytest.mark.parametrize(
    ("name", "code"), [("none", 404), ("web:http", 404), ("a:b:c:d", 400), ("https:web:1", 400)]
)
async def test_what_cannot_be_reached_is_told(live: Live, name: str, code: int) -> None:
    await live.pod_on("n1")
    answer = await live.request("GET", f"{PODS}/{name}/proxy/")
    assert answer.status == code, answer.json


async def test_a_pod_that_speaks_no_http_is_an_error_of_its_own(live: Live) -> None:
    async def silent(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        await stream.receive_bytes()
        await stream.send_bytes(b"SSH-2.0\r\n\r\n")

    await live.pod_on("n1")
    async with live.agent("n1", portforward=silent):
        answer = await live.request("GET", f"{PODS}/web:22/proxy/")
    assert answer.status == 500
    assert "error trying to reach web:22" in answer.json["message"]
