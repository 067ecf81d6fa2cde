"""Columns, and the words in cells that many kinds share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from sampan.api.objects import Object
from sampan.api.time import parse_time

NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"
UNSET: Final = "<unset>"
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY

Cell = Callable[[Object, datetime], Any]


class Column(Struct, frozen=True):
    """A *wide* column, or one with a *priority*, is shown only when asked for."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False
    format: str = ""
    description: str = ""
    priority: int = 0

    def definition(self) -> Object:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description or self.name,
            "priority": self.priority or int(self.wide),
        }


def wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, wide=True)


def number(name: str, *path: str) -> Column:
    """The number at *path*, 0 where there is none."""
    return Column(name, lambda obj, _: at(obj, *path, default=0), "integer")


def text(name: str, *path: str, default: str = "") -> Column:
    """The text at *path*."""
    return Column(name, lambda obj, _: shown(at(obj, *path, default=default) or default))


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def at(obj: Any, *path: str, default: Any = None) -> Any:
    for part in path:
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return default if obj is None else obj


def since(text_: str | None, now: datetime) -> str:
    """How long ago *text_* was, as people say it."""
    if not text_:
        return UNKNOWN
    return duration((now - parse_time(text_)).total_seconds())


def duration(seconds: float) -> str:  # noqa: PLR0911 - one way of saying it a line
    """Say a duration with at most two units; a clock may be two seconds ahead."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(whole: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    rest = whole % unit // smaller
    return f"{whole // unit}{name}" + (f"{rest}{smaller_name}" if rest else "")


def _age(obj: Object, now: datetime) -> str:
    return since(at(obj, "metadata", "creationTimestamp"), now)


NAME: Final = Column("Name", lambda obj, _: at(obj, "metadata", "name"), format="name")
AGE: Final = Column("Age", _age)
DEFAULT: Final = (NAME, AGE)


def labels(pairs: Mapping[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((pairs or {}).items())) or NONE


def selector(raw: Mapping[str, Any] | None) -> str:
    """A label selector, or the plain map of a Service, as text."""
    if not raw:
        return NONE
    if not {"matchLabels", "matchExpressions"} & raw.keys():
        return labels(raw)
    terms = [f"{k}={v}" for k, v in sorted((raw.get("matchLabels") or {}).items())]
    for term in raw.get("matchExpressions") or ():
        values = ",".join(term.get("values") or ())
        terms.append({
            "In": f"{term['key']} in ({values})", "NotIn": f"{term['key']} notin ({values})",
            "Exists": term["key"], "DoesNotExist": f"!{term['key']}",
        }.get(term["operator"], term["key"]))  # fmt: skip
    return ",".join(terms) or NONE


def joined(values: Iterable[Any], default: str = NONE) -> str:
    return ",".join(map(str, values)) or default


def few(values: Sequence[str], most: int = 3) -> str:
    """The first of *values*, and how many more there are."""
    if not values:
        return UNSET
    extra = len(values) - most
    return ",".join(values[:most]) + (f" + {extra} more..." if extra > 0 else "")
