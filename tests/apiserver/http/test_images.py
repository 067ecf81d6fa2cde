"""Image archives: kept by the server, fetched by nodes, told about line by line."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from sampan.api.objects import Object
from sampan.testing.images import docker_archive, oci_archive
from tests.apiserver.http.support import SUCCESS, Live

IMAGES = "/sampan/v1/images"
Build = Callable[[Path, str], str]
Stream = aiohttp.ClientWebSocketResponse[bool]


async def load(live: Live, data: bytes) -> list[Any]:
    answer = await live.request("POST", IMAGES, data)
    assert answer.status == 200, answer.json
    return [orjson.loads(line) for line in answer.body.splitlines()]


def archive(scratch: Path, build: Build = oci_archive, name: str = "web:1") -> bytes:
    build(scratch / "image.tar", name)
    return (scratch / "image.tar").read_bytes()


@pytest.mark.parametrize("build", [oci_archive, docker_archive])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
async def test_an_archive_is_kept_as_it_came(
    live: Live, tmp_path: Path, build: Build, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(archive(tmp_path, build))
    first, last = await load(live, data)
    identity = hashlib.sha256(data).hexdigest()
    assert first == {"archive": identity, "images": ["docker.io/library/web:1"]}
    assert last == {"done": True, "failed": []}
    node = live.tls("system:node:n1", "system:nodes")
    listed = (await live.request("GET", IMAGES, tls=node)).json["archives"]
    assert listed == [{"id": identity, "images": first["images"], "size": len(data)}]
    assert (await live.request("GET", f"{IMAGES}/{identity}", tls=node)).body == data


async def test_every_connected_node_is_told_and_its_answer_passed_on(
    live: Live, tmp_path: Path
) -> None:
    async def loads(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        await stream.send_json({"images": [params["id"]]})

    async def refuses(params: Object, stream: Stream) -> None:
        await stream.send_str(SUCCESS)
        await stream.send_json(
            {"kind": "Status", "status": "Failure", "code": 500, "message": "no space"}
        )

    async with live.agent("n1", load_image=loads), live.agent("n2", load_image=refuses):
        lines = await load(live, archive(tmp_path))
    told = {(line.get("node"), line.get("phase"), line.get("message")) for line in lines[1:-1]}
    assert told == {
        ("n1", "loading", ""), ("n1", "loaded", ""),
        ("n2", "loading", ""), ("n2", "failed", "no space"),
    }  # fmt: skip
    assert lines[-1] == {"done": True, "failed": ["n2"]}


async def test_a_newer_archive_of_the_same_images_takes_the_olders_place(
    live: Live, tmp_path: Path
) -> None:
    await load(live, archive(tmp_path))
    [newer, _] = await load(live, gzip.compress(archive(tmp_path)))
    await load(live, archive(tmp_path, name="other:1"))
    listed = (await live.request("GET", IMAGES)).json["archives"]
    assert len(listed) == 2
    assert newer["archive"] in {found["id"] for found in listed}


def tar_of(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image archive"),
        (b"this is no archive", "not an image archive"),
        (gzip.compress(b"neither is this", mtime=0), "not an image archive"),
        (b"\x1f\x8bnot really packed", "not an image archive"),
        (tar_of(readme=b"hello"), "neither manifest.json"),
        (tar_of(manifest_json=b"{"), "its index cannot be read"),
        (tar_of(manifest_json=b"[1]"), "its index cannot be read"),
        (tar_of(manifest_json=b'[{"RepoTags": null}]'), "names no image"),
        (tar_of(manifest_json=b'[{"RepoTags": [7]}]'), "its index cannot be read"),
    ],
)
async def test_what_is_no_archive_is_refused_and_not_kept(
    live: Live, data: bytes, message: str
) -> None:
    answer = await live.request("POST", IMAGES, data)
    assert (answer.status, message in answer.json["message"]) == (400, True), answer.json
    assert list((live.scratch / "images").iterdir()) == []


async def test_a_cut_off_archive_is_refused(live: Live, tmp_path: Path) -> None:
    data = archive(tmp_path, docker_archive)
    answer = await live.request("POST", IMAGES, data[: len(data) // 2])
    assert answer.status == 400


@pytest.mark.parametrize("name", ["0" * 64, "..", "%2e%2e", "x"])
async def test_an_unknown_archive_is_not_found(live: Live, name: str) -> None:
    answer = await live.request("GET", f"{IMAGES}/{name}")
    assert answer.status in {400, 404}
