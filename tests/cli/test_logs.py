"""Following the logs of replicas that come, restart and go."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web

from sampan.api.errors import BadRequest
from sampan.api.objects import Object
from sampan.cli.logs import _follow, _Reader, _show, _Wanted
from sampan.client.connection import Connection
from sampan.client.http import HttpClient
from tests.client.server import FakeApi, lines, serving

PODS = "/api/v1/namespaces/shop/pods"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pod(name: str, run: str, revision: int = 1, service: str = "web") -> Object:
    status = {
        "containerStatuses": [{"name": service, "containerID": run, "state": {"running": {}}}]
    }
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": name,
        "resourceVersion": str(revision),
        "labels": {"sampan.io/stack": "shop", "sampan.io/service": service},
    }
    return {"metadata": metadata, "status": status if run else {}}


class Shop:
    """An API with one Pod, whose watch says what the test says."""

    def __init__(self, api: FakeApi, *pods: Object) -> None:
        self.api = api
        self.events: asyncio.Queue[Object] = asyncio.Queue()
        self.pods = pods
        api.on("GET", PODS, self._pods)

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            metadata = {"resourceVersion": "1"}
            return web.json_response({"metadata": metadata, "items": list(self.pods)})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            event = {"type": "MODIFIED", "object": await self.events.get()}
            await response.write(orjson.dumps(event) + b"\n")

    def writes(self, name: str, *texts: bytes) -> None:
        self.api.on("GET", f"{PODS}/{name}/log", lines(*texts))

    def asked_for_logs(self) -> list[dict[str, str]]:
        return [a.query for a in self.api.asked if a.path.endswith("/log")]


@pytest.fixture
async def shop(anyio_backend: str) -> AsyncIterator[Shop]:
    async with serving() as api:
        yield Shop(api, pod("web-1", "run-1"))


def wanted(*services: str, tail: int = -1) -> _Wanted:
    return _Wanted(set(services), tail, timestamps=False, follow=True)


class Following:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._seen = ""

    async def until(self, text: str) -> str:
        async with asyncio.timeout(10):
            while text not in self._seen:
                self._seen += self._capsys.readouterr().out
                await asyncio.sleep(0.01)
        return self._seen


async def test_replicas_that_come_later_join_and_restarts_are_shown_whole(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.writes("web-1", b"one\ntw", b"o\n")
    shop.writes("web-2", b"late\n")
    async with HttpClient(Connection(shop.api.url)) as client, asyncio.TaskGroup() as group:
        shown = Following(capsys)
        reader = _Reader(client, "shop", wanted(tail=5))
        task = group.create_task(_follow(reader, set()))
        assert await shown.until("two") == "web-1 | one\nweb-1 | two\n"
        await shop.events.put(pod("web-2", "run-1", 2))
        await shown.until("web-2 | late\n")
        shop.writes("web-1", b"again\n")
        await shop.events.put(pod("web-1", "run-2", 3))
        await shown.until("web-1 | again\n")
        task.cancel()
    first, _, second = shop.asked_for_logs()
    assert first == {"container": "web", "follow": "true", "tailLines": "5"}
    assert second == {"container": "web", "follow": "true"}


async def test_a_replica_that_has_not_started_is_waited_for(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.pods = (pod("web-1", ""),)
    shop.writes("web-1", b"started\n")
    async with HttpClient(Connection(shop.api.url)) as client, asyncio.TaskGroup() as group:
        task = group.create_task(_follow(_Reader(client, "shop", wanted()), set()))
        await shop.events.put(pod("web-1", "run-1", 2))
        await Following(capsys).until("web-1 | started\n")
        task.cancel()
    assert len(shop.asked_for_logs()) == 1


async def test_only_the_services_that_were_named_are_shown(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.pods = (pod("web-1", "run-1"), pod("db-1", "run-1", service="db"))
    shop.writes("db-1", b"a line without an end")
    async with HttpClient(Connection(shop.api.url)) as client:
        await _show(_Reader(client, "shop", wanted("db")), {"db"})
    assert capsys.readouterr().out == "db-1 | a line without an end\n"


async def test_a_replica_without_logs_is_told_and_the_others_are_shown(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.pods = (pod("web-1", ""), pod("web-2", "run-1"))
    shop.api.answer("GET", f"{PODS}/web-1/log", BadRequest("it waits to start").status(), 400)
    shop.writes("web-2", b"here\n")
    async with HttpClient(Connection(shop.api.url)) as client:
        await _show(_Reader(client, "shop", wanted()), set())
    shown = capsys.readouterr()
    assert shown.out == "web-2 | here\n"
    assert "web-1: it waits to start" in shown.err
