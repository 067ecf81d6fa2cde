"""What becomes of a value by its schema before it is looked at: pruned, defaulted, read for CEL.

Objects are changed in place: they are the registry's own copies. Source: Kubernetes, "Field
pruning", "Defaulting" and "Defaulting and nullable".
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from sampan.api.objects import Object
from sampan.apiserver.custom.structural import EMBEDDED, PRESERVE

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

_TYPE_META: Final = frozenset({"apiVersion", "kind", "metadata"})
_NOTHING: Final[Schema] = {}


def field_schema(schema: Schema, name: str) -> Schema | None:
    """The schema of the field *name*; None if nothing is known about it."""
    found = (schema.get("properties") or _NOTHING).get(name)
    if found is None:
        found = schema.get("additionalProperties")
        if found is True:
            return {PRESERVE: True}
    return found if isinstance(found, dict) else None


def unknown(obj: Object, schema: Schema) -> list[Path]:
    """The paths in a whole object of fields that its schema does not know."""
    return list(_unknown(obj, schema, (), root=True))


def _unknown(value: Any, schema: Schema, path: Path, *, root: bool = False) -> Iterator[Path]:
    if isinstance(value, dict):
        typed = root or bool(schema.get(EMBEDDED))
        kept = bool(schema.get(PRESERVE))
        for name, part in value.items():
            if typed and name in _TYPE_META:
                continue
            inner = field_schema(schema, name)
            if inner is not None:
                yield from _unknown(part, inner, (*path, name))
            elif not kept:
                yield (*path, name)
    elif isinstance(value, list):
        inner = schema.get("items")
        if isinstance(inner, dict):
            for index, part in enumerate(value):
                yield from _unknown(part, inner, (*path, index))


def fill(value: Any, schema: Schema) -> None:
    """Drop the nulls that *schema* does not allow, and set the defaults of what is missing."""
    if isinstance(value, dict):
        properties = schema.get("properties") or _NOTHING
        for name, inner in properties.items():
            if value.get(name) is None and not (name in value and inner.get("nullable")):
                value.pop(name, None)
                if "default" in inner:
                    value[name] = deepcopy(inner["default"])
        for name, part in value.items():
            if isinstance(part, dict | list) and (inner := field_schema(schema, name)) is not None:
                fill(part, inner)
    elif isinstance(value, list):
        inner = schema.get("items")
        if isinstance(inner, dict):
            for part in value:
                fill(part, inner)


def has_defaults(schema: Any) -> bool:
    """Say whether filling can change anything that has no nulls."""
    if not isinstance(schema, dict):
        return False
    properties = schema.get("properties") or _NOTHING
    return (
        any("default" in inner or has_defaults(inner) for inner in properties.values())
        or has_defaults(schema.get("additionalProperties"))
        or has_defaults(schema.get("items"))
    )
