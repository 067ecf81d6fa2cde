"""Archives of container images, kept by the server so that nodes need no registry.

An archive is what `docker save` or an OCI tool writes, plain or gzip. It is kept under the SHA-256
of its bytes, beside a small JSON file that tells the names of the images inside.
"""

import asyncio
import gzip
import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import orjson
from msgspec import Struct

from sampan.api.errors import BadRequest, InternalError, NotFound
from sampan.api.images import normalised

_DOCKER_MANIFEST: Final = "manifest.json"
_OCI_INDEX: Final = "index.json"
_OCI_LAYOUT: Final = "oci-layout"
_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_LONGEST_INDEX: Final = 4 << 20
_FLUSH: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"


class Archive(Struct, frozen=True):
    """*id* is the SHA-256 of the file, *images* the full names of what is in it."""

    id: str
    images: list[str]
    size: int


class Archives:
    """The archives under *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[Archive]:
        found = []
        for path in sorted(self._directory.glob("*.json")):
            archive = msgspec.json.decode(path.read_bytes(), type=Archive)
            if self._file(archive.id).exists():
                found.append(archive)
        return found

    def path(self, archive_id: str) -> Path:
        """Return the file of one archive; raise NotFound."""
        path = self._file(archive_id)
        known = len(archive_id) == 64 and archive_id.isalnum()  # noqa: PLR2004 - SHA-256 in hex
        if not known or not path.exists():
            raise NotFound(f'image archive "{archive_id}" not found')
        return path

    def _file(self, archive_id: str) -> Path:
        return self._directory / f"{archive_id}.tar"

    async def keep(self, chunks: AsyncIterator[bytes]) -> Archive:
        """Write what arrives to disk and keep it; raise BadRequest if it is no image archive."""
        try:
            await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".part") as file:
                digest, size = await _write(chunks, file)
                images = await asyncio.to_thread(image_names, Path(file.name))
                archive = Archive(digest, images, size)
                await asyncio.to_thread(self._adopt, Path(file.name), archive)
        except OSError as error:
            raise InternalError(
                f"cannot keep the archive in {self._directory}: {error.strerror or error}"
            ) from error
        return archive

    def _adopt(self, part: Path, archive: Archive) -> None:
        """Keep the finished file, and drop older archives that hold nothing but older versions."""
        target = self._file(archive.id)
        if not target.exists():
            target.hardlink_to(part)
        for older in self.all():
            if older.id != archive.id and set(older.images) <= set(archive.images):
                self._file(older.id).unlink(missing_ok=True)
                self._file(older.id).with_suffix(".json").unlink(missing_ok=True)
        scratch = target.with_suffix(".json.new")
        scratch.write_bytes(msgspec.json.encode(archive))
        scratch.replace(target.with_suffix(".json"))


async def _write(chunks: AsyncIterator[bytes], file: IO[bytes]) -> tuple[str, int]:
    digest, size, waiting = hashlib.sha256(), 0, bytearray()
    async for chunk in chunks:
        waiting += chunk
        size += len(chunk)
        if len(waiting) >= _FLUSH:
            await asyncio.to_thread(_append, file, digest, bytes(waiting))
            waiting.clear()
    await asyncio.to_thread(_append, file, digest, bytes(waiting))
    await asyncio.to_thread(file.flush)
    return digest.hexdigest(), size


def _append(file: IO[bytes], digest: "hashlib._Hash", data: bytes) -> None:
    digest.update(data)
    file.write(data)


def image_names(path: Path) -> list[str]:
    """Return the full names of the images in an archive; raise BadRequest if it is none."""
    try:
        indexes = _indexes(path)
        found = [*_docker_names(indexes), *_oci_names(indexes)]
        names = sorted({normalised(name) for name in found})
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _no_archive(str(error) or "it is damaged") from error
    except (orjson.JSONDecodeError, TypeError, AttributeError) as error:
        raise _no_archive("its index cannot be read") from error
    if not names:
        raise BadRequest("the archive names no image: save it by name, `docker save NAME:TAG`")
    return names


def _indexes(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
    found: dict[str, Any] = {}
    with tarfile.open(path, "r|gz" if packed else "r|") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name not in {_DOCKER_MANIFEST, _OCI_INDEX, _OCI_LAYOUT}:
                continue
            file = archive.extractfile(member)
            if file is None or member.size > _LONGEST_INDEX:
                raise _no_archive(f"its {name} is not a file of a few kilobytes")
            found[name] = orjson.loads(file.read())
    if _DOCKER_MANIFEST not in found and not {_OCI_INDEX, _OCI_LAYOUT} <= found.keys():
        raise _no_archive("it has neither manifest.json (docker save) nor index.json (OCI layout)")
    return found


def _docker_names(indexes: Mapping[str, Any]) -> Iterable[str]:
    for image in indexes.get(_DOCKER_MANIFEST) or ():
        yield from image.get("RepoTags") or ()


def _oci_names(indexes: Mapping[str, Any]) -> Iterable[str]:
    """Read the names from annotations: containerd's is a full name, OCI's may be only a tag."""
    for manifest in (indexes.get(_OCI_INDEX) or {}).get("manifests") or ():
        annotations = manifest.get("annotations") or {}
        names = [annotations[name] for name in _NAMES if name in annotations]
        if names and (
            "io.containerd.image.name" in annotations or "/" in names[0] or ":" in names[0]
        ):
            yield names[0]


def _no_archive(why: str) -> BadRequest:
    return BadRequest(f"this is not an image archive: {why}")
