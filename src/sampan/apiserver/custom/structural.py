"""Which schemas a CustomResourceDefinition may have: OpenAPI v3, structural.

Structural means that the types of all fields are told by one tree of `properties`, `items` and
`additionalProperties`, and the logical junctors only restrict values. Source: Kubernetes,
"Specifying a structural schema"; apiextensions-apiserver, pkg/apiserver/schema/validation.go.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import re2

from sampan.api.errors import Cause
from sampan.apiserver.problems import bad_value, not_allowed, required, unsupported

Schema = Mapping[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
EMBEDDED: Final = "x-kubernetes-embedded-resource"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
LIST_TYPE: Final = "x-kubernetes-list-type"
MAP_KEYS: Final = "x-kubernetes-list-map-keys"
MAP_TYPE: Final = "x-kubernetes-map-type"
RULES: Final = "x-kubernetes-validations"
JUNCTORS: Final = ("allOf", "anyOf", "oneOf")

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED: Final = (
    "definitions", "dependencies", "patternProperties", "additionalItems", "$ref", "id",
)  # fmt: skip
_NOT_IN_JUNCTORS: Final = {
    "type": "empty", "title": "empty", "description": "empty", "default": "undefined",
    "additionalProperties": "undefined", "nullable": "false", PRESERVE: "undefined",
    EMBEDDED: "false", INT_OR_STRING: "false", LIST_TYPE: "undefined", MAP_KEYS: "undefined",
    MAP_TYPE: "undefined", RULES: "undefined",
}  # fmt: skip
_META_ALLOWED: Final = frozenset({"name", "generateName"})


def validate(schema: Schema, field: str) -> Iterator[Cause]:
    """All rules that the schema of a version, at *field*, breaks."""
    if schema.get("type") != "object":
        if not schema.get("type"):
            yield required(f"{field}.type", "must not be empty at the root")
        else:
            yield bad_value(f"{field}.type", schema["type"], "must be object at the root")
    if schema.get("nullable"):
        yield not_allowed(f"{field}.nullable", "nullable cannot be true at the root")
    yield from _node(schema, field)
    yield from _metadata(schema, field)


def _node(schema: Schema, field: str) -> Iterator[Cause]:
    yield from _open_api(schema, field)
    yield from _extensions(schema, field)
    yield from _lists(schema, field)
    yield from _junctors(schema, field)
    for place, child, what in children(schema, field):
        if not child.get("type") and not (child.get(INT_OR_STRING) or child.get(PRESERVE)):
            yield required(f"{place}.type", f"must not be empty for specified {what}")
        yield from _node(child, place)


def children(schema: Schema, field: str) -> Iterator[tuple[str, Schema, str]]:
    """The schemas of what is inside, where they are, and what they describe."""
    for name, child in (schema.get("properties") or {}).items():
        yield f"{field}.properties[{name}]", child, "object fields"
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        yield f"{field}.additionalProperties", additional, "object fields"
    if isinstance(items := schema.get("items"), dict):
        yield f"{field}.items", items, "array items"


def _open_api(schema: Schema, field: str) -> Iterator[Cause]:
    """What OpenAPI v3 has and Kubernetes does not."""
    if (type_ := schema.get("type")) and type_ not in _TYPES:
        yield unsupported(f"{field}.type", type_, _TYPES)
    for name in _UNSUPPORTED:
        if schema.get(name):
            yield not_allowed(f"{field}.{name}", f"{name} is not supported")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield not_allowed(f"{field}.uniqueItems", why)
    if isinstance(schema.get("items"), Sequence):
        yield not_allowed(f"{field}.items", "items must be a schema object and not an array")
    additional = schema.get("additionalProperties")
    if additional is False:
        why = "additionalProperties cannot be set to false"
        yield not_allowed(f"{field}.additionalProperties", why)
    elif additional is not None and schema.get("properties"):
        why = "additionalProperties and properties are mutual exclusive"
        yield not_allowed(f"{field}.additionalProperties", why)
    if pattern := schema.get("pattern"):
        yield from _pattern(pattern, f"{field}.pattern")


def _pattern(pattern: str, field: str) -> Iterator[Cause]:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options=options)
    except re2.error as error:
        told = error.args[0]
        told = told.decode() if isinstance(told, bytes) else told
        why = f"must be a valid regular expression, but isn't: {told}"
        yield bad_value(field, pattern, why)


def _extensions(schema: Schema, field: str) -> Iterator[Cause]:
    if schema.get(PRESERVE) is False:
        yield bad_value(f"{field}.{PRESERVE}", False, "must be true or undefined")
    if schema.get(EMBEDDED):
        if schema.get("type") not in (None, "", "object"):
            why = f"must be object if {EMBEDDED} is true"
            yield bad_value(f"{field}.type", schema["type"], why)
        if not schema.get(PRESERVE) and not schema.get("properties"):
            why = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
            yield required(f"{field}.properties", why)
        yield from _metadata(schema, field)
    if schema.get(INT_OR_STRING):
        if schema.get("type"):
            yield not_allowed(f"{field}.type", f"must be empty if {INT_OR_STRING} is true")
        if schema.get(EMBEDDED):
            yield not_allowed(f"{field}.{EMBEDDED}", f"must be false if {INT_OR_STRING} is true")
    yield from _map_type(schema, schema.get(MAP_TYPE), field)


def _map_type(schema: Schema, map_type: Any, field: str) -> Iterator[Cause]:
    if map_type is not None:
        if schema.get("type") != "object":
            why = f"must be object if {MAP_TYPE} is specified"
            yield bad_value(f"{field}.type", schema.get("type") or "", why)
        if map_type not in {"granular", "atomic"}:
            yield unsupported(f"{field}.{MAP_TYPE}", map_type, ("atomic", "granular"))


def _metadata(schema: Schema, field: str) -> Iterator[Cause]:
    meta = (schema.get("properties") or {}).get("metadata")
    if not meta:
        return
    if meta.get("type") not in (None, "", "object"):
        yield bad_value(f"{field}.properties[metadata].type", meta["type"], "must be object")
    beyond = set(meta.get("properties") or ()) - _META_ALLOWED
    if beyond or meta.get("additionalProperties") or meta.get("required"):
        why = (
            "must not specify anything other than name and generateName, but metadata is "
            "implicitly specified"
        )
        yield not_allowed(f"{field}.properties[metadata]", why)


def _lists(schema: Schema, field: str) -> Iterator[Cause]:
    kind, keys = schema.get(LIST_TYPE), schema.get(MAP_KEYS)
    if kind is None:
        if keys:
            why = f"must be map if {MAP_KEYS} is non-empty"
            yield required(f"{field}.{LIST_TYPE}", why)
        return
    if schema.get("type") != "array":
        why = f"must be array if {LIST_TYPE} is specified"
        yield bad_value(f"{field}.type", schema.get("type") or "", why)
    if kind not in {"atomic", "set", "map"}:
        yield unsupported(f"{field}.{LIST_TYPE}", kind, ("atomic", "map", "set"))
    elif kind == "map":
        yield from _map_keys(schema, keys or (), field)
    elif keys:
        yield not_allowed(f"{field}.{MAP_KEYS}", f"must be empty if {LIST_TYPE} is not map")
    elif kind == "set" and (schema.get("items") or {}).get("nullable"):
        why = f"cannot be nullable when {LIST_TYPE} is set"
        yield not_allowed(f"{field}.items.nullable", why)


def _map_keys(schema: Schema, keys: Sequence[str], field: str) -> Iterator[Cause]:
    items = schema.get("items") or {}
    properties = items.get("properties") or {}
    if not keys:
        yield required(f"{field}.{MAP_KEYS}", f"must not be empty if {LIST_TYPE} is map")
    if items.get("type") != "object":
        why = f"must be object if parent array's {LIST_TYPE} is map"
        yield bad_value(f"{field}.items.type", items.get("type") or "", why)
    for index, key in enumerate(keys):
        found = properties.get(key)
        if found is None:
            why = "entries must all be names of item properties"
            yield bad_value(f"{field}.{MAP_KEYS}[{index}]", key, why)
            continue
        place = f"{field}.items.properties[{key}]"
        if found.get("type") in {"object", "array"}:
            why = f"must be a scalar type if parent array's {LIST_TYPE} is map"
            yield bad_value(f"{place}.type", found["type"], why)
        if key not in (items.get("required") or ()) and "default" not in found:
            why = (
                f"this property is in {MAP_KEYS}, so it must have a default or be a required "
                "property"
            )
            yield required(f"{place}.default", why)


def _junctors(schema: Schema, field: str) -> Iterator[Cause]:
    """The logical junctors of a node restrict values, and nothing else."""
    for name in JUNCTORS:
        for index, inner in enumerate(schema.get(name) or ()):
            place = f"{field}.{name}[{index}]"
            exempt = bool(schema.get(INT_OR_STRING)) and name in {"anyOf", "allOf"}
            yield from _restriction(inner, schema, place, exempt=exempt)
    if isinstance(schema.get("not"), dict):
        yield from _restriction(schema["not"], schema, f"{field}.not", exempt=False)


def _restriction(inner: Schema, outer: Schema, field: str, *, exempt: bool) -> Iterator[Cause]:
    """*exempt* is the pattern `anyOf: [{type: integer}, {type: string}]` of int-or-string."""
    for name, wanted in _NOT_IN_JUNCTORS.items():
        if inner.get(name) and not (exempt and name == "type"):
            yield not_allowed(f"{field}.{name}", f"must be {wanted} to be structural")
    for name, child in (inner.get("properties") or {}).items():
        known = (outer.get("properties") or {}).get(name)
        if known is None and isinstance(outer.get("additionalProperties"), dict):
            known = outer["additionalProperties"]
        if known is None:
            place = _outside(field)
            why = f"because it is defined in {field}.properties[{name}]"
            yield required(f"{place}.properties[{name}]", why)
        yield from _restriction(
            child, known or {}, f"{field}.properties[{name}]", exempt=_mixed(known)
        )
    if isinstance(inner.get("items"), dict):
        known = outer.get("items") or {}
        yield from _restriction(inner["items"], known, f"{field}.items", exempt=_mixed(known))
    for name in JUNCTORS:
        for index, deeper in enumerate(inner.get(name) or ()):
            yield from _restriction(deeper, outer, f"{field}.{name}[{index}]", exempt=exempt)
    if isinstance(inner.get("not"), dict):
        yield from _restriction(inner["not"], outer, f"{field}.not", exempt=exempt)


def _mixed(schema: Schema | None) -> bool:
    return bool((schema or {}).get(INT_OR_STRING))


def _outside(field: str) -> str:
    """The path of the node that the junctor at *field* belongs to."""
    parts = [
        part
        for part in field.split(".")
        if part != "not" and part.partition("[")[0] not in JUNCTORS
    ]
    return ".".join(parts)
