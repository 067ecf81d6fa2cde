"""The bytes of an answer: stored objects joined, or shown as a Table or as metadata only."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

import orjson

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.http.negotiate import Accepted
from sampan.apiserver.interface import Entry, Event, Page
from sampan.apiserver.tables import table
from sampan.client.interface import EventType

_META: Final = "meta.k8s.io/v1"
_OPENING: Final[Mapping[str, bytes]] = {
    type_: b'{"type":"' + type_.encode() + b'","object":'
    for type_ in (*get_args(EventType), "ERROR")
}


def listed(kind: Kind, page: Page) -> bytes:
    """Write a List of *page*'s items without decoding them."""
    head = {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": list_meta(page)}
    items = b",".join(entry.data for entry in page.items)
    return orjson.dumps(head)[:-1] + b',"items":[' + items + b"]}"


def list_meta(page: Page) -> Object:
    meta: Object = {"resourceVersion": str(page.revision)}
    if page.continue_:
        meta["continue"] = page.continue_
    if page.remaining is not None:
        meta["remainingItemCount"] = page.remaining
    return meta


def metadata_only(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}


def metadata_list(page: Page) -> Object:
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": _META,
        "metadata": list_meta(page),
        "items": [metadata_only(entry.object) for entry in page.items],
    }


def tabled(
    kind: Kind, objects: Sequence[Object], meta: Object, now: datetime, include: str
) -> Object:
    """Make the Table; *include* says how much of each object goes along: Object, Metadata, None."""
    shown = table(kind, list(objects), now)
    rows = [
        _row(row, obj, include) for row, obj in zip(shown.get("rows") or (), objects, strict=True)
    ]
    return {
        "kind": "Table",
        "apiVersion": _META,
        "metadata": meta,
        "columnDefinitions": shown["columnDefinitions"],
        "rows": rows,
    }


def _row(row: Object, obj: Object, include: str) -> Object:
    cells = {key: value for key, value in row.items() if key != "object"}
    if include == "None":
        return cells
    return {**cells, "object": obj if include == "Object" else metadata_only(obj)}


def one(kind: Kind, entry: Entry, accepted: Accepted, now: datetime, include: str) -> bytes:
    """Write one object in the form that was asked for."""
    if accepted.is_table:
        meta = {"resourceVersion": entry.object["metadata"].get("resourceVersion", "")}
        return orjson.dumps(tabled(kind, [entry.object], meta, now, include))
    if accepted.is_metadata:
        return orjson.dumps(metadata_only(entry.object))
    return entry.data


def page(kind: Kind, found: Page, accepted: Accepted, now: datetime, include: str) -> bytes:
    if accepted.is_table:
        objects = [entry.object for entry in found.items]
        return orjson.dumps(tabled(kind, objects, list_meta(found), now, include))
    if accepted.is_metadata:
        return orjson.dumps(metadata_list(found))
    return listed(kind, found)


def event_line(type_: str, obj: bytes) -> bytes:
    return _OPENING[type_] + obj + b"}\n"


class EventForm:
    """Writes a watch's events in one form; a Table tells its columns only once."""

    def __init__(self, kind: Kind, accepted: Accepted, include: str) -> None:
        self._kind = kind
        self._accepted = accepted
        self._include = include
        self._columns_told = False

    def lines(self, events: Iterable[Event], now: datetime) -> bytes:
        if not self._accepted.form:
            return b"".join(
                part for one in events for part in (_OPENING[one.type], one.entry.data, b"}\n")
            )
        return b"".join(self._line(event.type, event.entry, now) for event in events)

    def _line(self, type_: str, entry: Entry, now: datetime) -> bytes:
        if self._accepted.is_table:
            return event_line(type_, orjson.dumps(self._table(type_, entry, now)))
        if self._accepted.is_metadata and type_ != "BOOKMARK":
            return event_line(type_, orjson.dumps(metadata_only(entry.object)))
        return event_line(type_, entry.data)

    def _table(self, type_: str, entry: Entry, now: datetime) -> Any:
        obj = entry.object
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        objects = [] if type_ == "BOOKMARK" else [obj]
        shown = tabled(self._kind, objects, meta, now, self._include)
        if self._columns_told:
            shown["columnDefinitions"] = []
        self._columns_told = self._columns_told or bool(objects)
        return shown
