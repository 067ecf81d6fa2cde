"""`pods/NAME:PORT/proxy/…` and `services/NAME:PORT/proxy/…`: HTTP to a Pod through the tunnel.

The request goes to the Pod as it came, less what is between the client and this server; the answer
comes back as it is. WebSockets are not carried.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from sampan.api.errors import BadRequest, InternalError, NotFound, ServiceUnavailable
from sampan.api.kinds import ENDPOINT_SLICES, PODS, SERVICES
from sampan.api.objects import Object
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.paths import Target
from sampan.apiserver.interface import ListOptions, Place, Registry
from sampan.apiserver.tunnel import Tunnels

_CHUNK: Final = 1 << 16
_ANSWERED_WITHIN: Final = 60.0
_OURS: Final = frozenset({
    "authorization", "connection", "host", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
})  # fmt: skip


class Backend(Struct, frozen=True):
    """A port of a Pod, and the node that the Pod is on."""

    namespace: str
    pod: str
    node: str
    port: int


class Proxy:
    def __init__(self, registry: Registry, tunnels: Tunnels) -> None:
        self._registry = registry
        self._tunnels = tunnels

    async def serve(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        scheme, name, port = _parsed(target.name)
        if scheme == "https":
            raise BadRequest("the proxy speaks HTTP to Pods, not HTTPS: use kubectl port-forward")
        if "Upgrade" in exchange.request.headers:
            raise BadRequest("the proxy carries no upgrades: use kubectl port-forward")
        find = self._of_service if target.kind is SERVICES else self._of_pod
        backend = await find(target.namespace, name, port)
        params = {"namespace": backend.namespace, "pod": backend.pod, "port": backend.port}
        async with (
            self._tunnels.stream(backend.node, "portforward", params) as stream,
            connected(stream) as local,
            aiohttp.ClientSession(connector=_Connector(local), auto_decompress=False) as session,
        ):
            return await _relay(exchange, session, f"{name}:{backend.port}")

    async def _of_pod(self, namespace: str, name: str, port: str) -> Backend:
        entry = await self._registry.get(Place(PODS, namespace, name))
        spec = entry.object["spec"]
        if not spec.get("nodeName"):
            raise BadRequest(f"pod {name} does not have a host assigned")
        return Backend(namespace, name, spec["nodeName"], _pod_port(entry.object, port))

    async def _of_service(self, namespace: str, name: str, port: str) -> Backend:
        await self._registry.get(Place(SERVICES, namespace, name))
        labels = f"kubernetes.io/service-name={name}"
        page = await self._registry.list(
            Place(ENDPOINT_SLICES, namespace), ListOptions(labels=labels)
        )
        found = next(_backends((entry.object for entry in page.items), port), None)
        if found is None:
            raise ServiceUnavailable(f'no endpoints available for service "{name}"')
        return found


def _parsed(text: str) -> tuple[str, str, str]:
    """Read `[SCHEME:]NAME[:PORT]`."""
    match text.split(":"):
        case [name]:
            return "", name, ""
        case [name, port]:
            return "", name, port
        case [scheme, name, port]:
            return scheme, name, port
    raise BadRequest(f"invalid name for a proxy request: {text!r}")


def _pod_port(pod: Object, port: str) -> int:
    """Read the port's number, or find its name; the first one is meant if there is none."""
    ports = [each for c in pod["spec"]["containers"] for each in c.get("ports") or ()]
    if port.isdigit():
        return int(port)
    for each in ports:
        if port in {"", each.get("name")}:
            return int(each["containerPort"])
    if port:
        raise NotFound(f'pod {pod["metadata"]["name"]} has no port "{port}"')
    return 80


def _backends(slices: Iterable[Object], port: str) -> Iterator[Backend]:
    """The ready Pods behind *port* (its name, or its number in the Pods)."""
    for found in slices:
        for each in found.get("ports") or ():
            if port not in {"", each.get("name") or "", str(each.get("port"))}:
                continue
            for endpoint in found.get("endpoints") or ():
                ref = endpoint.get("targetRef") or {}
                ready = (endpoint.get("conditions") or {}).get("ready", True)
                if ready and ref.get("kind") == "Pod" and endpoint.get("nodeName"):
                    yield Backend(ref["namespace"], ref["name"], endpoint["nodeName"], each["port"])


@asynccontextmanager
async def connected(stream: Any) -> AsyncIterator[socket.socket]:
    """Give a local socket whose other end is *stream*."""
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=far)
    try:
        async with asyncio.TaskGroup() as group:
            pumps = [
                group.create_task(_up(reader, stream)),
                group.create_task(_down(stream, writer)),
            ]
            yield near
            for pump in pumps:
                pump.cancel()
    finally:
        near.close()
        writer.close()


async def _up(reader: asyncio.StreamReader, stream: Any) -> None:
    try:
        while data := await reader.read(_CHUNK):
            await stream.send(data)
    except ConnectionError:
        return


async def _down(stream: Any, writer: asyncio.StreamWriter) -> None:
    try:
        while frame := await stream.receive():
            writer.write(frame if isinstance(frame, bytes) else frame.encode())
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, OSError):
        return


class _Connector(aiohttp.BaseConnector):
    """Connects by a socket that is there already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(force_close=True)
        self._socket = connected

    async def _create_connection(self, *_: Any, **__: Any) -> ResponseHandler:
        self._socket.setblocking(False)
        pair = await self._loop.create_connection(self._factory, sock=self._socket)
        return pair[1]


async def _relay(
    exchange: Exchange, session: aiohttp.ClientSession, host: str
) -> web.StreamResponse:
    request = exchange.request
    path = request.raw_path.partition("/proxy")[2]
    url = URL(f"http://{host}{path if path.startswith('/') else '/' + path}", encoded=True)
    body = exchange.chunks() if request.body_exists else None
    timeout = aiohttp.ClientTimeout(total=None, sock_read=_ANSWERED_WITHIN)
    try:
        async with session.request(
            request.method, url, data=body, headers=_passed(request.headers), timeout=timeout,
            allow_redirects=False, skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:  # fmt: skip
            response = web.StreamResponse(status=answer.status, headers=_passed(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response
    except (aiohttp.ClientError, TimeoutError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InternalError(f"error trying to reach {host}: {why}") from error


def _passed(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _OURS and not name.lower().startswith("impersonate-")
    )
