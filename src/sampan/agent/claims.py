"""Persistent volumes on this node: where a Pod's claims are, and the end of what was made to order.

A claim leads to its volume, and that to a directory: one that an administrator named (`local`,
`hostPath`), or one that is made here because a claim asked for it. The latter is removed when its
volume is deleted; a finalizer makes the volume wait for that.
"""

import asyncio
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from sampan.agent.env import ConfigError
from sampan.agent.spec import NodePod
from sampan.api import kinds
from sampan.api.errors import ApiError, NotFound
from sampan.api.marks import LOCAL_VOLUME, VOLUME_NODE
from sampan.api.objects import Object, Resource, View
from sampan.client.cache import Cache, Interest
from sampan.client.interface import Client

PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
PROVISIONER: Final = "sampan.io/local-path"
ALONE: Final = "ReadWriteOncePod"
_AGAIN: Final = 5.0
_NOT_SOURCES: Final = frozenset({
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity",
    "persistentVolumeReclaimPolicy", "storageClassName", "volumeAttributesClassName", "volumeMode",
})  # fmt: skip

log = logging.getLogger(__name__)


class _Spec(View):
    local: Object = field(default_factory=dict)


class MadeVolume(Resource):
    """A volume that was made to order."""

    KIND = kinds.PERSISTENT_VOLUMES
    spec: _Spec = _Spec()

    @property
    def path(self) -> Path:
        return Path(str(self.spec.local.get("path", "")))


class Place(Struct, frozen=True):
    """Where a claim's files are."""

    path: Path
    kind: str = ""
    """Of a hostPath: what must be there."""
    read_only: bool = False
    owned: bool = False
    """Whether an fsGroup may be given what is in there."""


def claim_name(pod: NodePod, volume: Object) -> str:
    """The claim that a volume of *pod* stands for; "" if it stands for none."""
    if source := volume.get("persistentVolumeClaim"):
        return str(source["claimName"])
    return f"{pod.metadata.name}-{volume['name']}" if "ephemeral" in volume else ""


class Claims:
    """*root* is where volumes that are made to order lie."""

    def __init__(self, client: Client, node: str, root: Path) -> None:
        self._client = client
        self._node = node
        self._root = root
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._changed = asyncio.Event()
        self._cache = Cache(client, [Interest(MadeVolume, labels=f"{VOLUME_NODE}={node}")])
        self._cache.subscribe(lambda _: self._changed.set())

    async def find(self, pod: NodePod, volume: Object) -> Place:
        """Say where a claim of *pod* is, and count the Pod as its user.

        Raises ConfigError when the claim is not bound, not for this Pod, or of a kind that this
        node does not know.
        """
        name, namespace = claim_name(pod, volume), pod.metadata.namespace
        try:
            claim = await self._client.get(kinds.PERSISTENT_VOLUME_CLAIMS, name, namespace)
        except NotFound as error:
            raise ConfigError(f'persistentvolumeclaim "{name}" not found') from error
        _check_claim(pod, volume, claim)
        held = str(claim["spec"]["volumeName"])
        try:
            found = await self._client.get(kinds.PERSISTENT_VOLUMES, held)
        except NotFound as error:
            raise ConfigError(f'persistentvolume "{held}" not found') from error
        if ALONE in (claim["spec"].get("accessModes") or ()):
            self._check_alone(held, pod.uid)
        place = self._place(found, volume)
        self._users[held].add(pod.uid)
        return place

    def _check_alone(self, volume: str, uid: str) -> None:
        if self._users[volume] - {uid}:
            raise ConfigError(
                f"volume {volume} uses the {ALONE} access mode and is already in use by another pod"
            )

    def _place(self, found: Object, volume: Object) -> Place:
        meta, spec = found["metadata"], found["spec"]
        node = (meta.get("labels") or {}).get(VOLUME_NODE, self._node)
        if node != self._node:
            raise ConfigError(f"volume {meta['name']} is on node {node}, not on this one")
        if spec.get("volumeMode", "Filesystem") != "Filesystem":
            raise ConfigError(f"volume {meta['name']}: this node mounts no block devices")
        read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
        if source := spec.get("hostPath"):
            return Place(Path(source["path"]), source.get("type") or "", read_only)
        if source := spec.get("local"):
            return Place(
                self._local(found, Path(source["path"])), "Directory", read_only, owned=True
            )
        kind = next((key for key in spec if key not in _NOT_SOURCES), "nothing")
        raise ConfigError(f"volume {meta['name']}: this node cannot mount {kind}")

    def _local(self, found: Object, path: Path) -> Path:
        """A volume that was made to order has its directory from its first use on."""
        if self._is_made(found["metadata"].get("annotations") or {}, path) and not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o777)
        return path

    def _is_made(self, annotations: Object, path: Path) -> bool:
        return annotations.get(PROVISIONED_BY) == PROVISIONER and path.parent == self._root

    def forget(self, uid: str) -> None:
        """Take a Pod from the users of its claims."""
        for users in self._users.values():
            users.discard(uid)
        self._changed.set()

    # The end of volumes

    async def run(self) -> None:
        """Remove the directories of volumes that are deleted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cache.run())
            await self._cache.synced()
            while True:
                self._changed.clear()
                failed = await self._sweep(self._cache.all(MadeVolume))
                try:
                    async with asyncio.timeout(_AGAIN if failed else None):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def _sweep(self, volumes: Iterable[MadeVolume]) -> bool:
        """Let go of each volume that may go; True if one is to be tried again."""
        failed = False
        for volume in volumes:
            meta = volume.metadata
            if meta.deleting and LOCAL_VOLUME in meta.finalizers and not self._users[meta.name]:
                try:
                    await self._remove(volume)
                except (ApiError, OSError, TimeoutError) as error:
                    log.warning("volume %s cannot be removed: %s", meta.name, error)
                    failed = True
        return failed

    async def _remove(self, volume: MadeVolume) -> None:
        meta = volume.metadata
        if self._is_made(dict(meta.annotations), volume.path):
            await asyncio.to_thread(_remove_tree, volume.path)
        left = [finalizer for finalizer in meta.finalizers if finalizer != LOCAL_VOLUME]
        patch: Object = {
            "metadata": {"resourceVersion": meta.resource_version, "finalizers": left or None}
        }
        await self._client.patch(kinds.PERSISTENT_VOLUMES, meta.name, patch)


def _check_claim(pod: NodePod, volume: Object, claim: Object) -> None:
    meta, name = claim["metadata"], claim["metadata"]["name"]
    if "ephemeral" in volume:
        owners: Iterable[Any] = meta.get("ownerReferences") or ()
        if not any(owner["uid"] == pod.uid for owner in owners):
            raise ConfigError(f'persistentvolumeclaim "{name}" was not made for this Pod')
    if "deletionTimestamp" in meta and not _has_begun(pod):
        raise ConfigError(f'persistentvolumeclaim "{name}" is being deleted')
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    if not bound or not claim["spec"].get("volumeName"):
        raise ConfigError(f'persistentvolumeclaim "{name}" is not bound')


def _has_begun(pod: NodePod) -> bool:
    statuses: Iterable[Any] = pod.status.get("containerStatuses") or ()
    return any(status.get("containerID") for status in statuses)


def _remove_tree(path: Path) -> None:
    if path.is_symlink() or not path.exists():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path)


def give_to_group(root: Path, group: int, *, only_if_root_differs: bool) -> None:
    """Let *group* read and write all below *root*, and own what is made there later."""
    if only_if_root_differs and _belongs(root, group):
        return
    for directory, _, names in os.walk(root):
        _give(Path(directory), group, 0o2770)
        for name in names:
            _give(Path(directory, name), group, 0o660)


def _belongs(root: Path, group: int) -> bool:
    have = root.stat()
    return have.st_gid == group and have.st_mode & 0o2770 == 0o2770  # noqa: PLR2004 - rwxrws---


def _give(path: Path, group: int, mode: int) -> None:
    os.chown(path, -1, group, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(path.stat().st_mode & 0o7777 | mode)
