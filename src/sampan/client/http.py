"""The API over HTTP: one connection pool for requests, and one for what stays open.

Watches, logs and uploads hold a connection for as long as they last. They never count against the
limit of the requests' pool, so however many there are, a write does not wait for one to end.
"""

import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Literal, Self

import aiohttp
import orjson

from sampan import __version__
from sampan.api.errors import ApiError, InternalError, ServiceUnavailable, error_from_status
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.client.connection import Connection, KubeconfigError
from sampan.client.interface import Listing, PatchType, WatchEvent

__all__ = ["Connection", "HttpClient", "KubeconfigError"]

PAGE: Final = 500
REQUESTS: Final = 32
"""How many requests may be under way at once; more wait for their turn."""
FIELD_MANAGER: Final = "sampan"
_CONNECT: Final = 10.0
_ANSWER: Final = 60.0
_WATCH: Final = (300, 600)
"""Seconds after which a watch ends by itself; spread, so that not all come back at once."""


class HttpClient:
    """A `Client`; use it as an async context manager, in the loop that it is entered in."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._requests: aiohttp.ClientSession
        self._streams: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        answer = aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT)
        forever = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
        self._requests = _session(self.connection, REQUESTS, answer)
        self._streams = _session(self.connection, 0, forever)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._requests.close()
        await self._streams.close()

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return await self._object("GET", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        items: list[Object] = []
        params = _selectors(labels, fields) | {"limit": str(PAGE)}
        while True:
            page = await self._object("GET", kind.path(namespace), params=params)
            items += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not (more := metadata.get("continue")):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            params["continue"] = more

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        params = _selectors(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(random.randint(*_WATCH)),  # noqa: S311 - no secret
        }
        async with (
            self.request("GET", kind.path(namespace), params=params) as response,
            aclosing(_lines(response.content)) as lines,
        ):
            async for line in lines:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise error_from_status(event["object"])
                yield WatchEvent(event["type"], event["object"])

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        namespace, name = _place(obj)
        path = kind.path(namespace, name if subresource else "", subresource)
        return await self._object("POST", path, body=obj)

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        path = kind.path(*_place(obj), subresource)
        return await self._object("PUT", path, body=obj)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str = "",
        *,
        subresource: str = "",
        how: PatchType = PatchType.MERGE,
    ) -> Object:
        path = kind.path(namespace, name, subresource)
        params = (
            {"fieldManager": FIELD_MANAGER, "force": "true"} if how is PatchType.APPLY else None
        )
        return await self._object("PATCH", path, body=patch, params=params, content_type=how)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> None:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        await self._object("DELETE", kind.path(namespace, name), body=options)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        data: Any = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask for what the kinds do not cover, and read the answer as it comes, without a limit.

        Raises an ApiError for an answer of 400 or more, and when the connection breaks.
        """
        body, headers = data, {}
        if json is not None:
            body, headers = orjson.dumps(json), {"Content-Type": "application/json"}
        return self._answered(self._streams, method, path, params, body, headers)

    @asynccontextmanager
    async def websocket(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
        heartbeat: float | None = 10,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket to *path*, without a limit on the size of messages.

        With no *heartbeat* the other side may read as slowly as it likes; otherwise a connection
        that is only full is soon taken for a dead one.
        """
        try:
            opened = self._streams.ws_connect(
                self.connection.server + path,
                params=params,
                protocols=tuple(protocols),
                max_msg_size=0,
                heartbeat=heartbeat,
            )
            async with opened as websocket:
                if heartbeat is None:
                    connection = websocket.get_extra_info("socket")
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
                yield websocket
        except aiohttp.WSServerHandshakeError as error:
            raise error_from_status({"message": error.message}, error.status) from error
        except aiohttp.ClientError as error:
            raise self._unavailable(error) from error

    async def _object(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data else {}
        async with self._answered(self._requests, method, path, params, data, headers) as response:
            try:
                answer: Object = orjson.loads(await response.read())
            except orjson.JSONDecodeError as error:
                raise InternalError(f"{method} {path}: the answer is not JSON") from error
            return answer

    @asynccontextmanager
    async def _answered(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        data: Any,
        headers: Mapping[str, str],
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.connection.server + path
        try:
            request = session.request(method, url, params=params, data=data, headers=headers)
            async with request as response:
                if response.status >= 400:  # noqa: PLR2004 - HTTP's line between good and bad
                    raise await _refusal(response)
                yield response
        except aiohttp.ClientError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ApiError:
        server = self.connection.server
        match error:
            case aiohttp.ClientConnectorCertificateError():
                why = f"its certificate is not to be trusted ({error.certificate_error})"
            case aiohttp.ClientConnectorError():
                why = error.strerror or str(error.os_error)
            case aiohttp.ServerTimeoutError():
                why = "no answer in time"
            case _:
                why = f"the connection broke ({error})"
        return ServiceUnavailable(f"{server} cannot be reached: {why}")


def _session(
    connection: Connection, limit: int, timeout: aiohttp.ClientTimeout
) -> aiohttp.ClientSession:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"{FIELD_MANAGER}/{__version__}",
    }
    if connection.token:
        headers["Authorization"] = f"Bearer {connection.token}"
    connector = aiohttp.TCPConnector(
        limit=limit,
        ssl=connection.tls or True,
        keepalive_timeout=20,
        socket_factory=_socket,
    )
    return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)


def _socket(address: Any) -> socket.socket:
    """A socket that notices within 10 s that the other side is gone, even if nothing is sent."""
    family, type_, protocol, _, _ = address
    made = socket.socket(family, type_, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)
    return made


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    content = await response.read()
    try:
        status = orjson.loads(content)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        status = {"message": content.decode(errors="replace").strip()[:500]}
    return error_from_status(status, response.status)


async def _lines(stream: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Split *stream* into lines of any length, each as soon as it is there."""
    begun = bytearray()
    async for chunk in stream.iter_any():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = bytes(begun + end)
            begun.clear()
            if line.strip():
                yield line
        begun += rest


def _selectors(labels: str, fields: str) -> dict[str, str]:
    given = {"labelSelector": labels, "fieldSelector": fields}
    return {name: text for name, text in given.items() if text}


def _place(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata.get("name", "")
