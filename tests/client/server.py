"""A small API server whose answers the tests write, and that remembers what it was asked."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeApi:
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    handlers: dict[tuple[str, str], Handler] = field(default_factory=dict)

    def on(self, method: str, path: str, handler: Handler) -> None:
        self.handlers[method, path] = handler

    def answer(self, method: str, path: str, body: Any, status: int = 200) -> None:
        async def handler(_: web.Request) -> web.Response:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            return web.Response(body=data, status=status, content_type="application/json")

        self.on(method, path, handler)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = b"" if request.headers.get("Upgrade") else await request.read()
        try:
            body = orjson.loads(raw) if raw else None
        except orjson.JSONDecodeError:
            body = raw
        self.asked.append(
            Asked(request.method, request.path, dict(request.query), dict(request.headers), body)
        )
        return await self.handlers[request.method, request.path](request)


def lines(*texts: bytes, then_break: bool = False) -> Handler:
    """Answer with *texts* as they are, each its own chunk; and with *then_break* hang up."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for text in texts:
            await response.write(text)
        if then_break:
            assert request.transport
            request.transport.abort()
        return response

    return handler


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeApi]:
    api = FakeApi()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert runner.addresses
    api.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()
