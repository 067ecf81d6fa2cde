"""What the server says about itself: discovery, OpenAPI, version, health, metrics, OpenID."""

import asyncio
import platform
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from sampan import KUBERNETES_VERSION, __version__
from sampan.api.errors import MethodNotAllowed, NotFound
from sampan.api.kinds import KINDS, Kind
from sampan.apiserver import discovery, openapi_proto, schemas
from sampan.apiserver.http import answers
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.metrics import TYPE, Metrics
from sampan.apiserver.http.negotiate import JSON
from sampan.apiserver.http.stats import GROUP as METRICS
from sampan.apiserver.interface import Kinds
from sampan.apiserver.openapi import OpenApi
from sampan.apiserver.tokens import Tokens

_VERSION: Final = f"v{KUBERNETES_VERSION}"
_ROOTS: Final = (
    "/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3",
    "/openid/v1/jwks", "/readyz", "/version", "/.well-known/openid-configuration",
)  # fmt: skip
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class Info:
    def __init__(
        self,
        address: str,
        catalog: Kinds,
        tokens: Tokens,
        metrics: Metrics,
        *,
        ready: Callable[[], bool],
        gauges: Callable[[], Mapping[str, float]],
    ) -> None:
        self._address = address
        self._tokens = tokens
        self._metrics = metrics
        self._ready = ready
        self._gauges = gauges
        self._catalog = catalog
        self._documents = OpenApi(KINDS, schemas.definitions, schemas.types, _VERSION)
        self._edition = 0

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return self._catalog.kinds

    @property
    def _openapi(self) -> OpenApi:
        """The documents of what is served now."""
        if self._edition != self._catalog.edition:
            self._edition = self._catalog.edition
            self._documents = self._documents.of([k for k in self._kinds if k.group != METRICS])
        return self._documents

    async def serve(self, exchange: Exchange) -> web.StreamResponse:  # noqa: PLR0911 - a line a path
        """Answer a path that names no resource; raise NotFound for an unknown one."""
        if exchange.request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed("the server does not allow this method on this path")
        match exchange.parts:
            case [""]:
                groups = [f"/apis/{kind.api_version}" for kind in self._kinds if kind.group]
                return await answers.send_object(exchange, {"paths": sorted({*_ROOTS, *groups})})
            case ["version"]:
                return await answers.send_object(exchange, version())
            case ["livez" | "healthz", *_]:
                return web.Response(text="ok")
            case ["readyz", *_]:
                return self._readiness()
            case ["metrics"]:
                text = self._metrics.text({**self._gauges(), **_memory()})
                return web.Response(body=text.encode(), headers={"Content-Type": TYPE})
            case [".well-known", "openid-configuration"]:
                return await answers.send_object(exchange, self._tokens.discovery())
            case ["openid", "v1", "jwks"]:
                return await answers.send_object(exchange, self._tokens.jwks())
            case ["openapi", *rest]:
                return await self._openapi_document(exchange, "/".join(rest))
        return await self._discover(exchange)

    def _readiness(self) -> web.Response:
        if self._ready():
            return web.Response(text="ok")
        return web.Response(status=503, text="the server is still starting")

    async def _openapi_document(self, exchange: Exchange, name: str) -> web.StreamResponse:
        """Answer with a document; making one takes long enough to be kept off the event loop."""
        if name == "v2" and openapi_proto.ASKED_AS in exchange.request.headers.get("Accept", ""):
            packed = await asyncio.to_thread(self._openapi.v2_protobuf)
            return await answers.send_packed(exchange, packed, openapi_proto.MEDIA_TYPE)
        if name == "v3":
            return await answers.send(exchange, self._openapi.index())
        packed = await asyncio.to_thread(self._document, name)
        return await answers.send_packed(exchange, packed, JSON)

    def _document(self, name: str) -> bytes:
        document = (
            self._openapi.v2() if name == "v2" else self._openapi.v3(name.removeprefix("v3/"))
        )
        if document is None:
            raise NotFound("the server could not find the requested resource")
        return document

    async def _discover(self, exchange: Exchange) -> web.Response:
        accepted = exchange.accepted
        parts = exchange.parts
        if accepted.form == discovery.AGGREGATED and parts in (["api"], ["apis"]):
            version_ = "v2" if accepted.version != "v2beta1" else "v2beta1"
            document = discovery.aggregated(self._kinds, core=parts == ["api"], version=version_)
            media = f"{JSON};g=apidiscovery.k8s.io;v={version_};as={discovery.AGGREGATED}"
            return web.Response(body=orjson.dumps(document), headers={"Content-Type": media})
        found = self._legacy(parts)
        if found is None:
            raise NotFound("the server could not find the requested resource")
        return await answers.send_object(exchange, found)

    def _legacy(self, parts: list[str]) -> Any:
        match parts:
            case ["api"]:
                return discovery.api_versions(self._address)
            case ["api", "v1"]:
                return discovery.resource_list(self._kinds, "", "v1")
            case ["apis"]:
                return discovery.group_list(self._kinds)
            case ["apis", group]:
                return discovery.group(self._kinds, group)
            case ["apis", group, version_] if group:
                return discovery.resource_list(self._kinds, group, version_)
        return None


def version() -> dict[str, str]:
    machine = platform.machine()
    return {
        "major": "1",
        "minor": "37",
        "gitVersion": f"{_VERSION}+sampan.{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{sys.platform}/{_ARCHITECTURES.get(machine, machine)}",
    }


def _memory() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "process_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "process_peak_resident_memory_bytes": usage.ru_maxrss * 1024.0,
    }
