"""One request on its way through the server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from sampan.api.errors import BadRequest, RequestEntityTooLarge, Timeout
from sampan.apiserver.http import negotiate
from sampan.apiserver.http.negotiate import Accepted
from sampan.apiserver.http.queries import Query
from sampan.apiserver.identity import User

BODY_LIMIT: Final = 3 << 20
_QUICK: Final = 64 << 10  # as YAML, a tenth of a second
_BODY_WITHIN: Final = 60.0
SILENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Who asks for what: *parts* are the path's decoded segments."""

    request: web.BaseRequest
    parts: list[str]
    query: Query
    user: User

    @property
    def path(self) -> str:
        return "/" + "/".join(self.parts)

    @property
    def agent(self) -> str:
        return self.request.headers.get("User-Agent", "")

    @property
    def accepted(self) -> Accepted:
        """The form that the client wants its answer in; raise NotAcceptable if there is none."""
        return negotiate.accepted(",".join(self.request.headers.getall("Accept", ())))

    @property
    def content_type(self) -> str:
        return self.request.headers.get("Content-Type", "")

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """Read the whole body; raise RequestEntityTooLarge beyond *limit* bytes."""
        if (self.request.content_length or 0) > limit:
            raise too_large(limit)
        content = self.request.content
        if content.is_eof() and not content.exception():
            whole = content.read_nowait()
            if len(whole) > limit:
                raise too_large(limit)
            return whole
        received = bytearray()
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                async for chunk in self.chunks():
                    received += chunk
                    if len(received) > limit:
                        raise too_large(limit)
        except TimeoutError as error:
            raise Timeout(
                f"the body of the request did not arrive within {_BODY_WITHIN:g} s"
            ) from error
        return bytes(received)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raise Timeout when nothing comes for a while."""
        request = self.request
        if not request.body_exists:
            return
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            while True:
                async with asyncio.timeout(SILENCE):
                    chunk = await request.content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError as error:
            raise Timeout(f"the body of the request stopped arriving for {SILENCE:g} s") from error
        except (HttpProcessingError, RequestPayloadError) as error:
            raise BadRequest(f"the body of the request cannot be read: {error}") from error

    async def decoded(self) -> Any:
        body, media = await self.body(), self.content_type
        if len(body) > _QUICK and "yaml" in media:
            return await asyncio.to_thread(negotiate.decode, body, media)
        return negotiate.decode(body, media)

    async def object(self) -> dict[str, Any]:
        return negotiate.as_object(await self.decoded())


def too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {limit}")
