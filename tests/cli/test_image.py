"""Uploading an archive, and following it to the nodes."""

import asyncio
from pathlib import Path

import orjson
import pytest
import typer
from aiohttp import web

from sampan.cli.image import IMAGES, _list, _load
from sampan.client.connection import Connection
from tests.client.server import FakeApi, lines, serving


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "image.tar"
    path.write_bytes(b"x" * (3 << 20))
    return path


def report(**facts: object) -> bytes:
    return orjson.dumps(facts) + b"\n"


BEGUN = report(archive="id", images=["docker.io/library/app:1"])


async def load(api: FakeApi, archive: Path, *reports: bytes) -> None:
    api.on("POST", IMAGES, lines(*reports))
    await _load(Connection(api.url), [archive])


async def test_an_archive_is_sent_whole_and_the_nodes_are_counted(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as api:
        await load(
            api,
            archive,
            BEGUN,
            report(node="a", phase="loading"),
            report(node="b", phase="loading"),
            report(node="a", phase="loaded"),
            report(node="b", phase="loaded"),
            report(done=True, failed=[]),
        )
        assert api.asked[0].body == archive.read_bytes()
    shown = capsys.readouterr().out
    assert "docker.io/library/app:1 on 2 nodes" in shown
    assert "on 1 of 2 nodes" in shown


async def test_a_node_that_fails_is_named_with_its_reason(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving() as api:
        with pytest.raises(typer.Exit):
            await load(
                api,
                archive,
                BEGUN,
                report(node="a", phase="loaded"),
                report(node="b", phase="failed", message="no space left on device"),
                report(done=True, failed=["b"]),
            )
    shown = capsys.readouterr()
    assert "b: no space left on device" in shown.out
    assert "did not reach: b" in shown.err


async def test_an_upload_that_the_server_stops_early_ends_with_its_reason(archive: Path) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"message": "not an image archive", "code": 400}, status=400)

    from sampan.api.errors import BadRequest

    async with serving() as api, asyncio.timeout(10):
        api.on("POST", IMAGES, refuse)
        with pytest.raises(BadRequest, match="not an image archive"):
            await _load(Connection(api.url), [archive])


async def test_the_archives_are_listed_with_their_size(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as api:
        kept = {"id": "0123456789abcdef", "images": ["a:1", "b:2"], "size": 3 << 20}
        api.answer("GET", IMAGES, {"archives": [kept]})
        await _list(Connection(api.url))
    assert capsys.readouterr().out.splitlines()[1].split("   ") == [
        *("a:1, b:2", "0123456789ab", "3.0 MiB")
    ]
