"""Strategic merge patch: a merge patch that knows which lists are maps in disguise.

Source: Kubernetes, "Strategic Merge Patch" (sig-api-machinery). Merge keys and strategies are the
`x-kubernetes-patch-*` extensions of the published schemas.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.api.errors import BadRequest
from sampan.apiserver import schemas

Schema = Mapping[str, Any]

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DROP: Final = "$deleteFromPrimitiveList/"
_UNKNOWN: Final[Schema] = {}


def apply(target: Any, patch: Any, schema: Schema) -> Any:
    """Merge *patch* into the object *target*, whose fields *schema* describes."""
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch is an object with the fields that shall change")
    return _merged(target, patch, schema)


def field_schema(schema: Schema, name: str) -> Schema:
    """The schema of a field, with the extensions that stand beside its `$ref`."""
    whole = schemas.resolved(schema)
    found = (whole.get("properties") or {}).get(name) or whole.get("additionalProperties")
    return found if isinstance(found, dict) else _UNKNOWN


def _merged(target: Any, patch: Mapping[str, Any], schema: Schema) -> Any:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"unknown $patch directive {directive!r}: use replace, delete or merge")
    merged = dict(target) if isinstance(target, dict) else {}
    if _RETAIN in patch:
        merged = {key: value for key, value in merged.items() if key in patch[_RETAIN]}
    for name, value in patch.items():
        if name.startswith(_DROP):
            field = name.removeprefix(_DROP)
            merged[field] = [item for item in merged.get(field) or () if item not in value]
        elif name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if field not in patch and field in merged:
                key = _merge_key(field_schema(schema, field))
                merged[field] = _ordered(merged[field], merged[field], value, key)
        elif not name.startswith("$"):
            _merge_field(merged, name, value, field_schema(schema, name), patch.get(_ORDER + name))
    return merged


def _merge_field(
    merged: dict[str, Any], name: str, value: Any, schema: Schema, order: Sequence[Any] | None
) -> None:
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict):
        merged[name] = _merged(merged.get(name), value, schema)
    elif isinstance(value, list) and _merges(schema):
        key = _merge_key(schema)
        before = merged.get(name) or []
        after = _merged_list(before, value, key, schema)
        merged[name] = _ordered(after, before, order, key) if order else after
    else:
        merged[name] = value


def _merges(schema: Schema) -> bool:
    return "merge" in str(schema.get("x-kubernetes-patch-strategy", "")).split(",")


def _merge_key(schema: Schema) -> str:
    """The field that tells items apart, or "" where the items themselves do."""
    return str(schema.get("x-kubernetes-patch-merge-key", ""))


def _merged_list(before: list[Any], patch: list[Any], key: str, schema: Schema) -> list[Any]:
    if not key:
        return [*before, *(item for item in patch if item not in before)]
    wanted = []
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest(f"the list is merged by {key!r}, so each item must be an object")
        if item.get(_DIRECTIVE) == "replace" and key not in item:
            return [one for one in patch if _DIRECTIVE not in one]
        if key not in item:
            raise BadRequest(f"an item of the patch has no {key!r}, by which the list is merged")
        wanted.append(item)
    items = list(before)
    for item in wanted:
        _merge_item(items, item, key, schema.get("items") or _UNKNOWN)
    return items


def _merge_item(items: list[Any], item: Mapping[str, Any], key: str, schema: Schema) -> None:
    at = next((i for i, old in enumerate(items) if old.get(key) == item[key]), None)
    directive = item.get(_DIRECTIVE)
    if directive == "delete":
        items[:] = [old for old in items if old.get(key) != item[key]]
    elif at is None:
        items.append(_merged({}, item, schema))
    else:
        items[at] = _merged(items[at], item, schema)


def _ordered(items: list[Any], server: Sequence[Any], order: Sequence[Any], key: str) -> list[Any]:
    """Bring *items* into the client's *order*.

    What it does not name keeps its place before what followed it on the *server*.
    """
    ranks = [_identity(item, key) for item in order]
    before = [_identity(item, key) for item in server]
    named = sorted(
        (item for item in items if _identity(item, key) in ranks),
        key=lambda item: ranks.index(_identity(item, key)),
    )
    others = [item for item in items if _identity(item, key) not in ranks]
    result: list[Any] = []
    while named and others:
        one, other = _identity(named[0], key), _identity(others[0], key)
        first = one in before and other in before and before.index(one) < before.index(other)
        result.append((named if first else others).pop(0))
    return result + named + others


def _identity(item: Any, key: str) -> Any:
    return item.get(key) if key and isinstance(item, dict) else item
