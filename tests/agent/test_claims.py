"""Persistent volumes on a node, over a real file system and an API in memory."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from sampan.agent.claims import Claims, give_to_group
from sampan.agent.env import ConfigError
from sampan.api import kinds
from sampan.api.marks import LOCAL_VOLUME, VOLUME_NODE
from sampan.api.objects import Object
from tests.agent.situations import make_pod
from tests.controllers.memory_api import MemoryApi

root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to a group needs root")
DATA: Object = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
MADE_HERE = {"pv.kubernetes.io/provisioned-by": "sampan.io/local-path"}


class Bed:
    def __init__(self, base: Path) -> None:
        self.api = MemoryApi()
        self.root = base / "claims"
        self.claims = Claims(self.api, "n1", self.root)

    async def claim(self, *, phase: str = "Bound", **more: Any) -> None:
        meta = {"name": "data", "namespace": "default", **more.pop("meta", {})}
        spec = {"volumeName": "v1", "accessModes": ["ReadWriteOnce"], **more}
        claim = {"metadata": meta, "spec": spec, "status": {"phase": phase}}
        await self.api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim)

    async def volume(self, *, node: str = "n1", path: str = "", **more: Any) -> None:
        meta = {
            "name": "v1",
            "labels": {VOLUME_NODE: node},
            "annotations": MADE_HERE,
            "finalizers": [LOCAL_VOLUME],
        }
        spec = more or {"local": {"path": path or str(self.root / "v1")}}
        await self.api.create(kinds.PERSISTENT_VOLUMES, {"metadata": meta, "spec": spec})

    async def find(self, uid: str = "u1", volume: Object = DATA) -> Path:
        return (await self.claims.find(make_pod(meta={"uid": uid}), volume)).path


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def test_a_volume_made_to_order_is_a_directory_that_every_user_may_write_to(bed: Bed) -> None:
    await bed.claim()
    await bed.volume()
    place = await bed.find()
    assert place == bed.root / "v1"
    assert place.stat().st_mode & 0o7777 == 0o777
    (place / "kept").write_text("x")
    assert (await bed.find() / "kept").read_text() == "x"


@pytest.mark.parametrize(
    ("claim", "volume", "why"),
    [
        (None, None, 'persistentvolumeclaim "data" not found'),
        ({"phase": "Pending"}, None, "is not bound"),
        ({}, None, 'persistentvolume "v1" not found'),
        ({}, {"node": "n2"}, "is on node n2"),
        ({}, {"nfs": {"server": "x", "path": "/"}}, "cannot mount nfs"),
        ({}, {"volumeMode": "Block", "local": {"path": "/dev/sda"}}, "no block devices"),
        ({"meta": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {}, "is being deleted"),
    ],
)
async def test_a_claim_that_cannot_be_mounted_says_why(
    bed: Bed, claim: Object | None, volume: Object | None, why: str
) -> None:
    if claim is not None:
        await bed.claim(**claim)
    if volume is not None:
        await bed.volume(**volume)
    with pytest.raises(ConfigError, match=why):
        await bed.find()


async def test_a_pod_that_has_begun_keeps_a_claim_that_is_being_deleted(bed: Bed) -> None:
    await bed.claim(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    await bed.volume()
    pod = make_pod(status={"containerStatuses": [{"containerID": "containerd://1"}]})
    assert (await bed.claims.find(pod, DATA)).path == bed.root / "v1"


async def test_a_claim_for_one_pod_alone_is_not_given_to_two(bed: Bed) -> None:
    await bed.claim(accessModes=["ReadWriteOncePod"])
    await bed.volume()
    await bed.find("u1")
    with pytest.raises(ConfigError, match="ReadWriteOncePod access mode and is already in use"):
        await bed.find("u2")
    bed.claims.forget("u1")
    await bed.find("u2")


async def test_an_ephemeral_volumes_claim_must_be_the_pods_own(bed: Bed) -> None:
    await bed.volume()
    owner = {"uid": "u1", "name": "web", "kind": "Pod", "apiVersion": "v1"}
    await bed.claim(meta={"name": "web-tmp", "ownerReferences": [owner]})
    tmp: Object = {"name": "tmp", "ephemeral": {}}
    assert await bed.find("u1", tmp) == bed.root / "v1"
    with pytest.raises(ConfigError, match="was not made for this Pod"):
        await bed.find("u2", tmp)


async def ended(bed: Bed) -> None:
    async with asyncio.timeout(5):
        while bed.api.of(kinds.PERSISTENT_VOLUMES):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def test_a_deleted_volumes_directory_goes_when_no_pod_uses_it(bed: Bed) -> None:
    await bed.claim()
    await bed.volume()
    place = await bed.find()
    (place / "deep").mkdir()
    task = asyncio.ensure_future(bed.claims.run())
    await bed.api.delete(kinds.PERSISTENT_VOLUMES, "v1")
    await asyncio.sleep(0.05)
    assert place.exists()
    bed.claims.forget("u1")
    await ended(bed)
    assert not place.exists()
    task.cancel()


async def test_a_directory_that_is_not_ours_is_never_removed(bed: Bed, tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    await bed.volume(path=str(other))
    await bed.api.delete(kinds.PERSISTENT_VOLUMES, "v1")
    task = asyncio.ensure_future(bed.claims.run())
    await ended(bed)
    assert other.exists()
    task.cancel()


async def test_an_administrators_local_volume_is_not_made_for_them(
    bed: Bed, tmp_path: Path
) -> None:
    await bed.claim()
    await bed.volume(path=str(tmp_path / "missing"))
    await bed.find()
    assert not (tmp_path / "missing").exists()


@root
def test_a_group_gets_what_is_in_a_volume(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "file"
    file.parent.mkdir()
    file.write_text("x")
    file.chmod(0o600)
    (tmp_path / "link").symlink_to("/etc/passwd")
    give_to_group(tmp_path, 4242, only_if_root_differs=True)
    assert (file.stat().st_gid, file.stat().st_mode & 0o7777) == (4242, 0o660)
    assert file.parent.stat().st_mode & 0o2770 == 0o2770
    assert Path("/etc/passwd").stat().st_gid != 4242
    file.chmod(0o600)
    give_to_group(tmp_path, 4242, only_if_root_differs=True)
    assert file.stat().st_mode & 0o7777 == 0o600
