"""Kubernetes' protobuf, read: typed Go clients, kubectl among them, send objects in it.

Only requests need it: every such client takes JSON for an answer. The fields' numbers and names are
data, `protobuf.json`, written by `scripts/kubernetes_protobuf.py`; a field that is not in there is
refused, if it says anything, rather than lost.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson

from sampan.api.errors import BadRequest
from sampan.api.time import micro_timestamp, timestamp

Fields = dict[str, list[str]]

MAGIC: Final = b"k8s\0"
_FIXED64: Final = 1
_DEEPEST: Final = 100
_LONGEST_VARINT: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def decode(data: bytes) -> dict[str, Any]:
    """Read one enveloped object as the JSON object that it stands for; raise BadRequest."""
    if not data.startswith(MAGIC):
        raise BadRequest("the body of the request is not Kubernetes protobuf: no magic number")
    try:
        envelope = dict(_wire(data[len(MAGIC) :]))
        meta = dict(_wire(_bytes(envelope.get(1, b""))))
        version, kind = _text(meta.get(1, b"")), _text(meta.get(2, b""))
        name = _type_name(version, kind)
        return {"apiVersion": version, "kind": kind, **_message(_bytes(envelope.get(2, b"")), name)}
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"the body of the request is not valid protobuf: {error}") from error


@cache
def _types() -> dict[str, Fields]:
    return orjson.loads((files(__package__) / "protobuf.json").read_bytes())  # type: ignore[no-any-return]


def _type_name(version: str, kind: str) -> str:
    group, _, version = version.rpartition("/")
    names = (f"{group.partition('.')[0] or 'core'}/{version}.{kind}", f"meta/v1.{kind}")
    found = next((name for name in names if name in _types()), None)
    if found is None:
        raise BadRequest(f"{kind!r} of {version!r} is not known as protobuf: send JSON")
    return found


def _message(data: bytes, name: str, depth: int = 0) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deep")
    fields, found = _types()[name], dict[str, Any]()
    for number, raw in _wire(data):
        field = fields.get(str(number))
        if field is not None:
            _add(found, field, raw, depth)
        elif raw:
            raise ValueError(f"{name} has no field {number}")
    return {key: value for key, value in found.items() if value is not None}


def _add(found: dict[str, Any], field: list[str], raw: int | bytes, depth: int) -> None:
    name, type_, keep = field
    if type_.startswith("[]"):
        found.setdefault(name, []).append(_value(raw, type_[2:], depth))
    elif type_.startswith("{}"):
        pair = dict(_wire(_bytes(raw)))
        value = _value(pair.get(2, b"" if type_ != "{}int" else 0), type_[2:], depth)
        found.setdefault(name, {})[_text(pair.get(1, b""))] = value
    else:
        value = _value(raw, type_, depth)
        if not name:
            found.update(value)  # an embedded struct
        elif keep == "always" or value or value is None:
            found[name] = value


def _value(raw: int | bytes, type_: str, depth: int) -> Any:  # noqa: PLR0911 - a line a type
    match type_:
        case "string":
            return _text(raw)
        case "int":
            return _signed(raw)
        case "bool":
            return bool(_int(raw))
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
    special = _SPECIAL.get(type_)
    if special:
        return special(dict(_wire(_bytes(raw))))
    if type_ == "strings":
        return [_text(item) for _, item in _wire(_bytes(raw))]
    return _message(_bytes(raw), type_, depth + 1)


def _time(fields: dict[int, int | bytes]) -> str | None:
    if not fields:
        return None
    seconds, nanos = _signed(fields.get(1, 0)), _signed(fields.get(2, 0))
    at = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return micro_timestamp(at) if nanos else timestamp(at)


def _duration(fields: dict[int, int | bytes]) -> str:
    nanoseconds = _signed(fields.get(1, 0))
    return f"{nanoseconds / 1_000_000_000:.9f}".rstrip("0").rstrip(".") + "s"


def _quantity(fields: dict[int, int | bytes]) -> str:
    return _text(fields.get(1, b"")) or "0"


def _int_or_string(fields: dict[int, int | bytes]) -> int | str:
    return _text(fields.get(3, b"")) if fields.get(1, 0) else _signed(fields.get(2, 0))


def _json(fields: dict[int, int | bytes]) -> Any:
    raw = _bytes(fields.get(1, b""))
    return orjson.loads(raw) if raw else None


_SPECIAL: Final = {
    "time": _time,
    "duration": _duration,
    "quantity": _quantity,
    "intorstring": _int_or_string,
    "json": _json,
}


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: number, and an integer or the bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value: int | bytes
                value, at = _varint(data, at)
            case 2:
                length, at = _varint(data, at)
                value, at = _slice(data, at, length)
            case 1 | 5 as fixed:
                packed, at = _slice(data, at, 8 if fixed == _FIXED64 else 4)
                value = int.from_bytes(packed, "little")
            case other:
                raise ValueError(f"wire type {other} is not in use")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number is too long")


def _slice(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise ValueError("it ends in the middle of a field")
    return data[at : at + length], at + length


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where bytes are expected")  # noqa: TRY004 - the sender's mistake
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes stand where a number is expected")  # noqa: TRY004 - the sender's mistake
    return value


def _signed(value: int | bytes) -> int:
    number = _int(value)
    return number - (1 << 64) if number >> 63 else number
