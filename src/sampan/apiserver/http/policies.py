"""The authorization policy of this moment, kept up to date by watches of the RBAC objects."""

from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import Final

from sampan.aio.supervise import supervise
from sampan.api.errors import Expired
from sampan.api.kinds import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, Kind
from sampan.api.objects import Object
from sampan.apiserver.authz import Policy
from sampan.apiserver.interface import Event, ListOptions, Place, Registry, WatchOptions

_WATCHED: Final = (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)


class Policies:
    """Hold every role and binding; `current` is rebuilt when one of them has changed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._objects: Mapping[Kind, dict[str, Object]] = {kind: {} for kind in _WATCHED}
        self._revisions: dict[Kind, int] = {}
        self._policy: Policy | None = None

    @property
    def ready(self) -> bool:
        return len(self._revisions) == len(_WATCHED)

    def current(self) -> Policy:
        if self._policy is None:
            self._policy = Policy.of(
                roles=self._objects[ROLES].values(),
                cluster_roles=self._objects[CLUSTER_ROLES].values(),
                bindings=self._objects[ROLE_BINDINGS].values(),
                cluster_bindings=self._objects[CLUSTER_ROLE_BINDINGS].values(),
            )
        return self._policy

    async def load(self) -> None:
        """Read all four kinds once; from then on there is a policy to decide by."""
        for kind in _WATCHED:
            await self._list(kind)

    async def follow(self) -> None:
        """Keep up with changes until cancelled."""
        works = {f"watch of {kind.plural}": partial(self._follow, kind) for kind in _WATCHED}
        await supervise(works)

    async def _follow(self, kind: Kind) -> None:
        while True:
            await self._watch(kind)

    async def _list(self, kind: Kind) -> None:
        page = await self._registry.list(Place(kind), ListOptions())
        self._objects[kind].clear()
        self._objects[kind].update({_key(entry.object): entry.object for entry in page.items})
        self._revisions[kind] = page.revision
        self._policy = None

    async def _watch(self, kind: Kind) -> None:
        options = WatchOptions(since=str(self._revisions[kind]), bookmarks=True)
        try:
            async with aclosing(self._registry.watch(Place(kind), options)) as batches:
                async for events in batches:
                    for event in events:
                        self._note(kind, event)
        except Expired:
            await self._list(kind)

    def _note(self, kind: Kind, event: Event) -> None:
        self._revisions[kind] = event.entry.revision
        if event.type == "BOOKMARK":
            return
        obj = event.entry.object
        if event.type == "DELETED":
            self._objects[kind].pop(_key(obj), None)
        else:
            self._objects[kind][_key(obj)] = obj
        self._policy = None


def _key(obj: Object) -> str:
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"
