"""Which objects a controller owns: its own, minus strays, plus orphans that match its selector."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sampan.api.objects import Resource
from sampan.api.selectors import Selector
from sampan.client.interface import PatchType
from sampan.controllers.plan import Alive, Patch
from sampan.controllers.views import controls, reference

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Claim(Generic[R]):
    """*held* are ours now; *adopted* and *released* change hands by `changes`."""

    owner: Resource
    held: tuple[R, ...]
    adopted: tuple[R, ...]
    released: tuple[R, ...]

    @property
    def members(self) -> tuple[R, ...]:
        return self.held + self.adopted

    def changes(self) -> Iterator[Patch]:
        for obj in self.adopted:
            yield _owner_patch(obj, reference(self.owner), given=Alive(self.owner))
        for obj in self.released:
            yield disown(obj, self.owner.metadata.uid)


def claim(
    owner: Resource, selector: Selector, owned: Iterable[R], orphans: Iterable[R]
) -> Claim[R]:
    """Sort candidates by Kubernetes' rules: a dying owner adopts nothing and releases nothing."""
    ours = [obj for obj in owned if controls(owner, obj)]
    if owner.metadata.deleting:
        return Claim(owner, tuple(ours), (), ())
    held = tuple(obj for obj in ours if selector.matches(obj.metadata.labels))
    strays = tuple(
        obj
        for obj in ours
        if not selector.matches(obj.metadata.labels) and not obj.metadata.deleting
    )
    adopted = tuple(
        obj
        for obj in orphans
        if not obj.metadata.deleting
        and obj.metadata.namespace == owner.metadata.namespace
        and selector.matches(obj.metadata.labels)
    )
    return Claim(owner, held, adopted, strays)


def disown(obj: Resource, owner: str) -> Patch:
    """Take the owner with this uid from *obj*."""
    return _owner_patch(obj, {"$patch": "delete", "uid": owner})


def _owner_patch(obj: Resource, change: dict[str, object], given: Alive | None = None) -> Patch:
    metadata = {"uid": obj.metadata.uid, "ownerReferences": [change]}
    return Patch(obj, {"metadata": metadata}, how=PatchType.STRATEGIC, given=given)
