"""Lists: one page or all, always as of one revision.

A list that is read in pages keeps what is left of its snapshot here for a while, so that the pages
fit together; a snapshot costs references only, for the bytes are the store's own. When it is gone,
the client is told so, with a token to go on from there at the newest revision.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final

import msgspec
from msgspec import Struct

from sampan.api.errors import BadRequest, Expired, Timeout
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.entries import Entries, Stored
from sampan.apiserver.filters import Filter, make_filter
from sampan.apiserver.interface import Entry, ListOptions, Page, Place
from sampan.store.interface import Change, Store

SNAPSHOTS: Final = 32
"""How many paged lists may be under way; beginning another forgets the oldest."""


class Token(Struct, frozen=True, omit_defaults=True):
    """Where a paged list goes on: after *last*, in *snapshot* or at whatever is newest."""

    last: str
    snapshot: int = 0
    revision: int = 0


class StaleToken(Expired):
    """A token whose snapshot is gone; *onwards* is one that goes on at the newest revision."""

    def __init__(self, message: str, *, onwards: str) -> None:
        super().__init__(message)
        self.onwards = onwards

    @property
    def reason(self) -> str:
        return Expired.__name__

    def status(self) -> Object:
        return {**super().status(), "metadata": {"continue": self.onwards}}


class Lister:
    def __init__(self, store: Store, entries: Entries) -> None:
        self._store = store
        self._entries = entries
        self._serial = count(1)
        self._snapshots: dict[int, Sequence[Change]] = {}

    async def list(self, place: Place, kind: Kind, options: ListOptions) -> Page:
        """List what is stored as *kind*; *place* says which of it."""
        wanted = make_filter(place.kind, options.labels, options.fields)
        if options.continue_:
            return await self._continue(kind, place, options, wanted)
        page = await self._store.list(_prefix(kind, place, wanted))
        _check_revision(options, page.revision)
        return self._page(kind, page.items, page.revision, options, wanted)

    async def _continue(
        self, kind: Kind, place: Place, options: ListOptions, wanted: Filter
    ) -> Page:
        token = _read_token(options.continue_)
        prefix = _prefix(kind, place, wanted)
        if token.last and not token.last.startswith(prefix):
            raise BadRequest("continue key is not valid: it belongs to another list")
        if not token.snapshot:
            page = await self._store.list(prefix, after=token.last)
            return self._page(kind, page.items, page.revision, options, wanted)
        snapshot = self._snapshots.pop(token.snapshot, None)
        if snapshot is None:
            raise _too_old(token)
        rest = [change for change in snapshot if change.key > token.last]
        self._snapshots[token.snapshot] = snapshot
        return self._page(kind, rest, token.revision, options, wanted, token.snapshot)

    def _page(
        self,
        kind: Kind,
        items: Sequence[Change],
        revision: int,
        options: ListOptions,
        wanted: Filter,
        snapshot: int = 0,
    ) -> Page:
        limit = options.limit or 0
        found = self._matching(kind, items, wanted)
        if limit <= 0:
            self._snapshots.pop(snapshot, None)
            return Page([entry for entry, _ in found], revision)
        taken: list[Entry] = []
        last = 0
        for entry, position in found:
            if len(taken) == limit:
                break
            taken.append(entry)
            last = position
        else:
            self._snapshots.pop(snapshot, None)
            return Page(taken, revision)
        snapshot = snapshot or self._keep(items)
        token = Token(items[last].key, snapshot, revision)
        left = None if wanted.selective else len(items) - last - 1
        return Page(taken, revision, _write_token(token), left)

    def _matching(
        self, kind: Kind, items: Sequence[Change], wanted: Filter
    ) -> Iterable[tuple[Stored, int]]:
        make: Callable[[Kind, Change], Stored] = self._entries.of
        for position, change in enumerate(items):
            entry = make(kind, change)
            if not wanted.selective or wanted.matches(entry.object):
                yield entry, position

    def _keep(self, items: Sequence[Change]) -> int:
        serial = next(self._serial)
        self._snapshots[serial] = items
        if len(self._snapshots) > SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        return serial


def _prefix(kind: Kind, place: Place, wanted: Filter) -> str:
    if wanted.name and (place.namespace or not kind.namespaced):
        return kind.key(place.namespace, wanted.name)
    return kind.key(place.namespace)


def _check_revision(options: ListOptions, newest: int) -> None:
    if not options.revision:
        if options.match:
            raise BadRequest(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless "
                "resourceVersion is provided"
            )
        return
    wanted = parse_revision(options.revision)
    if wanted > newest:
        raise too_large(wanted, newest)
    if options.match == "Exact" and wanted != newest:
        if wanted == 0:
            raise BadRequest(
                'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for '
                'resourceVersion "0"'
            )
        raise Expired(f"The resourceVersion for the provided list is too old: {wanted}")


def parse_revision(text: str) -> int:
    """Read a resourceVersion; raise BadRequest if it is none of ours."""
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"invalid resource version {text!r}: it must be what this API returned")
    return int(text)


def too_large(wanted: int, newest: int) -> Timeout:
    return Timeout(
        f"Too large resource version: {wanted}, current: {newest}",
        retry_after=1,
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large"}]},
    )


def _too_old(token: Token) -> Expired:
    return StaleToken(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter, or use the continue token in this "
        "response to retrieve the remainder of the results. Continuing with the provided token "
        "results in an inconsistent list - objects that were created, modified, or deleted "
        "between the time the first chunk was returned and now may show up in the list.",
        onwards=_write_token(Token(token.last)),
    )


def _write_token(token: Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def _read_token(text: str) -> Token:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=Token)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadRequest(
            "continue key is not valid: give back what the last page returned"
        ) from error
