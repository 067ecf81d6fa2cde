"""Whatever a client sends, the answer is a Status that says what is wrong, and never a 500."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from sampan.api import kinds
from sampan.apiserver import pki
from sampan.apiserver.http import connection, exchange
from sampan.apiserver.http.server import ApiServer, ApiServerSettings, CannotListen
from sampan.apiserver.registry import StoreRegistry
from sampan.apiserver.settings import Settings
from sampan.store.memory import MemoryStore
from tests.apiserver.http.support import Live

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
NAMED = {"metadata": {"name": "c"}}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code", "message"),
    [
        ("GET", "/nowhere", None, {}, 404, "could not find the requested resource"),
        ("GET", "/api/v1/boats", None, {}, 404, "could not find the requested resource"),
        ("GET", "/api/v2/pods", None, {}, 404, "could not find the requested resource"),
        ("GET", "/apis/apps/v9", None, {}, 404, "could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/nodes", None, {}, 404, "could not find"),
        ("GET", "/api/v1/namespaces/default/pods/x/none", None, {}, 404, "could not find"),
        ("GET", CONFIGMAPS + "/none", None, {}, 404, 'configmaps "none" not found'),
        ("PUT", CONFIGMAPS, NAMED, {}, 405, "does not allow this method"),
        ("POST", CONFIGMAPS + "/c", NAMED, {}, 405, "does not allow this method"),
        ("OPTIONS", CONFIGMAPS, None, {}, 405, "does not allow this method"),
        ("POST", "/version", {}, {}, 405, "does not allow this method"),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews", None, {}, 405, "allow"),
        ("POST", CONFIGMAPS, b"{", {}, 400, "not valid JSON"),
        ("POST", CONFIGMAPS, b"[]", {}, 400, "not an object"),
        ("POST", CONFIGMAPS, b"", {}, 400, "not valid JSON"),
        ("POST", CONFIGMAPS, b"[" * 100_000, {}, 400, "not valid JSON"),
        ("POST", CONFIGMAPS, b'{"a":' * 250 + b"1" + b"}" * 250, {}, 400, "nested deeper"),
        ("POST", CONFIGMAPS, b'"\xff"', {}, 400, "not valid JSON"),
        ("POST", CONFIGMAPS, b"<a/>", {"Content_Type": "text/xml"}, 415, "unknown format"),
        ("POST", CONFIGMAPS, b"a: [", {"Content_Type": "application/yaml"}, 400, "not valid YAML"),
        (
            "POST", CONFIGMAPS, b"a: &a [1]\nb: *a", {"Content_Type": "application/yaml"},
            400, "aliases",
        ),
        (
            "POST", CONFIGMAPS, b"a: " + b"[" * 100_000, {"Content_Type": "application/yaml"},
            400, "nested deeper",
        ),
        (
            "POST", CONFIGMAPS, b"k8s\0\xff\xff",
            {"Content_Type": "application/vnd.kubernetes.protobuf"},
            400, "not valid protobuf",
        ),
        ("PATCH", CONFIGMAPS + "/c", {}, {}, 415, "unknown format"),
        (
            "PATCH", CONFIGMAPS + "/c", {}, {"Content_Type": "application/apply-patch+yaml"},
            400, "fieldManager is required for apply patch",
        ),
        ("GET", CONFIGMAPS, None, {"Accept": "text/html"}, 406, "only the following media types"),
        ("GET", CONFIGMAPS + "?limit=many", None, {}, 400, "limit: 'many' is not a whole number"),
        ("GET", CONFIGMAPS + "?limit=-1", None, {}, 400, "limit: must be between"),
        ("GET", CONFIGMAPS + "?resourceVersion=x", None, {}, 400, "resourceVersion"),
        ("GET", CONFIGMAPS + "?resourceVersionMatch=Exact", None, {}, 400, "resourceVersionMatch"),
        ("GET", CONFIGMAPS + "?labelSelector=a%3D%3D%3Db", None, {}, 400, "selector"),
        ("GET", CONFIGMAPS + "?fieldSelector=nope", None, {}, 400, "field selector"),
        ("GET", CONFIGMAPS + "?labelSelector=%FF", None, {}, 400, "the query cannot be read"),
        ("GET", CONFIGMAPS + "?watch=1&timeoutSeconds=soon", None, {}, 400, "timeoutSeconds"),
        ("GET", CONFIGMAPS + "/a%00b", None, {}, 400, "cannot name anything"),
        ("GET", CONFIGMAPS + "/a%FFb", None, {}, 400, "printable"),
        ("GET", CONFIGMAPS + "/a%2Fb", None, {}, 400, "cannot name anything"),
        ("POST", CONFIGMAPS + "?dryRun=Some", NAMED, {}, 422, 'Unsupported value: "Some"'),
        ("POST", CONFIGMAPS + "?fieldValidation=Lax", NAMED, {}, 422, 'Unsupported value: "Lax"'),
        ("DELETE", CONFIGMAPS + "/c?propagationPolicy=Maybe", None, {}, 422, "Unsupported value"),
        ("DELETE", CONFIGMAPS + "/c", {"gracePeriodSeconds": "x"}, {}, 400, "gracePeriodSeconds"),
        (
            "DELETE", CONFIGMAPS + "/c?propagationPolicy=Orphan", {"orphanDependents": True}, {},
            400, "cannot be both set",
        ),
        ("GET", "/api/v1/namespaces/default/pods/x/exec", None, {}, 404, 'pods "x" not found'),
        ("GET", CONFIGMAPS, None, {"Impersonate_Group": "g"}, 400, "Impersonate-User"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said(
    live: Live, method: str, path: str, body: Any, headers: dict[str, Any], code: int, message: str
) -> None:
    answer = await live.request(method, path, body, **headers)
    assert (answer.status, answer.json["code"]) == (code, code), answer.json
    assert answer.json["kind"] == "Status"
    assert message in answer.json["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {}),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": 1}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"nonResourceAttributes": {}}}),
        ("authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"groups": [1]}}),
        ("authentication.k8s.io/v1/tokenreviews", {"spec": {"token": ["a"]}}),
        ("authentication.k8s.io/v1/tokenreviews", {}),
    ],
)
async def test_a_malformed_review_is_refused(live: Live, path: str, body: Any) -> None:
    answer = await live.request("POST", f"/apis/{path}", body)
    assert answer.status in {400, 422}, answer.json


@pytest.mark.parametrize("spec", [{"expirationSeconds": 5}, {"audiences": "x"}, {"audiences": [1]}])
async def test_a_malformed_token_request_is_refused(live: Live, spec: Any) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    answer = await live.request("POST", path, {"spec": spec})
    assert answer.status in {400, 422}, answer.json


async def raw(live: Live, data: bytes) -> bytes:
    """Send *data* over TLS as it is, and return all that comes until the server hangs up."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", live.server.port, ssl=live.admin_tls, server_hostname="localhost"
    )
    writer.write(data)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so(live: Live, data: bytes) -> None:
    answer = await raw(live, data)
    assert answer[8:].startswith(b" 400 Bad Request"), answer[:200]
    assert b'"kind":"Status"' in answer


async def test_headers_that_never_end_are_cut_off(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST_WITHIN", 0.2)
    assert await raw(live, b"GET / HTTP/1.1\r\nHost: x\r\n") == b""


async def test_a_body_that_stops_arriving_is_given_up(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SILENCE", 0.2)
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    answer = await raw(live, head.encode() + b"{")
    assert b"stopped arriving" in answer
    assert answer.startswith(b"HTTP/1.1 504")


async def test_an_absurd_length_is_refused_before_the_body(live: Live) -> None:
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    assert (await raw(live, head.encode())).startswith(b"HTTP/1.1 413")


async def test_a_body_over_3_mib_is_refused_though_it_is_sent(live: Live) -> None:
    body = b" " * (3 << 20) + b"{}"
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    answer = await raw(live, head.encode() + b"Connection: close\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"Request entity too large" in answer


async def test_a_chunked_body_has_the_same_limit(live: Live) -> None:
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    assert (await raw(live, head.encode() + chunk * 4)).startswith(b"HTTP/1.1 413")


async def test_our_own_mistake_is_a_500_with_nothing_of_our_insides(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> None:
        raise KeyError("secret thing")

    monkeypatch.setattr(live.registry, "list", broken)
    answer = await live.request("GET", CONFIGMAPS)
    assert (answer.status, answer.json["reason"]) == (500, "InternalError")
    assert "secret thing" not in answer.json["message"]
    assert "secret thing" in caplog.text


async def test_a_port_in_use_is_named(keys: pki.Pki, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        settings = ApiServerSettings(data_dir=tmp_path, listen=("127.0.0.1",), port=port)
        server = ApiServer(StoreRegistry(MemoryStore(), Settings()), keys, settings)
        with pytest.raises(CannotListen, match=f"127.0.0.1 port {port}: .*in use"):
            await server.run()


async def test_nothing_was_written_by_what_was_refused(live: Live) -> None:
    await live.request("POST", CONFIGMAPS + "?dryRun=All", NAMED)
    await live.request("POST", CONFIGMAPS, b'{"metadata":{"name":"c"}')
    page = (await live.request("GET", CONFIGMAPS)).json
    assert [item["metadata"]["name"] for item in page["items"]] == []
    assert kinds.CONFIGMAPS.list_kind == page["kind"]
