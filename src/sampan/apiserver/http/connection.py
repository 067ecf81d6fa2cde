"""One client's connection: bounds on what it may send before it is heard, errors as Statuses."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from sampan.api.errors import ApiError, BadRequest, InternalError
from sampan.apiserver.http import answers

FIRST_REQUEST_WITHIN: Final = 15.0
_IDLE_LIMIT: Final = 120.0  # longer than clients keep idle connections, so that they close them
_LONGEST_LINE: Final = 64 << 10
_LONGEST_HEADER: Final = 32 << 10
_LONGEST_REASON: Final = 100

_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 20,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 40_000,
}

_SILENT = logging.Logger("sampan.access", logging.CRITICAL)  # noqa: LOG001 - outside the tree, so that nothing enables it
log = logging.getLogger(__name__)


class Connection(RequestHandler):
    __slots__ = ("_sink",)
    _sink: Callable[[bytes], None] | None

    def take_over(self, sink: Callable[[bytes], None]) -> None:
        """From now on give what arrives to *sink*: it is no HTTP any more."""
        self._sink = sink

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            super().data_received(data)
        else:
            self._sink(data)

    def connection_made(self, transport: Any) -> None:
        self._sink = None
        super().connection_made(transport)
        _notice_the_dead(transport.get_extra_info("socket"))
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        loop = self._loop
        self._next_keepalive_close_time = loop.time() + FIRST_REQUEST_WITHIN
        self._keepalive_handle = loop.call_at(
            self._next_keepalive_close_time, self._process_keepalive
        )

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not even HTTP, or what broke below the handler."""
        error: ApiError
        if status == 400:  # noqa: PLR2004
            what = (message or str(exc)).partition("\n")[0][:_LONGEST_REASON]
            error = BadRequest(f"this is not a valid HTTP request: {what}")
        else:
            log.error("a request failed", exc_info=exc)
            error = InternalError("Internal error occurred: see the server's log")
        response = answers.refuse(error)
        response.force_close()
        return response


def _notice_the_dead(wire: socket.socket | None) -> None:
    """Have the kernel end a connection whose other side vanished, however silent it was."""
    if wire is None or wire.family == socket.AF_UNIX:
        return
    for option, value in _KEEPALIVE.items():
        wire.setsockopt(socket.IPPROTO_TCP, option, value)


class _Request(web.BaseRequest):
    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Keep to ourselves what we are made of."""
        response.headers.pop(hdrs.SERVER, None)


class Connections(web.Server):
    """Makes and knows the connections of all listening sockets."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: "asyncio.Task[None]"
    ) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            access_log=_SILENT,
            keepalive_timeout=_IDLE_LIMIT,
            lingering_time=1.0,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_HEADER,
            auto_decompress=False,
        )
