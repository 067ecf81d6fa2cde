"""Image archives over HTTP: taken from people, handed to nodes, and told to all of them at once."""

import asyncio
from typing import Any

import orjson
from aiohttp import web
from msgspec import to_builtins

from sampan.api.errors import ApiError, InternalError, MethodNotAllowed, error_from_status
from sampan.apiserver.http import answers
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.negotiate import JSON
from sampan.apiserver.images import Archive, Archives
from sampan.apiserver.tunnel import Frame, Tunnels


class Images:
    def __init__(self, archives: Archives, tunnels: Tunnels) -> None:
        self._archives = archives
        self._tunnels = tunnels

    async def serve(self, exchange: Exchange, archive_id: str = "") -> web.StreamResponse:
        match exchange.request.method, archive_id:
            case "GET" | "HEAD", "":
                found = await asyncio.to_thread(self._archives.all)
                return await answers.send_object(exchange, {"archives": to_builtins(found)})
            case "GET" | "HEAD", _:
                return web.FileResponse(await asyncio.to_thread(self._archives.path, archive_id))
            case "POST", "":
                return await self._load(exchange)
        raise MethodNotAllowed("the server does not allow this method on this path")

    async def _load(self, exchange: Exchange) -> web.StreamResponse:
        """Keep the archive, then have every connected node fetch it, telling how that goes."""
        archive = await self._archives.keep(exchange.chunks())
        lines = _Lines(exchange)
        await lines.begin()
        await lines.send({"archive": archive.id, "images": archive.images})
        failed: list[str] = []
        async with asyncio.TaskGroup() as group:
            for node in self._tunnels.nodes():
                group.create_task(self._load_on(node, archive, lines, failed))
        await lines.send({"done": True, "failed": sorted(failed)})
        return lines.response

    async def _load_on(
        self, node: str, archive: Archive, lines: "_Lines", failed: list[str]
    ) -> None:
        await lines.send({"node": node, "phase": "loading", "message": ""})
        try:
            async with self._tunnels.stream(node, "load-image", {"id": archive.id}) as agent:
                _check_loaded(await agent.receive())
        except ApiError as error:
            failed.append(node)
            await lines.send({"node": node, "phase": "failed", "message": error.message})
        else:
            await lines.send({"node": node, "phase": "loaded", "message": ""})


def _check_loaded(frame: Frame | None) -> None:
    """Raise what the node's last frame tells, if that is a failure."""
    if frame is None:
        raise InternalError("the node hung up before it was done")
    try:
        failed = (answer := orjson.loads(frame))["status"] == "Failure"
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return
    if failed:
        raise error_from_status(answer)


class _Lines:
    """An answer that grows by lines of JSON."""

    def __init__(self, exchange: Exchange) -> None:
        self._request = exchange.request
        self.response = web.StreamResponse(headers={"Cache-Control": "no-cache, private"})
        self.response.content_type = JSON
        self.response.enable_chunked_encoding()

    async def begin(self) -> None:
        await self.response.prepare(self._request)

    async def send(self, value: Any) -> None:
        await self.response.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
