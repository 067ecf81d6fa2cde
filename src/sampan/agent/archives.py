"""What an image archive holds, by its own index: for images that come without a registry."""

import tarfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from sampan.api.images import normalised

_NAME: Final = "io.containerd.image.name"
_REF: Final = "org.opencontainers.image.ref.name"
_GZIP: Final = b"\x1f\x8b"


class NotAnArchive(Exception):
    """Neither a docker-archive nor an OCI archive; the text says what is wrong."""


def image_names(path: Path) -> Mapping[str, str]:
    """Return the names of the images in an archive: as they are written there, and normalised."""
    try:
        with tarfile.open(path) as archive:
            members = {member.name.removeprefix("./"): member for member in archive}
            for index, read in (("manifest.json", _docker_names), ("index.json", _oci_names)):
                if (member := members.get(index)) and (file := archive.extractfile(member)):
                    return {name: normalised(name) for name in read(orjson.loads(file.read()))}
    except (tarfile.TarError, orjson.JSONDecodeError, EOFError) as error:
        raise NotAnArchive(f"not an image archive: {error}") from error
    raise NotAnArchive("not an image archive: it has neither manifest.json nor index.json")


def _docker_names(manifests: Any) -> list[str]:
    return [name for manifest in manifests for name in manifest.get("RepoTags") or ()]


def _oci_names(index: Any) -> list[str]:
    """Names that say which image; a bare tag, which some tools write, does not."""
    notes = [manifest.get("annotations") or {} for manifest in index.get("manifests") or ()]
    names = [note.get(_NAME) or note.get(_REF, "") for note in notes]
    return [name for name in names if ":" in name or "/" in name or "@" in name]


async def unpacked(blocks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield *blocks*, gunzipped if they are gzip: containerd imports plain tar only."""
    decoder: Any = None
    begun = False
    async for block in blocks:
        if not begun:
            begun = True
            decoder = zlib.decompressobj(zlib.MAX_WBITS | 16) if block[:2] == _GZIP else None
        try:
            yield decoder.decompress(block) if decoder else block
        except zlib.error as error:
            raise NotAnArchive(f"not an image archive: {error}") from error
    if decoder:
        yield decoder.flush()
