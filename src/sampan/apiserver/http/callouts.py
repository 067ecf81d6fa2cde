"""Calls of webhooks: of a URL, or of a Service's Pods through the tunnel of their node.

The server may stand outside the Pods' network, so a Service is not reached by its address but by a
ready endpoint of it, as `kubectl port-forward` would; an endpoint that is no Pod is dialled.
"""

import asyncio
import base64
import binascii
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from sampan.api.errors import ApiError, InternalError, NotFound, ServiceUnavailable
from sampan.api.kinds import ENDPOINT_SLICES, SERVICES
from sampan.api.objects import Object
from sampan.apiserver.http.proxy import connected
from sampan.apiserver.interface import ListOptions, Place, Registry
from sampan.apiserver.tunnel import Tunnels

_HTTPS: Final = 443
_SHOWN: Final = 300


class Callouts:
    """Posts a JSON body to what a `clientConfig` names, while it is `running`."""

    def __init__(self, registry: Registry, tunnels: Tunnels) -> None:
        self._registry = registry
        self._tunnels = tunnels
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections to URLs open while this lasts."""
        async with aiohttp.ClientSession() as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None

    async def __call__(self, config: Object, body: Object, seconds: float) -> Object:
        """Return the JSON object that is answered; raise ApiError if there is none in time."""
        url = _url(config).update_query(timeout=f"{seconds:g}s")
        try:
            async with asyncio.timeout(seconds), AsyncExitStack() as stack:
                session, trust = await self._way(config, url, stack)
                async with session.post(
                    url, data=orjson.dumps(body), ssl=trust, allow_redirects=False,
                    headers={"Content-Type": "application/json", "Accept": "application/json"},
                ) as response:  # fmt: skip
                    return await _answered(response)
        except TimeoutError as error:
            raise InternalError(f'Post "{url}": context deadline exceeded') from error
        except ExceptionGroup as errors:
            raise _why(url, errors.exceptions[0]) from errors
        except (aiohttp.ClientError, OSError, ApiError) as error:
            raise _why(url, error) from error

    async def _way(
        self, config: Object, url: URL, stack: AsyncExitStack
    ) -> tuple[aiohttp.ClientSession, ssl.SSLContext]:
        if self._session is None:
            raise ServiceUnavailable("the server is not running")
        trust = _trust(config.get("caBundle") or "")
        service = config.get("service")
        if not service:
            return self._session, trust
        link = await self._connected(service, stack)
        connector = _Connector(link, trust, url.host or "")
        return await stack.enter_async_context(aiohttp.ClientSession(connector=connector)), trust

    async def _connected(self, service: Object, stack: AsyncExitStack) -> socket.socket:
        """A socket to a ready endpoint of *service*."""
        endpoint, port = await self._endpoint(service)
        ref = endpoint.get("targetRef") or {}
        node = endpoint.get("nodeName", "")
        if ref.get("kind") == "Pod" and node in self._tunnels.nodes():
            params = {"namespace": ref["namespace"], "pod": ref["name"], "port": port}
            stream = await stack.enter_async_context(
                self._tunnels.stream(node, "portforward", params)
            )
            return await stack.enter_async_context(connected(stream))
        link = socket.socket(socket.AF_INET)
        link.setblocking(False)
        stack.callback(link.close)
        await asyncio.get_running_loop().sock_connect(link, (endpoint["addresses"][0], port))
        return link

    async def _endpoint(self, service: Object) -> tuple[Object, int]:
        namespace, name = service["namespace"], service["name"]
        wanted = service.get("port", _HTTPS)
        found = (await self._registry.get(Place(SERVICES, namespace, name))).object
        ports = [p for p in found["spec"].get("ports") or () if p["port"] == wanted]
        if not ports:
            raise NotFound(f'no service port {wanted} found for service "{name}"')
        labels = f"kubernetes.io/service-name={name}"
        page = await self._registry.list(
            Place(ENDPOINT_SLICES, namespace), ListOptions(labels=labels)
        )
        for entry in page.items:
            for port in entry.object.get("ports") or ():
                if (port.get("name") or "") == (ports[0].get("name") or ""):
                    for endpoint in entry.object.get("endpoints") or ():
                        if (endpoint.get("conditions") or {}).get("ready", True):
                            return endpoint, port["port"]
        raise ServiceUnavailable(f'no endpoints available for service "{name}"')


def _url(config: Object) -> URL:
    if service := config.get("service"):
        host = f"{service['name']}.{service['namespace']}.svc"
        port, path = service.get("port", _HTTPS), service.get("path") or "/"
        return URL(f"https://{host}:{port}{path if path.startswith('/') else '/' + path}")
    return URL(config.get("url") or "")


@lru_cache(maxsize=64)
def _trust(bundle: str) -> ssl.SSLContext:
    """Trust the certificates in *bundle* (PEM in base64), or else what this machine trusts."""
    try:
        pem = base64.b64decode(bundle).decode()
        return ssl.create_default_context(cadata=pem or None)
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise InternalError(f"unable to load root certificates: {error}") from error


async def _answered(response: aiohttp.ClientResponse) -> Object:
    body = await response.read()
    if not response.ok:
        said = body[:_SHOWN].decode(errors="replace").strip() or str(response.reason)
        raise InternalError(f'the server answered {response.status}: "{said}"')
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InternalError(f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise InternalError("the answer is not a JSON object")
    return answer


def _why(url: URL, error: BaseException) -> InternalError:
    why = " ".join(str(error).split()) or type(error).__name__
    return InternalError(f'Post "{url}": {why}')


class _Connector(aiohttp.BaseConnector):
    """Speaks TLS over a socket that is connected already."""

    def __init__(self, link: socket.socket, trust: ssl.SSLContext, host: str) -> None:
        super().__init__(force_close=True)
        self._link = link
        self._trust = trust
        self._host = host

    async def _create_connection(self, *_: Any, **__: Any) -> ResponseHandler:
        self._link.setblocking(False)
        pair = await self._loop.create_connection(
            self._factory, sock=self._link, ssl=self._trust, server_hostname=self._host
        )
        return pair[1]
