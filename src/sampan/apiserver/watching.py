"""Watches: the store's history of one kind, told as events about the objects that were asked for.

To a watcher with a selector an object appears when it begins to match and is deleted when it
ceases to, whatever truly happened to it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from sampan.aio.ticks import Tick, with_ticks
from sampan.api.kinds import Kind
from sampan.apiserver.entries import Answer, Entries, Stored
from sampan.apiserver.filters import Filter, make_filter
from sampan.apiserver.interface import Event, Place, WatchOptions
from sampan.apiserver.listing import parse_revision, too_large
from sampan.store.interface import Change, Store

AT_ONCE: Final = 256
"""How many of the objects that exist are told together."""
SILENCE: Final = 30.0
"""Seconds without an event after which a watcher learns how far it has come."""
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}


async def watch(
    store: Store, entries: Entries, place: Place, kind: Kind, options: WatchOptions
) -> AsyncGenerator[Sequence[Event], None]:
    """Tell what happens to objects stored as *kind* from *options.since* on."""
    wanted = make_filter(place.kind, options.labels, options.fields)
    prefix = kind.key(place.namespace)
    since = parse_revision(options.since or "0")
    if since > store.revision:
        raise too_large(since, store.revision)
    if not since or options.initial:
        page = await store.list(prefix)
        since = page.revision
        for start in range(0, len(page.items), AT_ONCE):
            made = [entries.of(kind, change) for change in page.items[start : start + AT_ONCE]]
            if wanted.selective:
                made = [one for one in made if wanted.matches(one.object)]
            yield [Event("ADDED", one) for one in made]
        if options.initial:
            yield [bookmark(kind, since, initial_end=True)]
    changes = with_ticks(store.watch(prefix, since=since), SILENCE, lambda: store.revision)
    async with aclosing(changes):
        async for item in changes:
            if isinstance(item, Tick):
                if options.bookmarks:
                    yield [bookmark(kind, item.sample)]
            else:
                seen = (seen_through(kind, wanted, entries.seen(kind, one), one) for one in item)
                if events := [event for event in seen if event]:
                    yield events


def seen_through(kind: Kind, wanted: Filter, entry: Stored, change: Change) -> Event | None:
    """What *change* is to a watcher of what is *wanted*; None if it is nothing."""
    before = entry.previous
    if wanted.selective:
        then = before is not None and wanted.matches(before.object)
        now = change.value is not None and wanted.matches(entry.object)
    else:
        then, now = before is not None, change.value is not None
    if now:
        return Event("MODIFIED" if then else "ADDED", entry)
    if before is None or not then:
        return None
    return Event("DELETED", Stored(kind, change.revision, before.value) if change.value else entry)


def bookmark(kind: Kind, revision: int, *, initial_end: bool = False) -> Event:
    meta: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = _INITIAL_END
    told = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    return Event("BOOKMARK", Answer(revision, told))
