"""How an answer is sent: as stored bytes where possible, as YAML or indented where asked."""

import asyncio
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
import yaml  # type: ignore[import-untyped]
from aiohttp import web

from sampan.api.errors import ApiError, Unauthorized
from sampan.apiserver.http.exchange import Exchange
from sampan.apiserver.http.negotiate import JSON, YAML_TYPE

_WORTH_PACKING: Final = 128 << 10
_PACKING_LEVEL: Final = 1
_GZIP: Final = zlib.MAX_WBITS | 16
_LONGEST_WARNING: Final = 256


async def send(
    exchange: Exchange,
    body: bytes,
    *,
    status: int = 200,
    warnings: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Answer with JSON *body*, in the form that the client asked for."""
    media = JSON
    if exchange.accepted.media == YAML_TYPE:
        body, media = await asyncio.to_thread(to_yaml, body), YAML_TYPE
    elif exchange.query.flag("pretty"):
        body = orjson.dumps(
            orjson.loads(body), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
    response = web.Response(body=body, status=status, headers=headers, content_type=media)
    response.headers["Cache-Control"] = "no-cache, private"
    for text in warnings:
        response.headers.add("Warning", warning(text))
    await _pack(exchange, response, body)
    return response


async def send_object(
    exchange: Exchange, obj: Any, *, status: int = 200, warnings: Iterable[str] = ()
) -> web.Response:
    return await send(exchange, orjson.dumps(obj), status=status, warnings=warnings)


async def _pack(exchange: Exchange, response: web.Response, body: bytes) -> None:
    if len(body) < _WORTH_PACKING:
        return
    if "gzip" in exchange.request.headers.get("Accept-Encoding", ""):
        response.body = await asyncio.to_thread(_packed, body)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"


async def send_packed(exchange: Exchange, packed: bytes, media: str) -> web.Response:
    """Answer with a gzipped document that changes only with the server's version.

    A client that has it already, as the ETag tells, gets a 304.
    """
    headers = exchange.request.headers
    tag = f'"{zlib.crc32(packed):08x}{len(packed):x}"'
    sent = {"Content-Type": media, "ETag": tag, "Vary": "Accept, Accept-Encoding"}
    if tag in headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=sent)
    if "gzip" in headers.get("Accept-Encoding", ""):
        return web.Response(body=packed, headers={**sent, "Content-Encoding": "gzip"})
    plain = await asyncio.to_thread(zlib.decompress, packed, _GZIP)
    return web.Response(body=plain, headers=sent)


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(_PACKING_LEVEL, wbits=_GZIP)
    return packer.compress(body) + packer.flush()


def to_yaml(body: bytes) -> bytes:
    text: bytes = yaml.dump(
        orjson.loads(body), Dumper=yaml.CSafeDumper, encoding="utf-8", allow_unicode=True
    )
    return text


def warning(text: str) -> str:
    """Write *text* as a Warning header's value: code 299, no agent, one quoted line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    quoted = line[:_LONGEST_WARNING].replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'


def refuse(error: ApiError) -> web.Response:
    """Answer with *error* as a Status."""
    response = web.Response(body=orjson.dumps(error.status()), status=error.code, content_type=JSON)
    response.headers["Cache-Control"] = "no-cache, private"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="sampan"'
    return response
