"""The OpenAPI v2 document in protobuf, the only form in which kubectl reads it.

kubectl validates a `List` and merges patches by it. Only what that needs is written: the
definitions, without their descriptions, which would be three quarters of the bytes.

Source of the field numbers: gnostic's OpenAPIv2.proto (package openapi.v2).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

Object = Mapping[str, Any]

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_AS: Final = "application/com.github.proto-openapi.spec.v2"

_LENGTH_DELIMITED: Final = 2


def encode(document: Object) -> bytes:
    """Write the definitions of an OpenAPI v2 *document* as an openapi.v2.Document."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    named = _named(document["definitions"].items())
    return _text(1, document["swagger"]) + _field(2, info) + _field(9, named)


def _named(schemas: Iterable[tuple[str, Object]]) -> bytes:
    """`Definitions` and `Properties` alike: repeated NamedSchema in field 1."""
    return b"".join(_field(1, _text(1, name) + _field(2, _schema(raw))) for name, raw in schemas)


def _schema(raw: Object) -> bytes:
    return b"".join(_part(key, value) for key, value in raw.items())


def _part(key: str, value: Any) -> bytes:  # noqa: PLR0911 - a line a keyword
    match key:
        case "$ref":
            return _text(1, value)
        case "format":
            return _text(2, value)
        case "required":
            return b"".join(_text(19, name) for name in value)
        case "additionalProperties" if isinstance(value, Mapping):
            return _field(21, _field(1, _schema(value)))
        case "type":
            return _field(22, _text(1, value))
        case "items":
            return _field(23, _field(1, _schema(value)))
        case "allOf":
            return b"".join(_field(24, _schema(part)) for part in value)
        case "properties":
            return _field(25, _named(value.items()))
        case _ if key.startswith("x-"):
            # JSON is YAML, and gnostic's Any carries YAML.
            return _field(31, _text(1, key) + _field(2, _field(2, orjson.dumps(value) + b"\n")))
    return b""


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
