"""Images without a registry: archives that the server keeps, imported into this node's containerd.

A node that joins later, or was away, loads what it lacks when it starts; so `sampan image load`
reaches nodes that do not exist yet.
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import orjson
from cri_api.v1 import api_pb2
from msgspec import Struct, convert

from sampan.agent import pause
from sampan.agent.archives import NotAnArchive, image_names, unpacked
from sampan.agent.collecting import Held
from sampan.agent.config import AgentConfig
from sampan.agent.registration import Image
from sampan.agent.streams.containerd import Containerd
from sampan.agent.streams.stream import Params, Stream
from sampan.api.errors import ApiError, InternalError
from sampan.api.objects import Object
from sampan.client.http import HttpClient

ARCHIVES: Final = "/sampan/v1/images"
_CHUNK: Final = 1 << 18
_SEEN_WITHIN: Final = 5.0
_LOOK: Final = 0.01

log = logging.getLogger(__name__)


class Archive(Struct, frozen=True):
    """An archive that the server keeps."""

    id: str
    images: list[str]


class ImageStore:
    """What images this node has, and how more get here without a registry."""

    def __init__(self, config: AgentConfig, client: HttpClient, containerd: Containerd) -> None:
        self._config = config
        self._client = client
        self._containerd = containerd
        self._loading = asyncio.Lock()

    async def present(self) -> Sequence[Image]:
        answer = await self._containerd.images.ListImages(api_pb2.ListImagesRequest())
        found = [
            Image((*sorted(image.repo_digests), *sorted(image.repo_tags)), image.size)
            for image in answer.images
        ]
        return sorted(found, key=lambda image: image.names)

    async def held(self) -> Sequence[Held]:
        answer = await self._containerd.images.ListImages(api_pb2.ListImagesRequest())
        return [
            Held(image.id, (*image.repo_tags, *image.repo_digests), image.size)
            for image in answer.images
        ]

    async def in_use(self) -> frozenset[str]:
        answer = await self._containerd.cri.ListContainers(api_pb2.ListContainersRequest())
        found = {name for c in answer.containers for name in (c.image_ref, c.image.image)}
        return frozenset(found | {pause.IMAGE})

    async def kept(self) -> frozenset[str]:
        return frozenset(name for archive in await self._archives() for name in archive.images)

    async def remove(self, image: str) -> None:
        spec = api_pb2.ImageSpec(image=image)
        await self._containerd.images.RemoveImage(api_pb2.RemoveImageRequest(image=spec))

    async def ensure_pause(self) -> None:
        """Have the image that every Pod's sandbox runs."""
        if not await self._has(pause.IMAGE):
            with tempfile.NamedTemporaryFile(dir=self._config.run_dir, suffix=".tar") as file:
                file.write(pause.archive())
                file.flush()
                await self._import(Path(file.name))

    async def load_missing(self) -> None:
        """Load every archive of the server's with an image that this node lacks."""
        archives = await self._archives()
        have = {name for image in await self.present() for name in image.names}
        for archive in archives:
            if set(archive.images) - have:
                await self.load(archive.id)
                log.info("loaded %s", ", ".join(archive.images))

    async def _archives(self) -> list[Archive]:
        async with self._client.request("GET", ARCHIVES) as response:
            return convert((await response.json())["archives"], list[Archive])

    async def load(self, archive: str) -> Sequence[str]:
        """Fetch an archive and import it; return the images' names, which CRI knows by then."""
        async with self._loading, self._fetched(archive) as path:
            return await self._import(path)

    @asynccontextmanager
    async def _fetched(self, archive: str) -> AsyncIterator[Path]:
        with tempfile.NamedTemporaryFile(dir=self._config.data_dir, suffix=".image") as file:
            async with (
                self._client.request("GET", f"{ARCHIVES}/{archive}") as response,
                aclosing(unpacked(response.content.iter_chunked(_CHUNK))) as blocks,
            ):
                async for block in blocks:
                    file.write(block)
            file.flush()
            yield Path(file.name)

    async def _import(self, path: Path) -> Sequence[str]:
        names = await asyncio.to_thread(image_names, path)
        await self._ctr("import", str(path))
        for written, full in names.items():
            if written != full and not await self._has(full):
                await self._ctr("tag", "--force", written, full)
        await self._until_seen(names.values())
        return sorted(set(names.values()))

    async def _has(self, name: str) -> bool:
        wanted = api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=name))
        answer = await self._containerd.images.ImageStatus(wanted)
        return bool(answer.HasField("image"))

    async def _until_seen(self, names: Iterable[str]) -> None:
        """Wait until CRI, which hears of new images a little later, knows all of *names*."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SEEN_WITHIN
        for name in names:
            while not await self._has(name):
                if loop.time() > deadline:
                    raise NotAnArchive(f"containerd took the image but does not know {name}")
                await asyncio.sleep(_LOOK)

    async def _ctr(self, *arguments: str) -> None:
        socket = str(self._config.containerd_socket)
        running = await asyncio.create_subprocess_exec(
            *("ctr", "--address", socket, "--namespace", "k8s.io", "images", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await running.communicate()
        except asyncio.CancelledError:
            running.kill()
            await running.wait()
            raise
        if running.returncode:
            why = errors.decode(errors="replace").strip().rpartition("\n")[2]
            raise NotAnArchive(f"containerd does not take the image: {why}")


async def serve_load_image(store: ImageStore, params: Params, stream: Stream) -> None:
    """Load the archive that the server names; a failure is told as a Status in the last frame."""
    archive = str(params["id"])
    await stream.accept()  # the server waits 10 s for this, and loading may take longer
    try:
        await stream.send(_text({"images": list(await store.load(archive))}))
    except (ApiError, NotAnArchive, OSError, TimeoutError) as error:
        failure = error if isinstance(error, ApiError) else InternalError(str(error))
        await stream.send(_text(failure.status()))


def _text(value: Object) -> str:
    return orjson.dumps(value).decode()
