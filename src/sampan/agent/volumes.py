"""A Pod's volumes on this node: made before its sandbox, kept up to date, removed after it.

What comes from the API lies below the run directory, which is in memory; what the Pod writes lies
below the volume directory. Both have one directory a Pod, named after its uid.
"""

import asyncio
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sampan.agent import files
from sampan.agent.claims import Claims, Place, claim_name, give_to_group
from sampan.agent.env import ConfigError, Surroundings, expand
from sampan.agent.payload import File, TokenSource, is_payload, payload, references, tokens
from sampan.agent.runtime import Mount
from sampan.agent.sources import Answers, Sources
from sampan.agent.spec import ContainerSpec, NodePod, VolumeMount
from sampan.api.objects import Object
from sampan.api.quantities import whole

_PROPAGATION: Final = {
    "None": "PROPAGATION_PRIVATE",
    "HostToContainer": "PROPAGATION_HOST_TO_CONTAINER",
    "Bidirectional": "PROPAGATION_BIDIRECTIONAL",
}
_HOST_PATHS: Final = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class Volumes:
    def __init__(self, kept: Path, gone: Path, sources: Sources, claims: Claims) -> None:
        self._kept = kept
        self._gone = gone
        self._sources = sources
        self._claims = claims
        self._claimed: dict[str, dict[str, Place]] = {}
        """Where claims are, by Pod and volume."""
        self._shown: dict[str, dict[Path, Mapping[str, File]]] = {}
        """What was last written, by Pod, so that seeing no change costs no system call."""

    def directory(self, uid: str) -> Path:
        """Where a Pod's own small files are, such as its /etc/hosts."""
        return self._kept / uid

    async def prepare(self, around: Surroundings) -> None:
        """Make all volumes; what is there already stays. Raises ConfigError, OSError, ApiError."""
        pod, group = around.pod, _group(around.pod)
        for volume in pod.spec.volumes:
            if claim_name(pod, volume):
                await self._claim(pod, volume, group)
            elif not is_payload(volume):
                self._make(pod, volume, group)
        await self.refresh(around)

    async def _claim(self, pod: NodePod, volume: Object, group: int | None) -> None:
        place = await self._claims.find(pod, volume)
        _check_host_path(place.path, place.kind)
        if place.owned and group is not None and not place.read_only:
            policy = pod.spec.security_context.get("fsGroupChangePolicy")
            lazy = policy == "OnRootMismatch"
            await asyncio.to_thread(give_to_group, place.path, group, only_if_root_differs=lazy)
        self._claimed.setdefault(pod.uid, {})[volume["name"]] = place

    async def refresh(self, around: Surroundings, answers: Answers | None = None) -> bool:
        """Show what the API has now in the volumes that come from it; True if any has changed.

        Pods that are refreshed in one round share its *answers*.
        """
        pod = around.pod
        volumes = [volume for volume in pod.spec.volumes if is_payload(volume)]
        found = await self._sources.fetch(pod.metadata.namespace, references(volumes), answers)
        shown = self._shown.setdefault(pod.uid, {})
        changed = False
        for volume in volumes:
            directory = self._place(pod, volume)
            issued = await self._issue(pod, tokens(volume), directory)
            content = payload(volume, around, found, issued)
            if content != shown.get(directory):
                changed |= files.write_all(directory, content, _group(pod))
                shown[directory] = content
        return changed

    async def _issue(
        self, pod: NodePod, wanted: Sequence[TokenSource], directory: Path
    ) -> Mapping[TokenSource, str]:
        return {
            source: await self._sources.token(pod, source, self._held(pod, directory, source.path))
            for source in wanted
        }

    def _held(self, pod: NodePod, directory: Path, path: str) -> str:
        """The token that a volume shows now."""
        shown = self._shown.get(pod.uid, {}).get(directory, {})
        if path in shown:
            return shown[path].data.decode()
        try:
            return (directory / path).read_text()
        except OSError:
            return ""

    def _make(self, pod: NodePod, volume: Object, group: int | None) -> None:
        place = self._place(pod, volume)
        if "emptyDir" in volume:
            files.scratch(place, group)
            asked = volume["emptyDir"] or {}
            if asked.get("medium") == "Memory":
                files.mount_memory(place, whole(asked.get("sizeLimit") or 0))
        elif "hostPath" in volume:
            _check_host_path(place, volume["hostPath"].get("type") or "")
        else:
            kind = next((key for key in volume if key != "name"), "nothing")
            raise ConfigError(f"volume {volume['name']!r}: this node cannot mount {kind}")

    def _place(self, pod: NodePod, volume: Object) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        root = self._gone if is_payload(volume) else self._kept
        return root / pod.uid / "volumes" / str(volume["name"])

    def mounts(
        self, pod: NodePod, container: ContainerSpec, env: Mapping[str, str]
    ) -> tuple[Mount, ...]:
        """What a container mounts of its Pod's volumes; raise ConfigError if a path is wrong."""
        volumes = {volume["name"]: volume for volume in pod.spec.volumes}
        return tuple(
            self._mount(pod, volumes.get(mount.name), mount, env)
            for mount in container.volume_mounts
        )

    def _mount(
        self, pod: NodePod, volume: Object | None, mount: VolumeMount, env: Mapping[str, str]
    ) -> Mount:
        if volume is None:
            raise ConfigError(f"volume {mount.name!r} is mounted but not in spec.volumes")
        claimed = self._claimed.get(pod.uid, {}).get(mount.name)
        place = claimed.path if claimed else self._place(pod, volume)
        if sub := mount.sub_path or expand(mount.sub_path_expr, env):
            place = _below(place, sub, make=not is_payload(volume))
        return Mount(
            container_path=mount.mount_path,
            host_path=str(place),
            readonly=mount.read_only or is_payload(volume) or bool(claimed and claimed.read_only),
            propagation=_PROPAGATION[mount.mount_propagation],
        )

    def remove(self, uid: str) -> None:
        """Remove all that a Pod had; slow when it wrote a lot."""
        for root in (self._gone, self._kept):
            files.remove_tree(root / uid)
        self._shown.pop(uid, None)

    def release(self, uid: str) -> None:
        """A Pod has ended: its claims are free for others."""
        self._claimed.pop(uid, None)
        self._claims.forget(uid)

    def held(self) -> set[str]:
        """The uids of the Pods that have something here."""
        roots: Iterable[Path] = (root for root in (self._gone, self._kept) if root.is_dir())
        return {path.name for root in roots for path in root.iterdir()}


def _group(pod: NodePod) -> int | None:
    group = pod.spec.security_context.get("fsGroup")
    return None if group is None else int(group)


def _check_host_path(path: Path, kind: str) -> None:
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644)
    elif not kind and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    expected = {"DirectoryOrCreate": "Directory", "FileOrCreate": "File"}.get(kind, kind)
    if not expected:
        return
    fits, name = _HOST_PATHS[expected]
    if not path.exists() or not fits(path.stat().st_mode):
        raise ConfigError(f"hostPath type check failed: {path} is not {name}")


def _below(root: Path, sub: str, *, make: bool) -> Path:
    """Find *sub* in *root*, through links but never out of it."""
    inside = root.resolve()
    place = (inside / sub).resolve()
    if place != inside and inside not in place.parents:
        raise ConfigError(f"subPath {sub!r} leads out of its volume")
    if not place.exists():
        if not make:
            raise ConfigError(f"subPath {sub!r} is not in its volume")
        place.mkdir(parents=True)
        place.chmod(inside.stat().st_mode & 0o7777)
    return place
