"""The client over a real socket, against a server whose answers the test writes."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import WSMsgType, web

from sampan.api import kinds
from sampan.api.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Expired,
    InternalError,
    Invalid,
    NotFound,
    ServiceUnavailable,
)
from sampan.client.http import PAGE, REQUESTS, Connection, HttpClient
from sampan.client.interface import PatchType
from tests.client.server import FakeApi, lines, serving

PODS = "/api/v1/namespaces/one/pods"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(anyio_backend: str) -> AsyncIterator[FakeApi]:
    async with serving() as running:
        yield running


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[HttpClient]:
    async with HttpClient(Connection(api.url, token="secret")) as connected:
        yield connected


def pod(name: str, revision: int = 1) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "one", "resourceVersion": str(revision)}}


async def test_get_asks_for_the_object_with_the_token(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", f"{PODS}/a", pod("a"))
    assert await client.get(kinds.PODS, "a", "one") == pod("a")
    assert api.asked[0].headers["Authorization"] == "Bearer secret"


async def test_a_kind_of_a_group_without_a_namespace(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", "/apis/scheduling.k8s.io/v1/priorityclasses/high", {})
    await client.get(kinds.PRIORITY_CLASSES, "high")


async def test_a_status_comes_back_as_the_error_that_it_was(
    api: FakeApi, client: HttpClient
) -> None:
    for error in (NotFound("no a"), Conflict("changed"), Invalid("wrong"), Expired("too old")):
        api.answer("GET", f"{PODS}/a", error.status(), error.code)
        with pytest.raises(type(error), match=error.message):
            await client.get(kinds.PODS, "a", "one")


async def test_a_refusal_that_is_no_status_keeps_its_text(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", f"{PODS}/a", b"try again later", 503)
    with pytest.raises(ServiceUnavailable, match="try again later"):
        await client.get(kinds.PODS, "a", "one")


async def test_an_answer_that_is_no_json_is_an_internal_error(
    api: FakeApi, client: HttpClient
) -> None:
    api.answer("GET", f"{PODS}/a", b"<html>")
    with pytest.raises(InternalError, match="not JSON"):
        await client.get(kinds.PODS, "a", "one")


async def test_a_list_goes_through_all_pages(api: FakeApi, client: HttpClient) -> None:
    async def page(request: web.Request) -> web.Response:
        second = request.query.get("continue") == "more"
        metadata = {"resourceVersion": "7"} | ({} if second else {"continue": "more"})
        items = [pod("b")] if second else [pod("a")]
        return web.json_response({"metadata": metadata, "items": items})

    api.on("GET", PODS, page)
    listing = await client.list(kinds.PODS, "one", labels="app=x", fields="spec.nodeName=n")
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert listing.revision == "7"
    asked = {"limit": str(PAGE), "labelSelector": "app=x", "fieldSelector": "spec.nodeName=n"}
    assert [a.query for a in api.asked] == [asked, asked | {"continue": "more"}]


async def test_a_list_without_items_is_empty(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", PODS, {"metadata": {"resourceVersion": "3"}, "items": None})
    assert (await client.list(kinds.PODS, "one")).items == []


async def test_create_update_and_subresources_go_where_the_metadata_says(
    api: FakeApi, client: HttpClient
) -> None:
    api.answer("POST", PODS, {})
    api.answer("POST", f"{PODS}/a/binding", {})
    api.answer("PUT", f"{PODS}/a", {})
    api.answer("PUT", f"{PODS}/a/status", {})
    await client.create(kinds.PODS, pod("a"))
    await client.create(kinds.PODS, pod("a"), subresource="binding")
    await client.update(kinds.PODS, pod("a"))
    await client.update(kinds.PODS, pod("a"), subresource="status")
    assert all(asked.body == pod("a") for asked in api.asked)


@pytest.mark.parametrize("how", list(PatchType))
async def test_a_patch_says_how_it_is_meant(
    api: FakeApi, client: HttpClient, how: PatchType
) -> None:
    api.answer("PATCH", f"{PODS}/a/status", {})
    await client.patch(kinds.PODS, "a", {"status": None}, "one", subresource="status", how=how)
    [asked] = api.asked
    assert asked.headers["Content-Type"] == how.value
    assert asked.body == {"status": None}
    assert (asked.query.get("fieldManager") == "sampan") is (how is PatchType.APPLY)


async def test_delete_says_how_and_what(api: FakeApi, client: HttpClient) -> None:
    api.answer("DELETE", f"{PODS}/a", {})
    await client.delete(kinds.PODS, "a", "one", uid="u1", grace_seconds=0, propagation="Foreground")
    assert api.asked[0].body == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": "u1"},
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
    }


def event(type_: str, revision: int) -> bytes:
    return orjson.dumps({"type": type_, "object": pod("a", revision)}) + b"\n"


async def test_a_watch_yields_each_event_wherever_the_chunks_are_cut(
    api: FakeApi, client: HttpClient
) -> None:
    whole = event("ADDED", 8) + event("MODIFIED", 9) + b"\n" + event("BOOKMARK", 12)
    for cuts in ([whole], [whole[:30], whole[30:31], whole[31:]], [bytes([b]) for b in whole]):
        api.on("GET", PODS, lines(*cuts))
        seen = [e async for e in client.watch(kinds.PODS, "one", since="7", labels="a=b")]
        assert [(e.type, e.object["metadata"]["resourceVersion"]) for e in seen] == [
            ("ADDED", "8"),
            ("MODIFIED", "9"),
            ("BOOKMARK", "12"),
        ]
    query = api.asked[0].query
    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
        "labelSelector": "a=b",
    }


async def test_a_watch_takes_objects_of_megabytes(api: FakeApi, client: HttpClient) -> None:
    big = {"type": "ADDED", "object": {"data": "x" * (3 << 20)}}
    api.on("GET", PODS, lines(orjson.dumps(big) + b"\n"))
    [only] = [e async for e in client.watch(kinds.PODS, "one", since="0")]
    assert len(only.object["data"]) == 3 << 20


async def test_an_error_event_is_raised(api: FakeApi, client: HttpClient) -> None:
    error = orjson.dumps({"type": "ERROR", "object": Expired("too old").status()})
    api.on("GET", PODS, lines(event("ADDED", 8), error + b"\n"))
    watch = client.watch(kinds.PODS, "one", since="7")
    assert (await anext(watch)).type == "ADDED"
    with pytest.raises(Expired):
        await anext(watch)


async def test_a_watch_that_is_refused_raises_at_once(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", PODS, Expired("gone").status(), 410)
    with pytest.raises(Expired):
        await anext(client.watch(kinds.PODS, "one", since="7"))


async def test_a_watch_whose_connection_breaks_says_so(api: FakeApi, client: HttpClient) -> None:
    api.on("GET", PODS, lines(event("ADDED", 8), then_break=True))
    with pytest.raises(ServiceUnavailable, match="connection broke"):
        _ = [e async for e in client.watch(kinds.PODS, "one", since="7")]


async def test_many_open_watches_do_not_keep_a_write_waiting(
    api: FakeApi, client: HttpClient
) -> None:
    opened = asyncio.Semaphore(0)

    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("BOOKMARK", 1))
        opened.release()
        await asyncio.Event().wait()
        return response

    async def follow() -> None:
        async for _ in client.watch(kinds.PODS, "one", since="0"):
            pass

    api.on("GET", PODS, forever)
    api.answer("POST", PODS, {})
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watches = [group.create_task(follow()) for _ in range(REQUESTS * 2)]
        for _ in watches:
            await opened.acquire()
        await client.create(kinds.PODS, pod("a"))
        for watch in watches:
            watch.cancel()


async def test_a_server_that_is_not_there_is_unavailable_and_named() -> None:
    async with HttpClient(Connection("http://127.0.0.1:1")) as client:
        with pytest.raises(ServiceUnavailable, match=r"http://127.0.0.1:1 cannot be reached"):
            await client.get(kinds.PODS, "a", "one")


async def test_a_raw_request_streams_and_raises(api: FakeApi, client: HttpClient) -> None:
    api.on("GET", f"{PODS}/a/log", lines(b"one\n", b"two\n"))
    async with client.request("GET", f"{PODS}/a/log", params={"follow": "true"}) as response:
        assert await response.read() == b"one\ntwo\n"
    assert api.asked[0].query == {"follow": "true"}
    api.answer("POST", "/sampan/v1/images", BadRequest("not an image archive").status(), 400)

    async def upload() -> AsyncIterator[bytes]:
        yield b"part"
        yield b"s"

    with pytest.raises(BadRequest, match="not an image archive"):
        async with client.request("POST", "/sampan/v1/images", data=upload()):
            pass
    assert api.asked[1].body == b"parts"


async def test_a_timeout_of_the_caller_stays_the_callers(api: FakeApi, client: HttpClient) -> None:
    api.answer("GET", PODS, {})
    with pytest.raises(TimeoutError) as caught:
        async with client.request("GET", PODS), asyncio.timeout(0.01):
            await asyncio.Event().wait()
    assert not isinstance(caught.value, ApiError)


async def test_a_websocket_carries_frames_and_a_refused_one_raises(
    api: FakeApi, client: HttpClient
) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_bytes(message.data)
        return websocket

    api.on("GET", "/sampan/v1/tunnel", echo)
    async with client.websocket("/sampan/v1/tunnel") as websocket:
        await websocket.send_bytes(b"hello")
        message = await websocket.receive()
        assert (message.type, message.data) == (WSMsgType.BINARY, b"hello")
    api.answer("GET", "/sampan/v1/tunnel", {}, 403)
    with pytest.raises(ApiError) as refused:
        async with client.websocket("/sampan/v1/tunnel"):
            pass
    assert refused.value.code == 403
