"""Kinds that definitions make: followed for garbage collection and for emptying namespaces.

The cache follows the definitions themselves; whenever one is established, its objects are followed
too, by nothing but their metadata. A definition that is gone has no objects left: what they owned
is looked at again.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import field

from sampan.api.kinds import DEFINITIONS, Kind
from sampan.api.objects import Condition, Resource, View, is_true
from sampan.client.cache import Cache, Delta, Index, Interest
from sampan.controllers.contents import bare
from sampan.controllers.loop import Loop
from sampan.controllers.plan import Trigger


class _Version(View):
    name: str
    served: bool = False
    storage: bool = False


class _Names(View):
    kind: str = ""
    plural: str = ""


class _Spec(View):
    group: str = ""
    scope: str = ""
    names: _Names = _Names()
    versions: list[_Version] = field(default_factory=list)


class _Status(View):
    conditions: list[Condition] = field(default_factory=list)


class Definition(Resource):
    KIND = DEFINITIONS
    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def kind(self) -> Kind | None:
        """What its objects are followed as: as they are kept, if that version is served."""
        if not is_true(self.status.conditions, "Established"):
            return None
        served = sorted((v for v in self.spec.versions if v.served), key=lambda v: not v.storage)
        if not served:
            return None
        spec, names = self.spec, self.spec.names
        namespaced = spec.scope == "Namespaced"
        return Kind(spec.group, served[0].name, names.kind, names.plural, namespaced)


INTEREST: Final = Interest(Definition)


class CustomResources:
    """Has *cache* follow the objects of every definition, and *triggers* look at their changes."""

    def __init__(
        self,
        cache: Cache,
        loop: Loop,
        triggers: Mapping[str, Trigger],
        indexes: Mapping[str, Index],
    ) -> None:
        self._cache = cache
        self._loop = loop
        self._triggers = triggers
        self._indexes = indexes
        self._followed: dict[str, Kind] = {}
        self._views: dict[Kind, type[Resource]] = {}
        cache.subscribe(self._changed)

    def _changed(self, delta: Delta[Any]) -> None:
        if delta.view is not Definition:
            return
        name = delta.latest.metadata.name
        before, now = self._followed.get(name), delta.new.kind if delta.new else None
        if before == now:
            return
        if before:
            self._cache.drop(self._views[before])
            del self._followed[name]
        if now:
            self._followed[name] = now
            view = self._views.setdefault(now, bare(now))
            self._loop.follow(view, self._triggers)
            self._cache.add(Interest(view, indexes=self._indexes))
