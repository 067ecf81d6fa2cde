"""The only way to the API, whichever side of a wire the server is on.

Objects are raw JSON dicts and must not be changed in place: in one process they are shared with
the server and with every other reader.
"""

from collections.abc import AsyncGenerator, Sequence
from enum import StrEnum
from typing import Literal, Protocol

from msgspec import Struct

from sampan.api.kinds import Kind
from sampan.api.objects import Object

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


class PatchType(StrEnum):
    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class WatchEvent(Struct, frozen=True):
    type: EventType
    object: Object


class Listing(Struct, frozen=True):
    """*items* as of *revision*, from which a watch may go on."""

    items: Sequence[Object]
    revision: str


class Client(Protocol):
    """Every method raises an ApiError of `sampan.api.errors`; none retries by itself."""

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object: ...

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        """List one namespace, or all with ""; *labels* and *fields* are selector texts."""

    def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changed after *since*, bookmarks too; raise Expired when that is too old.

        Ends without an error when the server closes the watch.
        """

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        """Create *obj*, or with *subresource* post it to the object that its metadata names."""

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object: ...

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str = "",
        *,
        subresource: str = "",
        how: PatchType = PatchType.MERGE,
    ) -> Object: ...

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> None:
        """Ask for deletion; with *uid*, only of that very object (else Conflict)."""
