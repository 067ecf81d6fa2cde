"""Archives of images: names, gzip, import into a real containerd."""

import gzip
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sampan.agent.archives import NotAnArchive, image_names, unpacked
from sampan.agent.config import AgentConfig
from sampan.agent.images import ImageStore, serve_load_image
from sampan.agent.registries import is_private, permit_plain_http
from sampan.agent.streams.containerd import open_containerd
from sampan.client.http import Connection, HttpClient
from sampan.testing.images import docker_archive, oci_archive
from tests.agent.client_stream import ClientStream
from tests.agent.real_node import needs_node, node

__all__ = ["node"]
REF = "org.opencontainers.image.ref.name"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def renamed(path: Path, annotations: dict[str, str]) -> Path:
    """Rewrite the OCI archive at *path* as tools write it that annotate otherwise."""
    with tarfile.open(path) as archive:
        members = {m.name: (archive.extractfile(m) or BytesIO()).read() for m in archive}
    index = json.loads(members["index.json"])
    index["manifests"][0]["annotations"] = annotations
    members["index.json"] = json.dumps(index).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return path


@pytest.mark.parametrize("build", [oci_archive, docker_archive])
def test_names_are_read_from_both_kinds_of_archive(
    tmp_path: Path, build: Callable[..., str]
) -> None:
    build(tmp_path / "a.tar", "team/web:3")
    assert list(image_names(tmp_path / "a.tar").values()) == ["docker.io/team/web:3"]


def test_a_short_name_is_normalised_and_a_bare_tag_is_none(tmp_path: Path) -> None:
    oci_archive(tmp_path / "a.tar", "x:1")
    short = renamed(tmp_path / "a.tar", {REF: "web:1"})
    assert image_names(short) == {"web:1": "docker.io/library/web:1"}
    assert image_names(renamed(short, {REF: "latest"})) == {}


@pytest.mark.parametrize("content", [b"no archive", b"", gzip.compress(b"no archive", mtime=0)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(NotAnArchive, match="not an image archive"):
        image_names(tmp_path / "a.tar")


def test_a_tar_of_other_things_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("readme"), BytesIO())
    with pytest.raises(NotAnArchive, match=r"neither manifest.json nor index.json"):
        image_names(tmp_path / "a.tar")


@pytest.mark.parametrize("packed", [False, True])
async def test_gzip_is_unpacked_and_the_rest_passed_on(*, packed: bool) -> None:
    data = bytes(range(256)) * 1000
    sent = gzip.compress(data) if packed else data

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 999):
            yield sent[start : start + 999]

    assert b"".join([block async for block in unpacked(blocks())]) == data


@pytest.mark.parametrize(
    ("registry", "private"),
    [
        ("10.1.2.3:5000", True),
        ("192.168.0.9", True),
        ("127.0.0.1:5000", True),
        ("[fd00::1]:5000", True),
        ("registry:5000", True),
        ("localhost", True),
        ("nas.local:5000", True),
        ("docker.io", False),
        ("ghcr.io", False),
        ("registry.example.com:5000", False),
        ("8.8.8.8:5000", False),
    ],
)
def test_only_private_registries_may_be_plain(registry: str, *, private: bool) -> None:
    assert is_private(registry) is private


def test_plain_http_is_permitted_for_one_registry_and_never_overwrites(tmp_path: Path) -> None:
    permit_plain_http(tmp_path, "ghcr.io/x/y:1")
    permit_plain_http(tmp_path, "web")
    assert list(tmp_path.iterdir()) == []
    permit_plain_http(tmp_path, "10.0.0.1:5000/team/web:1")
    hosts = tmp_path / "10.0.0.1:5000" / "hosts.toml"
    assert "http://10.0.0.1:5000" in hosts.read_text()
    hosts.write_text("# mine")
    permit_plain_http(tmp_path, "10.0.0.1:5000/team/other:1")
    assert hosts.read_text() == "# mine"


@asynccontextmanager
async def store(config: AgentConfig, *archives: Path) -> AsyncIterator[ImageStore]:
    """A server with *archives*, and the node's store that loads from it."""
    listing = [
        {"id": path.name, "images": list(image_names(path).values()), "size": 1}
        for path in archives
    ]

    async def archive(request: web.Request) -> web.StreamResponse:
        path = next((p for p in archives if p.name == request.match_info["id"]), None)
        if path is None:
            raise web.HTTPNotFound(text='{"message": "no such archive", "code": 404}')
        return web.FileResponse(path)

    async def listed(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"archives": listing})

    app = web.Application()
    app.router.add_get("/sampan/v1/images", listed)
    app.router.add_get("/sampan/v1/images/{id}", archive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with (
            HttpClient(Connection(url)) as client,
            open_containerd(config.containerd_socket) as containerd,
        ):
            yield ImageStore(config, client, containerd)
    finally:
        await runner.cleanup()


async def names(images: ImageStore) -> set[str]:
    return {name for image in await images.present() for name in image.names}


@needs_node
@pytest.mark.parametrize("build", [oci_archive, docker_archive])
@pytest.mark.parametrize("packed", [False, True])
async def test_a_loaded_archive_is_known_to_cri_at_once(
    node: AgentConfig, tmp_path: Path, build: Callable[..., str], *, packed: bool
) -> None:
    path, name = tmp_path / "a", f"test/{build.__name__}-{packed}:1".lower()
    build(path, name, files={"kind": name.encode()})
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    async with store(node, path) as images:
        assert await images.load("a") == [f"docker.io/{name}"]
        assert f"docker.io/{name}" in await names(images)
    assert list(node.data_dir.glob("*.image")) == []


@needs_node
async def test_a_short_name_in_an_archive_is_found_by_its_full_one(
    node: AgentConfig, tmp_path: Path
) -> None:
    oci_archive(tmp_path / "a", "x:1", files={"a": b"short"})
    renamed(tmp_path / "a", {REF: "short:7"})
    async with store(node, tmp_path / "a") as images:
        assert await images.load("a") == ["docker.io/library/short:7"]


@needs_node
async def test_a_node_that_joins_loads_what_it_lacks_and_only_that(
    node: AgentConfig, tmp_path: Path
) -> None:
    oci_archive(tmp_path / "old", "old:1", files={"a": b"old"})
    oci_archive(tmp_path / "new", "new:1", files={"a": b"new"})
    async with store(node, tmp_path / "old") as images:
        await images.load("old")
    loaded: list[str] = []
    async with store(node, tmp_path / "old", tmp_path / "new") as images:
        load = images.load

        async def counted(archive: str) -> Any:
            loaded.append(archive)
            return await load(archive)

        images.load = counted  # type: ignore[method-assign]
        await images.load_missing()
        assert loaded == ["new"]
        assert "docker.io/library/new:1" in await names(images)


@needs_node
async def test_an_archive_that_cannot_be_loaded_is_a_failure_in_words(
    node: AgentConfig, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("nothing")
    async with store(node) as images:
        stream = ClientStream()
        await serve_load_image(images, {"id": "absent"}, stream)
        assert stream.accepted.is_set()
        status = json.loads(await stream.receive())
    assert status["status"] == "Failure"
    assert "no such archive" in status["message"]
