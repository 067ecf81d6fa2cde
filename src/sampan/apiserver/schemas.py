"""The published Kubernetes schemas, and what they say of an object.

The schemas are data (`kubernetes_validate`): types, required fields, merge keys. They are read at
first use, without their prose, and one kind's validator is compiled when the kind is first
written. A valid object costs microseconds; only what a validator complains of is looked at here.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jsonschema_rs
import orjson
from msgspec import Struct

from sampan.api.errors import Cause
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.problems import required

Path = Sequence[str | int]

_RELEASE: Final = "v1.37.0-local-strict"
_GVK: Final = "x-kubernetes-group-version-kind"
_DEFS: Final = "#/$defs/"
_OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT32: Final = {"minimum": -(2**31), "maximum": 2**31 - 1}
_BARE: Final = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}
_EITHER: Final = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr.IntOrString",
}


def definitions() -> Mapping[str, Any]:
    """Read the `$defs` of the published schemas, prose and all; whoever needs them keeps them."""
    source = files("kubernetes_validate") / "kubernetes-json-schema" / _RELEASE
    return orjson.loads((source / "_definitions.json").read_bytes())["$defs"]  # type: ignore[no-any-return]


@cache
def types() -> Mapping[str, Any]:
    """The definitions by name, without descriptions, and with the bounds that formats imply."""
    bare = {name: _without_prose(schema) for name, schema in definitions().items()}
    return {**bare, **{name: schema for name, schema in _BARE.items() if name in bare}}


def _without_prose(schema: Any) -> Any:
    if isinstance(schema, dict):
        bare = {
            key: _without_prose(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
        return {**bare, **_INT32} if bare.get("format") == "int32" else bare
    return [_without_prose(value) for value in schema] if isinstance(schema, list) else schema


@cache
def _names() -> Mapping[tuple[str, str, str], str]:
    return {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, schema in types().items()
        for gvk in schema.get(_GVK, ())
        if len(schema[_GVK]) == 1
    }


def type_name(kind: Kind) -> str | None:
    """The definition of *kind*; None if nothing is published about it."""
    return _names().get((kind.group, kind.version, kind.kind))


def referred(schema: Mapping[str, Any]) -> str:
    """The name of the definition that *schema* refers to, or ""."""
    return str(schema.get("$ref", "")).removeprefix(_DEFS)


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """*schema*, or the definition it refers to."""
    name = referred(schema)
    return types()[name] if name else schema


class Findings(Struct, frozen=True):
    """What is wrong with an object, by how it is answered."""

    unknown: Sequence[Path] = ()
    mistyped: Sequence[str] = ()
    invalid: Sequence[Cause] = ()


_SOUND: Final = Findings()


def check(kind: Kind, obj: Object) -> Findings:
    """Compare *obj*, which has no nulls, with the schema of its kind."""
    return _found(_validator(kind), obj)


def check_metadata(obj: Object) -> Findings:
    """Compare only the metadata of *obj*, an object of a kind that nothing is published about."""
    return _found(_metadata_validator(), {"metadata": plain(obj["metadata"])})


def _found(validator: Any, obj: Object) -> Findings:
    if validator is None or validator.is_valid(obj):
        return _SOUND
    unknown: list[Path] = []
    mistyped: list[str] = []
    invalid: list[Cause] = []
    for error in validator.iter_errors(obj):
        path = list(error.instance_path)
        match error.kind.name:
            case "additionalProperties":
                unknown += ([*path, name] for name in error.kind.unexpected)
            case "required":
                if path[:1] != ["status"]:
                    invalid.append(required(shown_path([*path, error.kind.property])))
            case "type":
                mistyped.append(_mistyped(path, error))
            case "minimum" | "maximum":
                mistyped.append(_unfitting(path, f"number {error.instance}", "int32"))
            case "format":
                mistyped.append(_misformed(path, error))
            case _:
                mistyped.append(f"{shown_path(path)}: {error.message}")
    return Findings(unknown, mistyped, invalid)


@cache
def _validator(kind: Kind) -> Any:
    name = type_name(kind)
    if name is None:
        return None
    return _compiled({"$ref": _DEFS + name}, name)


@cache
def _metadata_validator() -> Any:
    return _compiled({"properties": {"metadata": {"$ref": _DEFS + _OBJECT_META}}}, _OBJECT_META)


def _compiled(schema: Mapping[str, Any], name: str) -> Any:
    known = types()
    schema = {**schema, "$defs": {one: known[one] for one in _closure(name)}}
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, formats={"byte": _is_base64}
    )


def _closure(name: str) -> Iterable[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += _references(types()[current])
    return seen


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):  # a property may be called so, too
                yield value.removeprefix(_DEFS)
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def shown_path(path: Path) -> str:
    """Write a path as Kubernetes does: `spec.containers[0].image`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


_JSON_NAMES: Final = (
    (bool, "bool"), (str, "string"), (int, "number"), (float, "number"), (dict, "object"),
    (list, "array"),
)  # fmt: skip


def _mistyped(path: Path, error: Any) -> str:
    """Word a wrong type as Go's decoder does, with the whole path of the field."""
    found = next((name for type_, name in _JSON_NAMES if isinstance(error.instance, type_)), "null")
    parts = [part for part in error.schema_path if isinstance(part, str)]
    owner = next((_EITHER.get(p) or p for p in reversed(parts) if p.startswith("io.")), "")
    wanted = owner if owner in _EITHER.values() else _go_type(error)
    return _unfitting(path, found, wanted, owner.rpartition(".")[2])


def _unfitting(path: Path, found: str, wanted: str, owner: str = "") -> str:
    field = f"{owner}.{shown_path(path)}" if owner else shown_path(path)
    return f"json: cannot unmarshal {found} into Go struct field {field} of type {wanted}"


def _misformed(path: Path, error: Any) -> str:
    if error.kind.format == "date-time":
        wanted = "a time such as 2026-01-31T12:00:00Z"
        return f'parsing time "{error.instance}": {shown_path(path)} must be {wanted}'
    return f"illegal base64 data in {shown_path(path)}"


def _go_type(error: Any) -> str:
    names = {
        "integer": "int32",
        "boolean": "bool",
        "array": "[]",
        "object": "map",
        "number": "float64",
    }
    wanted = [name for name in error.kind.types if name != "null"]
    return " or ".join(names.get(name, name) for name in wanted)


def prune(obj: Object, unknown: Iterable[Path]) -> None:
    """Take the fields at the paths *unknown* out of *obj*."""
    for path in unknown:
        holder: Any = obj
        for part in path[:-1]:
            holder = holder[part]
        holder.pop(path[-1], None)


def plain(value: Any, *, nulls: bool = False) -> Any:
    """*value* with whole numbers as integers, and without nulls unless *nulls* may stay."""
    if isinstance(value, dict):
        return {
            k: plain(item, nulls=nulls) for k, item in value.items() if nulls or item is not None
        }
    if isinstance(value, list):
        return [plain(item, nulls=nulls) for item in value if nulls or item is not None]
    return int(value) if isinstance(value, float) and value.is_integer() else value
