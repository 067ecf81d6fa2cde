"""Sets of fields, in the form that `managedFields` keeps them (FieldsV1).

A set is a tree: `f:NAME` is a field, `k:{KEYS}` an item of a list that is a map, `v:VALUE` a member
of a list that is a set. A path is in the set if its node is empty or has the member ".". The empty
tree is the empty set. Source: sigs.k8s.io/structured-merge-diff, fieldpath and typed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from sampan.apiserver import schemas
from sampan.apiserver.patches.strategic import field_schema

Fields = dict[str, Any]
Schema = Mapping[str, Any]

_SELF: Final = "."
_KEY_DEFAULTS: Final = {"protocol": "TCP"}
"""What an item's key is where it is left out and its schema, as a published one, has no default."""
_ATOMIC: Final = "atomic"


def granular(value: Any, schema: Schema) -> bool:
    """Say whether the parts of *value* have owners of their own."""
    if isinstance(value, dict):
        whole = schemas.resolved(schema)
        if _ATOMIC in (schema.get("x-kubernetes-map-type"), whole.get("x-kubernetes-map-type")):
            return False
        return bool(whole.get("properties") or isinstance(whole.get("additionalProperties"), dict))
    return isinstance(value, list) and schema.get("x-kubernetes-list-type") in {"map", "set"}


def children(value: Any, schema: Schema) -> dict[str, tuple[Any, Schema]]:
    """The parts of a granular *value* by their names in a set, with their schemas."""
    if isinstance(value, dict):
        return {f"f:{name}": (part, field_schema(schema, name)) for name, part in value.items()}
    item_schema = schema.get("items") or {}
    return {item_name(item, schema): (item, item_schema) for item in value}


def item_name(item: Any, schema: Schema) -> str:
    """The name in a set of an item of a list that is a map or a set."""
    if schema.get("x-kubernetes-list-type") == "set" or not isinstance(item, dict):
        return "v:" + orjson.dumps(item).decode()
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    found = {key: item[key] if key in item else _key_default(schema, key) for key in keys}
    named = {key: value for key, value in found.items() if value is not None}
    return "k:" + orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode()


def _key_default(schema: Schema, key: str) -> Any:
    properties = schemas.resolved(schema.get("items") or {}).get("properties") or {}
    return (properties.get(key) or {}).get("default", _KEY_DEFAULTS.get(key))


def of(value: Any, schema: Schema) -> Fields:
    """All fields of *value*."""
    if not value or not granular(value, schema):
        return {}
    found = {name: of(part, inner) for name, (part, inner) in children(value, schema).items()}
    if isinstance(value, list):
        for name, part in found.items():
            if part:
                found[name] = {_SELF: {}, **part}
    return found


def difference(old: Any, new: Any, schema: Schema) -> tuple[Fields | None, Fields | None]:
    """The fields that *new* sets otherwise than *old*, and those it no longer has."""
    if old == new:
        return None, None
    if type(old) is not type(new) or not granular(new, schema):
        return {}, None
    if not old or not new:
        return of(new, schema), of(old, schema) or None
    before, after = children(old, schema), children(new, schema)
    touched: Fields = {}
    removed: Fields = {}
    for name, (value, inner) in after.items():
        if name not in before:
            touched[name] = _whole(value, inner, name)
            continue
        changed, gone = difference(before[name][0], value, inner)
        if changed is not None:
            touched[name] = changed
        if gone is not None:
            removed[name] = gone
    for name in before.keys() - after.keys():
        removed[name] = _whole(*before[name], name)
    return touched or None, removed or None


def _whole(value: Any, schema: Schema, name: str) -> Fields:
    found = of(value, schema)
    return {_SELF: {}, **found} if found and not name.startswith("f:") else found


def sound(tree: Any) -> bool:
    """Say whether *tree*, which a client sent, has the form of a set."""
    if not isinstance(tree, dict):
        return False
    return all(_is_name(name) and sound(part) for name, part in tree.items())


def _is_name(name: str) -> bool:
    kind, _, rest = name.partition(":")
    if kind not in {"k", "v"}:
        return kind == "f" or name == _SELF
    try:
        value = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return False
    return kind == "v" or isinstance(value, dict)


def union(one: Fields, other: Fields) -> Fields:
    if not one or not other:
        return one or other
    joined = dict(one)
    for name, part in other.items():
        joined[name] = _joined(joined[name], part) if name in joined else part
    return joined


def _joined(one: Fields, other: Fields) -> Fields:
    if not one and not other:
        return {}
    return union(one or {_SELF: {}}, other or {_SELF: {}})


def without(one: Fields, other: Fields) -> Fields:
    """What is in *one* and not in *other*."""
    left: Fields = {}
    for name, part in one.items():
        if name not in other:
            left[name] = part
        elif name != _SELF and (rest := _less(part, other[name])) is not None:
            left[name] = rest
    return left


def _less(one: Fields, other: Fields) -> Fields | None:
    left = without(one or {_SELF: {}}, other or {_SELF: {}})
    return _node(left)


def _node(members: Fields) -> Fields | None:
    """A node with *members*; None if it and all below it are not in the set."""
    if not members:
        return None
    return {} if members == {_SELF: {}} else members


def common(one: Fields, other: Fields) -> Fields:
    """What is in both."""
    both: Fields = {}
    for name in one.keys() & other.keys():
        if name == _SELF:
            both[name] = {}
            continue
        inner = common(one[name] or {_SELF: {}}, other[name] or {_SELF: {}})
        if (node := _node(inner)) is not None:
            both[name] = node
    return both


def paths(fields: Fields, prefix: str = "") -> Iterator[str]:
    """The paths of a set as messages show them: `.spec.containers[name="web"].image`."""
    for name, part in sorted(fields.items()):
        if name == _SELF:
            yield prefix
            continue
        path = prefix + _shown(name)
        if part:
            yield from paths(part, path)
        else:
            yield path


def _shown(name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "v":
        return f"[={rest}]"
    keys = orjson.loads(rest).items()
    return "[" + ",".join(f"{key}={orjson.dumps(value).decode()}" for key, value in keys) + "]"
