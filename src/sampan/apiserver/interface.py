"""What the HTTP surface and the in-process client ask of the registry.

The registry is the API without a wire: every rule about objects is behind it, and nothing about
HTTP. Authentication and authorization happened before; admission happens inside.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver.identity import CONTROL_PLANE, User
from sampan.client.interface import EventType, PatchType

Caller = Callable[[Object, Object, float], Awaitable[Object]]
"""Posts a body to what a clientConfig names, within seconds; raises ApiError."""
FieldValidation = Literal["Strict", "Warn", "Ignore"]
Propagation = Literal["Background", "Foreground", "Orphan"]


class Entry(Protocol):
    """One object as of one revision; its bytes are made once, and decoded at most once."""

    @property
    def revision(self) -> int: ...

    @property
    def data(self) -> bytes:
        """The whole object as JSON, with its resourceVersion."""

    @property
    def object(self) -> Object:
        """The same, decoded; shared, so never to be changed in place."""


class Place(Struct, frozen=True):
    """What a request is about: a collection without *name*, all namespaces without *namespace*."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Call(Struct, frozen=True, kw_only=True):
    """Who writes, and how; *warnings* collects what the answer's headers shall say."""

    user: User = CONTROL_PLANE
    dry_run: bool = False
    manager: str = ""
    force: bool = False
    validation: FieldValidation = "Warn"
    warnings: list[str] = field(default_factory=list)


class ListOptions(Struct, frozen=True, kw_only=True):
    labels: str = ""
    fields: str = ""
    limit: int | None = None
    continue_: str = ""
    revision: str = ""
    match: Literal["", "Exact", "NotOlderThan"] = ""


class Page(Struct, frozen=True):
    items: Sequence[Entry]
    revision: int
    continue_: str = ""
    remaining: int | None = None


class WatchOptions(Struct, frozen=True, kw_only=True):
    """With *since* empty or "0", or with *initial*, what exists now comes first, as ADDED."""

    since: str = ""
    labels: str = ""
    fields: str = ""
    bookmarks: bool = False
    initial: bool = False
    """sendInitialEvents: a bookmark annotated `k8s.io/initial-events-end` follows what exists."""


class Event(Struct, frozen=True):
    """A bookmark's entry has nothing but kind, apiVersion and metadata.resourceVersion."""

    type: EventType
    entry: Entry


class DeleteOptions(Struct, frozen=True, kw_only=True):
    uid: str | None = None
    revision: str | None = None
    grace_seconds: int | None = None
    propagation: Propagation | None = None


class Written(Struct, frozen=True):
    entry: Entry
    created: bool = False


class Kinds(Protocol):
    """The kinds that are served at this moment."""

    @property
    def edition(self) -> int:
        """Another number whenever other kinds are served, or the same otherwise."""

    @property
    def kinds(self) -> tuple[Kind, ...]: ...

    def find(self, group: str, version: str, plural: str) -> Kind | None: ...


class Registry(Protocol):
    """Raises the errors of `sampan.api.errors` and no others for whatever a client may send."""

    @property
    def catalog(self) -> Kinds: ...

    async def follow(self) -> None:
        """Carry out what definitions of custom resources ask for, until cancelled."""

    async def get(self, place: Place) -> Entry: ...

    async def list(self, place: Place, options: ListOptions) -> Page: ...

    def watch(self, place: Place, options: WatchOptions) -> AsyncGenerator[Sequence[Event], None]:
        """Yield what there is until closed; a bookmark, if wanted, in every minute of silence."""

    async def create(self, place: Place, obj: Object, call: Call) -> Entry:
        """Create *obj*; with a subresource (binding, eviction) post it to *place*."""

    async def connect(self, place: Place, options: Object, call: Call) -> None:
        """Raise if admission refuses a stream to *place*, such as exec, with these options."""

    def call_with(self, call: Caller) -> None:
        """Reach webhooks by *call* from now on."""

    async def update(self, place: Place, obj: Object, call: Call) -> Written: ...

    async def patch(self, place: Place, patch: Any, how: PatchType, call: Call) -> Written: ...

    async def delete(self, place: Place, options: DeleteOptions, call: Call) -> Object:
        """Return the object if it is only marked for deletion, else a `Status` of success."""

    async def delete_collection(
        self, place: Place, which: ListOptions, options: DeleteOptions, call: Call
    ) -> Page: ...
