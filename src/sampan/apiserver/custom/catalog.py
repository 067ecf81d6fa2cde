"""Which kinds are served at this moment: those that are built in, and those that were defined."""

from collections.abc import Mapping
from typing import Final

from sampan.api.kinds import BY_RESOURCE, KINDS, Kind
from sampan.apiserver.custom.kind import CustomKind, Definition

BUILT_IN_GROUPS: Final = frozenset(kind.group for kind in KINDS)


class Catalog:
    """Looked through by whoever has a name and wants a kind; `keeper` keeps it up to date."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}
        self._custom: Mapping[tuple[str, str, str], CustomKind] = {}
        self._kinds: tuple[Kind, ...] = KINDS
        self._edition = 0

    @property
    def edition(self) -> int:
        """Another number whenever other kinds are served, or the same otherwise."""
        return self._edition

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind of a resource; None if it is not served."""
        return BY_RESOURCE.get((group, version, plural)) or self._custom.get(
            (group, version, plural)
        )

    def current(self, kind: Kind) -> Kind | None:
        """*kind* as it is served now, if it is: clients in process know it by its names only."""
        if kind.group in BUILT_IN_GROUPS and not isinstance(kind, CustomKind):
            return kind
        return self._custom.get((kind.group, kind.version, kind.plural))

    def serves(self, kind: Kind) -> bool:
        return self.find(kind.group, kind.version, kind.plural) is not None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Every kind that is served, built-ins first."""
        return self._kinds

    @property
    def definitions(self) -> Mapping[str, Definition]:
        return self._definitions

    def put(self, definition: Definition) -> None:
        before = self._definitions.get(definition.name)
        if before and (definition.terminating or definition.uid != before.uid):
            before.terminating = True
        self._definitions[definition.name] = definition
        self._renew()

    def remove(self, name: str) -> None:
        if before := self._definitions.pop(name, None):
            before.terminating = True
            self._renew()

    def _renew(self) -> None:
        served = [kind for one in self._definitions.values() for kind in one.served]
        self._custom = {(kind.group, kind.version, kind.plural): kind for kind in served}
        self._kinds = (*KINDS, *sorted(served, key=lambda kind: (kind.group, kind.plural)))
        self._edition += 1
