"""Small container images made of busybox and given files: no registry, no download, no Docker.

The same arguments give the same bytes, so digests can be compared and caches work. Every image has
Debian's static busybox with all its applets below the caller's files, because what tests and
examples ask of an image is a shell, `httpd` and `wget`.
"""

import gzip
import hashlib
import io
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from sampan.api.images import normalised

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ETC: Final = {
    "etc/passwd": (
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n"
        b"nobody:x:65534:65534:nobody:/:/bin/false\n"
    ),
    "etc/group": b"root:x:0:\napp:x:1000:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Blob:
    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def descriptor(self, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Image:
    """An image's parts; layers are uncompressed tars, the lowest first."""

    config: Blob
    layers: tuple[Blob, ...]

    @property
    def packed_layers(self) -> tuple[Blob, ...]:
        return tuple(_packed(layer) for layer in self.layers)

    @property
    def manifest(self) -> Blob:
        layers = [blob.descriptor(OCI_LAYER) for blob in self.packed_layers]
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": self.config.descriptor(OCI_CONFIG),
                "layers": layers,
            }
        )


def build(
    *,
    files: Mapping[str, bytes] | None = None,
    executable: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    cmd: Sequence[str] = ("sh",),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "/",
    exposed: Sequence[str] = (),
    architecture: str = "",
) -> Image:
    """Make an image of busybox and *files* (paths from the root; *executable* names some of them).

    *exposed* is like "8080/tcp"; *architecture* lies about the machine, for tests of that.
    """
    layers = [_busybox_layer()]
    if files:
        layers.append(_files_layer(files, {path.lstrip("/") for path in executable}))
    environment = {"PATH": "/bin:/usr/bin:/sbin:/usr/sbin", **(env or {})}
    settings: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Entrypoint": list(entrypoint) or None,
        "Cmd": list(cmd) or None,
        "WorkingDir": workdir,
        "User": user,
        "ExposedPorts": {port: {} for port in exposed},
    }
    config = _json(
        {
            "architecture": architecture or _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {key: value for key, value in settings.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
        }
    )
    return Image(config, tuple(layers))


def oci_archive(path: Path, name: str, **parts: Any) -> str:
    """Write an OCI archive that holds `build(**parts)` as *name*; return the manifest's digest."""
    image = build(**parts)
    full = normalised(name)
    entry = image.manifest.descriptor(OCI_MANIFEST)
    entry["annotations"] = {
        "io.containerd.image.name": full,
        "org.opencontainers.image.ref.name": full.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    members = {
        "oci-layout": orjson.dumps({"imageLayoutVersion": "1.0.0"}),
        "index.json": orjson.dumps(index),
    }
    for blob in (image.manifest, image.config, *image.packed_layers):
        members[f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"] = blob.data
    _write(path, members)
    return image.manifest.digest


def docker_archive(path: Path, name: str, **parts: Any) -> str:
    """Write what `docker save NAME` writes for `build(**parts)`; return the config's digest."""
    image = build(**parts)
    config = f"{image.config.digest.removeprefix('sha256:')}.json"
    layers = {f"{b.digest.removeprefix('sha256:')}/layer.tar": b.data for b in image.layers}
    manifest = [{"Config": config, "RepoTags": [name], "Layers": list(layers)}]
    _write(path, {config: image.config.data, **layers, "manifest.json": orjson.dumps(manifest)})
    return image.config.digest


def _busybox_layer() -> Blob:
    program, applets = _busybox()
    members: list[tuple[tarfile.TarInfo, bytes]] = [
        (_directory(name, mode), b"")
        for name, mode in (
            ("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("root", 0o700),
            ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("var", 0o755), ("usr/bin", 0o755),
        )
    ]  # fmt: skip
    members.append((_file("bin/busybox", program, 0o755), program))
    for applet in applets:
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        members.append((link, b""))
    env = tarfile.TarInfo("usr/bin/env")
    env.type, env.linkname = tarfile.SYMTYPE, "../../bin/busybox"
    members.append((env, b""))
    members.extend((_file(path, data, 0o644), data) for path, data in _ETC.items())
    return Blob(_tar(members))


def _files_layer(files: Mapping[str, bytes], executable: AbstractSet[str]) -> Blob:
    members: list[tuple[tarfile.TarInfo, bytes]] = [
        (_directory(name, 0o755), b"") for name in _parents(files)
    ]
    for path, data in files.items():
        inside = path.lstrip("/")
        members.append((_file(inside, data, 0o755 if inside in executable else 0o644), data))
    return Blob(_tar(members))


def _parents(files: Mapping[str, bytes]) -> Iterator[str]:
    """The directories that *files* need, outer ones first."""
    names = {
        str(parent)
        for path in files
        for parent in Path(path.lstrip("/")).parents
        if str(parent) != "."
    }
    return iter(sorted(names))


@cache
def _busybox() -> tuple[bytes, tuple[str, ...]]:
    found = shutil.which("busybox", path="/bin:/usr/bin")
    if not found:
        raise FileNotFoundError("busybox is not installed: apt-get install busybox-static")
    listed = subprocess.run([found, "--list"], capture_output=True, text=True, check=True)
    applets = tuple(name for name in listed.stdout.split() if name != "busybox")
    return Path(found).read_bytes(), applets


def _directory(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info


def _file(name: str, data: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return info


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    path.write_bytes(_tar([(_file(name, data, 0o644), data) for name, data in members.items()]))


@cache
def _packed(layer: Blob) -> Blob:
    return Blob(gzip.compress(layer.data, compresslevel=6, mtime=0))


def _json(value: Any) -> Blob:
    return Blob(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
