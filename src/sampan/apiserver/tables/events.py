"""Events of either group."""

from datetime import datetime
from typing import Any, Final

from sampan.api.objects import Object
from sampan.apiserver.tables.columns import NAME, UNKNOWN, Column, at, since, text, wide


def _either(event: Object, *names: str) -> Any:
    return next((event[name] for name in names if event.get(name)), None)


def _about(event: Object) -> Object:
    found: Object = _either(event, "involvedObject", "regarding") or {}
    return found


def _first(event: Object) -> Any:
    return _either(event, "firstTimestamp", "deprecatedFirstTimestamp", "eventTime")


def _last_seen(event: Object, now: datetime) -> str:
    last = at(event, "series", "lastObservedTime")
    last = last or _either(event, "lastTimestamp", "deprecatedLastTimestamp") or _first(event)
    return since(last, now)


def _object(event: Object, _now: datetime) -> str:
    about = _about(event)
    name = about.get("name", "")
    return f"{about.get('kind', '').lower()}/{name}" if name else about.get("kind", "").lower()


def _count(event: Object, _now: datetime) -> int:
    counted = at(event, "series", "count") or _either(event, "count", "deprecatedCount")
    return int(counted or 1)


def _source(event: Object, _now: datetime) -> str:
    source = _either(event, "source", "deprecatedSource") or {}
    component = source.get("component") or _either(
        event, "reportingComponent", "reportingController"
    )
    host = source.get("host")
    return f"{component or ''}, {host}" if host else str(component or "")


def _message(event: Object, _now: datetime) -> str:
    return str(_either(event, "message", "note") or "").strip()


COLUMNS: Final = (
    Column("Last Seen", _last_seen),
    text("Type", "type"),
    text("Reason", "reason"),
    Column("Object", _object),
    wide("Subobject", lambda event, _: _about(event).get("fieldPath", "")),
    wide("Source", _source),
    Column("Message", _message),
    wide("First Seen", lambda event, now: since(_first(event), now) if _first(event) else UNKNOWN),
    wide("Count", _count),
    Column(NAME.name, NAME.cell, wide=True, format=NAME.format),
)
