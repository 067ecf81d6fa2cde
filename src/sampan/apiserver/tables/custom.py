"""The columns of custom kinds. Source: Kubernetes, "Additional printer columns"."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sampan.api.objects import Object
from sampan.apiserver.custom import jsonpath
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.tables.columns import AGE, NAME, Column, at, since

_PURPOSE: Final = "Custom resource definition column (in JSONPath format): "


DEFINITIONS: Final = (
    NAME,
    Column("Created At", lambda obj, _: at(obj, "metadata", "creationTimestamp"), "date"),
)


@lru_cache(maxsize=256)
def columns(kind: CustomKind) -> tuple[Column, ...]:
    """The columns of a custom kind: the name, then those that its version lists, or the age."""
    raw = kind.version_.raw.get("additionalPrinterColumns")
    if not raw:
        return (NAME, AGE)
    return (NAME, *map(_column, raw))


def _column(raw: Object) -> Column:
    steps, type_ = jsonpath.parse(raw["jsonPath"]), raw["type"]

    def cell(obj: Object, now: datetime) -> Any:
        values = [value for value in jsonpath.found(steps, obj) if value is not None]
        return _shown(values, type_, now) if values else None

    return Column(
        raw["name"],
        cell,
        type_,
        format=raw.get("format") or "",
        description=raw.get("description") or f"{_PURPOSE}{raw['jsonPath']}",
        priority=raw.get("priority") or 0,
    )


def _shown(values: Sequence[Any], type_: str, now: datetime) -> Any:
    first = values[0]
    match type_:
        case "date":
            try:
                return since(first, now)
            except (ValueError, TypeError):
                return "<invalid>"
        case "integer":
            return first if isinstance(first, int) and not isinstance(first, bool) else None
        case "number":
            return first if isinstance(first, int | float) else None
        case "boolean":
            return first if isinstance(first, bool) else None
    return ",".join(map(jsonpath.text, values)) if len(values) > 1 else jsonpath.text(first)
