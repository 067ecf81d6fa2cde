"""The agent's side of the tunnel: it dials out, so a node needs no open port.

One control socket stays; for everything that the server asks for, another is dialled that carries
only that. A stream outlives a broken control socket, as long as its own holds.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
import orjson
from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import decode

from sampan.agent.streams.stream import Frame, Verb
from sampan.aio.backoff import Backoff
from sampan.api.errors import ApiError, BadRequest, InternalError
from sampan.api.objects import Object
from sampan.client.http import HttpClient

CONTROL: Final = "/sampan/v1/tunnel"
STREAMS: Final = "/sampan/v1/streams"
_GRANTED: Final[Object] = {
    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200,
}  # fmt: skip
_REDIAL: Final = Backoff(first=0.1, cap=3.0)

log = logging.getLogger(__name__)


class Opening(Struct, frozen=True, rename={"id": "open"}):
    """What the server sends down the control socket."""

    id: str
    verb: str
    params: dict[str, Any] = {}


class Tunnel:
    def __init__(self, client: HttpClient, verbs: Mapping[str, Verb]) -> None:
        self._client = client
        self._verbs = verbs

    async def run(self) -> None:
        """Keep the control socket open until cancelled; cancelling ends the streams too."""
        failures = 0
        async with asyncio.TaskGroup() as streams:
            while True:
                try:
                    async with self._client.websocket(CONTROL) as control:
                        failures = 0
                        await self._obey(control, streams)
                    why = "the server closed it"
                except (ApiError, OSError, aiohttp.ClientError) as error:
                    why = str(error)
                failures += 1
                pause = _REDIAL.delay(failures)
                log.info("the tunnel is down: %s; dialling again in %g s", why, pause)
                await asyncio.sleep(pause)

    async def _obey(
        self, control: "aiohttp.ClientWebSocketResponse[bool]", streams: asyncio.TaskGroup
    ) -> None:
        async for message in control:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                opening = decode(message.data, type=Opening)
            except DecodeError as error:
                log.warning("the server sent what is no request: %s", error)
            else:
                streams.create_task(self._serve(opening), name=f"{opening.verb} stream")

    def _verb(self, name: str) -> Verb:
        if name not in self._verbs:
            raise BadRequest(f"this agent does not know {name!r}: is it older than the server?")
        return self._verbs[name]

    async def _serve(self, opening: Opening) -> None:
        """Dial the stream that the server asked for, and do there what it asked."""
        try:
            path = f"{STREAMS}/{opening.id}"
            async with self._client.websocket(path, heartbeat=None) as websocket:
                await self._do(opening, _Dialled(websocket))
        except (ApiError, OSError, aiohttp.ClientError) as error:
            log.info("%s: the stream broke: %s", opening.verb, error)

    async def _do(self, opening: Opening, stream: "_Dialled") -> None:
        """Run the verb; whatever goes wrong in it is that request's failure alone."""
        try:
            await self._verb(opening.verb)(opening.params, stream)
        except* (ConnectionError, aiohttp.ClientError):
            log.debug("%s: the client left", opening.verb)
        except* ApiError as errors:
            await stream.refuse(_first(errors))
        except* ValidationError as errors:
            await stream.refuse(BadRequest(str(errors.exceptions[0])))
        except* Exception as errors:
            log.exception("%s failed", opening.verb)
            await stream.refuse(InternalError(f"the agent failed: {errors.exceptions[0]!r}"))


def _first(errors: BaseExceptionGroup[ApiError]) -> ApiError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


class _Dialled:
    """A stream over a WebSocket of its own."""

    def __init__(self, websocket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        self._websocket = websocket
        self._answered = False

    async def accept(self) -> None:
        await self._answer(_GRANTED)

    async def refuse(self, error: ApiError) -> None:
        """Answer with *error*; once the request is granted, only breaking off is left."""
        if self._answered:
            log.warning("a stream was broken off: %s", error)
            await self._websocket.close(code=aiohttp.WSCloseCode.INTERNAL_ERROR)
        elif not self._websocket.closed:
            await self._answer(error.status())

    async def send(self, frame: Frame) -> None:
        if isinstance(frame, str):
            await self._websocket.send_str(frame)
        else:
            await self._websocket.send_bytes(frame)

    async def frames(self) -> AsyncIterator[Frame]:
        async for message in self._websocket:
            if message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT}:
                yield message.data

    async def _answer(self, status: Object) -> None:
        self._answered = True
        await self._websocket.send_str(orjson.dumps(status).decode())
