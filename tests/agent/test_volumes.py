"""Volumes on a real file system."""

import json
import os
import socket
import stat
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from sampan.agent.claims import Claims
from sampan.agent.env import ConfigError, Surroundings
from sampan.agent.resources import Capacity
from sampan.agent.sources import Sources
from sampan.agent.spec import NodePod
from sampan.agent.volumes import Volumes
from sampan.api import kinds
from sampan.api.errors import ServiceUnavailable
from sampan.api.objects import Object
from tests.agent.situations import make_pod
from tests.controllers.memory_api import MemoryApi

root = pytest.mark.skipif(os.geteuid() != 0, reason="owning and mounting needs root")


class Api(MemoryApi):
    """Issues tokens, and may be down."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Object] = []
        self.down = False
        self.now_is = 1000.0

    async def get(self, kind: Any, name: str, namespace: str = "") -> Object:
        if self.down:
            raise ServiceUnavailable("down")
        return await super().get(kind, name, namespace)

    async def create(self, kind: Any, obj: Object, *, subresource: str = "") -> Object:
        if subresource != "token":
            return await super().create(kind, obj)
        self.requests.append(obj)
        claims = {"iat": self.now_is, "exp": self.now_is + obj["spec"]["expirationSeconds"]}
        body = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return {"status": {"token": f"h.{body}.{len(self.requests)}"}}


class Node:
    def __init__(self, base: Path) -> None:
        self.api = Api()
        self.gone = base / "run"
        sources = Sources(self.api, lambda: self.api.now_is)
        self.claims = Claims(self.api, "n1", base / "claims")
        self.volumes = Volumes(base / "kept", self.gone, sources, self.claims)

    async def set(self, name: str = "settings", **data: str) -> None:
        obj = {"metadata": {"name": name, "namespace": "default"}, "data": data}
        if self.api.objects[kinds.CONFIGMAPS].get(("default", name)):
            await self.api.patch(kinds.CONFIGMAPS, name, {"data": data}, "default")
        else:
            await self.api.create(kinds.CONFIGMAPS, obj)

    async def prepare(self, pod: NodePod) -> None:
        await self.volumes.prepare(_around(pod))

    async def refresh(self, pod: NodePod) -> bool:
        return await self.volumes.refresh(_around(pod))

    def place(self, pod: NodePod) -> Path:
        """Where the one mount of the Pod's container leads."""
        [found] = self.volumes.mounts(pod, pod.spec.containers[0], {"SUB": "expanded"})
        return Path(found.host_path)


def _around(pod: NodePod) -> Surroundings:
    return Surroundings(pod, "10.42.0.5", "192.0.2.7", Capacity(4, 1 << 30))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def mounting(volume: Object, mount: Object | None = None, **spec: Any) -> NodePod:
    mounts = [{"name": "v", "mountPath": "/v", **(mount or {})}]
    container = {"name": "main", "image": "app", "volumeMounts": mounts}
    return make_pod(containers=[container], volumes=[{"name": "v", **volume}], **spec)


SETTINGS = {"configMap": {"name": "settings"}}


async def test_a_config_map_is_a_directory_of_files(node: Node) -> None:
    await node.set(colour="teal", size="9")
    pod = mounting(SETTINGS)
    await node.prepare(pod)
    place = node.place(pod)
    assert (place / "colour").read_text() == "teal"
    assert sorted(p.name for p in place.iterdir() if not p.name.startswith("..")) == [
        "colour",
        "size",
    ]


async def test_a_change_replaces_all_files_at_once_in_the_same_directory(node: Node) -> None:
    await node.set(colour="teal", old="1")
    pod = mounting(SETTINGS)
    await node.prepare(pod)
    place = node.place(pod)
    inode, before = place.stat().st_ino, (place / "..data").readlink()
    await node.api.patch(kinds.CONFIGMAPS, "settings", {"data": {"old": None}}, "default")
    await node.set(colour="red", new="2")
    assert await node.refresh(pod)
    assert (place / "colour").read_text() == "red"
    assert (place / "new").read_text() == "2"
    assert not (place / "old").exists()
    assert place.stat().st_ino == inode
    assert not (place / before).exists()


async def test_what_has_not_changed_is_not_written_again(node: Node) -> None:
    await node.set(colour="teal")
    pod = mounting(SETTINGS)
    await node.prepare(pod)
    before = (node.place(pod) / "..data").readlink()
    assert not await node.refresh(pod)
    assert (node.place(pod) / "..data").readlink() == before


async def test_items_choose_paths_and_modes(node: Node) -> None:
    await node.set(colour="teal", size="9")
    items = [{"key": "colour", "path": "deep/er", "mode": 0o400}]
    pod = mounting({"configMap": {"name": "settings", "items": items, "defaultMode": 0o600}})
    await node.prepare(pod)
    file = node.place(pod) / "deep" / "er"
    assert file.read_text() == "teal"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert not (node.place(pod) / "size").exists()


async def test_a_secret_is_decoded_and_has_its_default_mode(node: Node) -> None:
    await node.api.create(
        kinds.SECRETS,
        {
            "metadata": {"name": "keys", "namespace": "default"},
            "data": {"token": b64encode(b"\x00s3cret").decode()},
        },
    )
    pod = mounting({"secret": {"secretName": "keys", "defaultMode": 0o400}})
    await node.prepare(pod)
    file = node.place(pod) / "token"
    assert file.read_bytes() == b"\x00s3cret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert node.gone in file.parents, "secrets stay in memory"


async def test_what_is_missing_is_named_unless_it_is_optional(node: Node) -> None:
    with pytest.raises(ConfigError, match='configmap "settings" not found'):
        await node.prepare(mounting(SETTINGS))
    pod = mounting({"configMap": {"name": "settings", "optional": True}})
    await node.prepare(pod)
    assert node.place(pod).is_dir()


async def test_a_path_out_of_the_volume_is_refused(node: Node) -> None:
    await node.set(colour="teal")
    items = [{"key": "colour", "path": "../../escape"}]
    with pytest.raises(ConfigError, match="leads out of the volume"):
        await node.prepare(mounting({"configMap": {"name": "settings", "items": items}}))


async def test_a_projected_volume_joins_its_sources(node: Node) -> None:
    await node.set(colour="teal")
    fields = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    sources = [
        {"configMap": {"name": "settings"}},
        {"downwardAPI": {"items": fields}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
    ]
    pod = mounting(
        {"projected": {"sources": sources}}, meta={"labels": {"app": "web"}},
        serviceAccountName="robot",
    )  # fmt: skip
    await node.prepare(pod)
    place = node.place(pod)
    assert (place / "colour").read_text() == "teal"
    assert (place / "labels").read_text() == 'app="web"'
    assert (place / "token").read_text().endswith(".1")
    [request] = node.api.requests
    assert request["metadata"] == {"name": "robot", "namespace": "default"}
    assert request["spec"]["boundObjectRef"]["uid"] == "u1"


async def test_a_token_is_replaced_when_most_of_its_life_is_over(node: Node) -> None:
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 1000}}]
    pod = mounting({"projected": {"sources": sources}})
    await node.prepare(pod)
    node.api.now_is += 799
    assert not await node.refresh(pod)
    node.api.now_is += 2
    assert await node.refresh(pod)
    assert len(node.api.requests) == 2
    assert (node.place(pod) / "token").read_text().endswith(".2")


async def test_changed_labels_reach_the_downward_volume(node: Node) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    before = mounting({"downwardAPI": {"items": items}}, meta={"labels": {"a": "1"}})
    await node.prepare(before)
    after = mounting({"downwardAPI": {"items": items}}, meta={"labels": {"a": "2"}})
    assert await node.refresh(after)
    assert (node.place(after) / "labels").read_text() == 'a="2"'


async def test_while_the_server_is_away_what_it_said_last_still_counts(node: Node) -> None:
    await node.set(colour="teal")
    pod = mounting(SETTINGS)
    await node.prepare(pod)
    node.api.down = True
    await node.prepare(pod)
    with pytest.raises(ServiceUnavailable):
        await node.prepare(mounting({"configMap": {"name": "never-seen"}}))


async def test_an_empty_dir_is_writable_for_all_and_survives_a_new_agent(node: Node) -> None:
    pod = mounting({"emptyDir": {}})
    await node.prepare(pod)
    place = node.place(pod)
    assert stat.S_IMODE(place.stat().st_mode) == 0o777
    (place / "file").write_text("kept")
    await node.prepare(pod)
    assert (place / "file").read_text() == "kept"


@root
async def test_memory_has_the_size_that_was_asked_for_and_goes_with_the_pod(node: Node) -> None:
    pod = mounting({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    await node.prepare(pod)
    place = node.place(pod)
    try:
        assert place.is_mount()
        with pytest.raises(OSError, match="No space left"):
            (place / "full").write_bytes(bytes(2 << 20))
    finally:
        node.volumes.remove("u1")
    assert not place.exists()


@root
async def test_the_pods_group_owns_its_volumes(node: Node) -> None:
    await node.set(colour="teal")
    group = {"securityContext": {"fsGroup": 4242}}
    pod = mounting(SETTINGS, **group)
    await node.prepare(pod)
    file = node.place(pod) / "colour"
    assert file.stat().st_gid == 4242
    scratch = mounting({"emptyDir": {}}, **group, meta={"uid": "u2"})
    await node.prepare(scratch)
    assert node.place(scratch).stat().st_gid == 4242
    assert node.place(scratch).stat().st_mode & stat.S_ISGID


@pytest.mark.parametrize(
    ("kind", "there", "message"),
    [
        ("Directory", "", "is not a directory"),
        ("File", "", "is not a file"),
        ("File", "directory", "is not a file"),
        ("Socket", "file", "is not a socket"),
        ("CharDevice", "file", "is not a character device"),
        ("Directory", "directory", ""),
        ("DirectoryOrCreate", "", ""),
        ("FileOrCreate", "", ""),
        ("Socket", "socket", ""),
        ("", "", ""),
    ],
)
async def test_a_host_path_is_what_its_type_says(
    node: Node, tmp_path: Path, kind: str, there: str, message: str
) -> None:
    path = tmp_path / "host"
    if there == "directory":
        path.mkdir()
    elif there == "file":
        path.touch()
    elif there == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    pod = mounting({"hostPath": {"path": str(path), "type": kind}})
    if message:
        with pytest.raises(ConfigError, match=message):
            await node.prepare(pod)
    else:
        await node.prepare(pod)
        assert node.place(pod) == path


async def test_a_sub_path_is_made_below_its_volume(node: Node) -> None:
    pod = mounting({"emptyDir": {}}, {"subPath": "a/b"})
    await node.prepare(pod)
    assert node.place(pod).parts[-2:] == ("a", "b")
    assert node.place(pod).is_dir()
    expanded = mounting({"emptyDir": {}}, {"subPathExpr": "$(SUB)"})
    assert node.place(expanded).name == "expanded"


@pytest.mark.parametrize("sub", ["../../etc", "link/x"])
async def test_a_sub_path_cannot_lead_out_of_its_volume(node: Node, sub: str) -> None:
    plain = mounting({"emptyDir": {}})
    await node.prepare(plain)
    (node.place(plain) / "link").symlink_to("/etc")
    with pytest.raises(ConfigError, match="leads out of its volume"):
        node.place(mounting({"emptyDir": {}}, {"subPath": sub}))


async def test_one_file_of_a_config_map_may_be_mounted(node: Node) -> None:
    await node.set(colour="teal")
    pod = mounting(SETTINGS, {"subPath": "colour"})
    await node.prepare(pod)
    assert node.place(pod).read_text() == "teal"
    with pytest.raises(ConfigError, match="is not in its volume"):
        node.place(mounting(SETTINGS, {"subPath": "none"}))


async def test_what_this_node_cannot_mount_is_named(node: Node) -> None:
    with pytest.raises(ConfigError, match="cannot mount nfs"):
        await node.prepare(mounting({"nfs": {"server": "x", "path": "/"}}))


async def test_a_mount_of_no_volume_is_named(node: Node) -> None:
    with pytest.raises(ConfigError, match="'v' is mounted but not in"):
        node.place(
            make_pod(containers=[{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/"}]}])
        )


async def test_what_a_pod_had_is_removed_and_only_that(node: Node) -> None:
    await node.set(colour="teal")
    first, second = mounting(SETTINGS), mounting({"emptyDir": {}}, meta={"uid": "u2"})
    await node.prepare(first)
    await node.prepare(second)
    assert node.volumes.held() == {"u1", "u2"}
    node.volumes.remove("u1")
    assert node.volumes.held() == {"u2"}


async def test_a_claim_is_mounted_where_its_volume_is(node: Node) -> None:
    place = node.gone.parent / "claims" / "v1"
    made = {"pv.kubernetes.io/provisioned-by": "sampan.io/local-path"}
    volume = {
        "metadata": {"name": "v1", "labels": {"sampan.io/node": "n1"}, "annotations": made},
        "spec": {"local": {"path": str(place)}},
    }
    await node.api.create(kinds.PERSISTENT_VOLUMES, volume)
    claim = {
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"volumeName": "v1"},
        "status": {"phase": "Bound"},
    }
    await node.api.create(kinds.PERSISTENT_VOLUME_CLAIMS, claim)
    pod = mounting({"persistentVolumeClaim": {"claimName": "data"}}, {"subPath": "a/b"})
    await node.prepare(pod)
    assert node.place(pod) == place / "a/b"
    node.volumes.remove(pod.uid)
    assert (place / "a/b").is_dir()
    read = mounting({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
    await node.prepare(read)
    [mount] = node.volumes.mounts(read, read.spec.containers[0], {})
    assert mount.readonly
