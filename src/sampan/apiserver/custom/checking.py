"""Custom objects against their schema, told in Kubernetes' words.

The schema is compiled to a JSON Schema validator, in Rust; only what that complains of is looked
at here. Source of the words: kube-openapi, pkg/validation, and k8s.io/apiextensions-apiserver.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any, Final
from uuid import UUID

import jsonschema_rs
import orjson

from sampan.api.errors import Cause
from sampan.api.objects import Object
from sampan.apiserver.custom.structural import (
    EMBEDDED,
    INT_OR_STRING,
    JUNCTORS,
    LIST_TYPE,
    MAP_KEYS,
)
from sampan.apiserver.problems import bad_value, required, shown, too_long, unsupported
from sampan.apiserver.schemas import shown_path

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]
Finding = tuple[Path, Cause]
"""What is wrong, and with which value: of a missing field, with what it is missing from."""

_KEPT: Final = (
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "multipleOf", "pattern", "format", "required",
)  # fmt: skip
_INTEGERS: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_MAC: Final = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
_DURATION: Final = re.compile(r"[-+]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h|d|w))+|0")


def _readable(read: Callable[[str], Any]) -> Callable[[str], bool]:
    def readable(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return readable


_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "ipv4": _readable(IPv4Address),
    "ipv6": _readable(IPv6Address),
    "cidr": lambda text: "/" in text and _readable(lambda t: ip_network(t, strict=False))(text),
    "mac": lambda text: bool(_MAC.fullmatch(text)),
    "uuid": _readable(UUID),
    "date": _readable(date.fromisoformat),
    "date-time": _readable(datetime.fromisoformat),
    "datetime": _readable(datetime.fromisoformat),
    "duration": lambda text: bool(_DURATION.fullmatch(text)),
}


def compiled(schema: Schema) -> Any:
    """A validator for whole objects of *schema*."""
    return jsonschema_rs.Draft202012Validator(
        _json_schema(schema),
        validate_formats=True,
        formats=dict(_FORMATS),
        pattern_options=jsonschema_rs.RegexOptions(),
    )


def problem(schema: Schema) -> str:
    """What keeps a structural *schema* from being compiled, or ""."""
    try:
        compiled(schema)
    except ValueError as error:
        return str(error).partition("\n")[0]
    return ""


def _json_schema(schema: Schema) -> Object:
    found: Object = {name: schema[name] for name in _KEPT if name in schema}
    if found.get("format") in _INTEGERS:
        found["minimum"], found["maximum"] = _INTEGERS[found.pop("format")]
    null = [None] if schema.get("nullable") else []
    if types := _types(schema):
        found["type"] = [*types, *("null" for _ in null)]
    if "enum" in schema:
        found["enum"] = [*schema["enum"], *null]
    _bound(schema, found, "minimum", "exclusiveMinimum")
    _bound(schema, found, "maximum", "exclusiveMaximum")
    if "properties" in schema:
        inner = schema["properties"].items()
        found["properties"] = {key: _json_schema(part) for key, part in inner}
    for name in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(name), dict):
            found[name] = _json_schema(schema[name])
    found |= {name: [*map(_json_schema, schema[name])] for name in JUNCTORS if schema.get(name)}
    if schema.get(EMBEDDED):
        found["required"] = sorted({*found.get("required", ()), "apiVersion", "kind"})
    return found


def _types(schema: Schema) -> list[str]:
    if schema.get(INT_OR_STRING):
        return ["integer", "string"]
    return [schema["type"]] if schema.get("type") else []


def _bound(schema: Schema, found: Object, plain: str, exclusive: str) -> None:
    if plain in schema:
        found[exclusive if schema.get(exclusive) else plain] = schema[plain]


def check(validator: Any, schema: Schema, obj: Object) -> list[Finding]:
    """All that *obj* breaks of its schema, with a path for each."""
    found: list[Finding] = []
    if not validator.is_valid(obj):
        for error in validator.iter_errors(obj):
            path = tuple(error.instance_path)
            found.append((path, _cause(path, error)))
    return found + list(_duplicates(obj, schema, ()))


def _cause(path: Path, error: Any) -> Cause:
    field, value, kind = shown_path(path), error.instance, error.kind
    match kind.name:
        case "required":
            return required(shown_path((*path, kind.property)))
        case "type":
            return _mistyped(field, value, kind.types)
        case "enum":
            options = [text(option) for option in kind.options if option is not None]
            return unsupported(field, value if _scalar(value) else _told(value), options)
        case "maxLength":
            return too_long(field, kind.limit)
        case "maxItems" | "maxProperties":
            what = "items" if kind.name == "maxItems" else "properties"
            why = f"Too many: {len(value)}: must have at most {kind.limit} {what}"
            return Cause("FieldValueTooMany", why, field)
    worded = _words(field, kind)
    return bad_value(field, value if _scalar(value) else _told(value), worded)


_WORDS: Final[Mapping[str, str]] = {
    "minimum": "{} in body should be greater than or equal to {}",
    "exclusiveMinimum": "{} in body should be greater than {}",
    "maximum": "{} in body should be less than or equal to {}",
    "exclusiveMaximum": "{} in body should be less than {}",
    "minLength": "{} in body should be at least {} chars long",
    "minItems": "{} in body should have at least {} items",
    "minProperties": "{} in body should have at least {} properties",
    "pattern": "{} in body should match '{}'",
    "multipleOf": "{} in body should be a multiple of {}",
    "format": "{} in body must be of type {}",
    "anyOf": '"{}" must validate at least one schema (anyOf)',
    "oneOfNotValid": '"{}" must validate one and only one schema (oneOf). Found none valid',
    "oneOfMultipleValid": '"{}" must validate one and only one schema (oneOf). '
    "Found more than one valid",
    "not": '"{}" must not validate the schema (not)',
}


def _words(field: str, kind: Any) -> str:
    words = _WORDS.get(kind.name, "{} in body is not as its schema says")
    return words.format(field, next((getattr(kind, n) for n in _BOUNDS if hasattr(kind, n)), ""))


_BOUNDS: Final = ("limit", "pattern", "format", "value")


def _mistyped(field: str, value: Any, types: list[str]) -> Cause:
    wanted = " or ".join(name for name in sorted(types) if name != "null")
    given = type_of(value)
    why = f'Invalid value: "{given}": {field} in body must be of type {wanted}: "{given}"'
    return Cause("FieldValueTypeInvalid", why, field)


_TYPES: Final = (
    (bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (dict, "object"),
    (list, "array"),
)  # fmt: skip


def type_of(value: Any) -> str:
    return next((name for type_, name in _TYPES if isinstance(value, type_)), "null")


def _scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _told(value: Any) -> str:
    return orjson.dumps(value).decode()


def text(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _duplicates(value: Any, schema: Schema, path: Path) -> Iterator[Finding]:
    """Items of a list that is a set or a map of which there is more than one."""
    if isinstance(value, dict):
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, part in value.items():
            inner = properties.get(name, additional)
            if isinstance(part, dict | list) and isinstance(inner, dict):
                yield from _duplicates(part, inner, (*path, name))
    elif isinstance(value, list):
        if schema.get(LIST_TYPE) in {"set", "map"}:
            yield from _repeated(value, schema, path)
        inner = schema.get("items")
        if isinstance(inner, dict):
            for index, part in enumerate(value):
                yield from _duplicates(part, inner, (*path, index))


def _repeated(items: list[Any], schema: Schema, path: Path) -> Iterator[Finding]:
    seen: set[bytes] = set()
    for index, item in enumerate(items):
        key = identity(item, schema)
        told = orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
        if told in seen:
            place = (*path, index)
            field = shown_path(place)
            value = shown(key) if _scalar(key) else told.decode()
            yield place, Cause("FieldValueDuplicate", f"Duplicate value: {value}", field)
        seen.add(told)


def identity(item: Any, schema: Schema) -> Any:
    """What tells an item of a set or map from the others."""
    if schema.get(LIST_TYPE) == "map" and isinstance(item, dict):
        properties = (schema.get("items") or {}).get("properties") or {}
        return {
            key: item.get(key, (properties.get(key) or {}).get("default"))
            for key in schema.get(MAP_KEYS) or ()
        }
    return item
