"""Delete what was owned by something that is gone, and let go of owners that wait for it.

Three ways to delete an owner, as in Kubernetes (its documentation, "Garbage Collection"): in the
background its dependents go after it; in the foreground it waits, by a finalizer, until those that
block it are gone; or it orphans them first. Before anything is deleted the API itself is asked
whether the owners are really gone: a cache may be behind.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from sampan.api.kinds import Kind
from sampan.api.objects import Node, OwnerReference, Resource
from sampan.client.cache import Delta
from sampan.controllers.claims import disown
from sampan.controllers.contents import CONTENTS
from sampan.controllers.plan import Action, Controller, Delete, Gone, Patch, Reader, World
from sampan.controllers.views import Namespace

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"

_VIEWS: Final[tuple[type[Resource], ...]] = (*CONTENTS.values(), Node, Namespace)
_BY_PATH: Final = {(view.KIND.group or "core", view.KIND.plural): view for view in _VIEWS}
_BY_KIND: Final = {(view.KIND.group, view.KIND.kind): view for view in _VIEWS}


def key_of(obj: Resource) -> str:
    return obj.KIND.key(obj.metadata.namespace, obj.metadata.name)


def _found(key: str, objects: Reader) -> Resource | None:
    _, group, plural, *place = key.split("/")
    view = _BY_PATH.get((group, plural)) or _added(objects, lambda k: k.plural == plural, group)
    return objects.get(view, "/".join(place[:-1]), place[-1]) if view else None


def _added(objects: Reader, fits: Callable[[Kind], bool], group: str) -> type[Resource] | None:
    """The newest view of a custom resource of *group* that *fits*."""
    found = (view for view in reversed(objects.added) if view.KIND.group == group)
    return next((view for view in found if fits(view.KIND)), None)


def reconcile(key: str, world: World) -> Iterator[Action]:
    obj = _found(key, world.objects)
    if obj is None:
        return
    if obj.metadata.deleting:
        yield from _finalize(obj, world.objects)
        return
    owners = obj.metadata.owner_references
    if owners and not any(_stands(owner, obj, world.objects) for owner in owners):
        yield Delete(obj, propagation=_propagation(obj), given=Gone(tuple(owners)))


def _owner(ref: OwnerReference, obj: Resource, objects: Reader) -> Resource | None:
    view = _view(ref, objects)
    if view is None:
        return None
    found = objects.get(view, obj.metadata.namespace if view.KIND.namespaced else "", ref.name)
    return found if found is not None and found.metadata.uid == ref.uid else None


def _view(ref: OwnerReference, objects: Reader) -> type[Resource] | None:
    group = ref.api_version.rpartition("/")[0]
    return _BY_KIND.get((group, ref.kind)) or _added(objects, lambda k: k.kind == ref.kind, group)


def _stands(ref: OwnerReference, obj: Resource, objects: Reader) -> bool:
    """Whether the owner is there; one of a kind that nobody follows is taken for present."""
    return _view(ref, objects) is None or _owner(ref, obj, objects) is not None


def _propagation(obj: Resource) -> Literal["Background", "Foreground", "Orphan"]:
    """Go on in the way that the object itself was told, before its owner's end reached it."""
    if ORPHAN in obj.metadata.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in obj.metadata.finalizers else "Background"


def _finalize(obj: Resource, objects: Reader) -> Iterator[Action]:
    held = obj.metadata.finalizers
    if ORPHAN in held:
        dependents = list(_dependents(obj, objects))
        yield from (disown(dependent, obj.metadata.uid) for dependent in dependents)
        if not dependents:
            yield _without(ORPHAN, obj)
    elif FOREGROUND in held:
        dependents = list(_dependents(obj, objects))
        for dependent in dependents:
            if not dependent.metadata.deleting:
                yield _end(dependent, obj, objects)
        if not any(_blocks(dependent, obj) for dependent in dependents):
            yield _without(FOREGROUND, obj)


def _dependents(owner: Resource, objects: Reader) -> Iterator[Resource]:
    for view in (*CONTENTS.values(), *objects.added):
        yield from objects.by(view, "owner", owner.metadata.uid)


def _end(dependent: Resource, owner: Resource, objects: Reader) -> Action:
    """Delete a dependent, or if somebody else owns it too, only cut the tie."""
    refs = dependent.metadata.owner_references
    others = (ref for ref in refs if ref.uid != owner.metadata.uid)
    if any(_stands(ref, dependent, objects) for ref in others):
        return disown(dependent, owner.metadata.uid)
    return Delete(dependent, propagation="Foreground")


def _blocks(dependent: Resource, owner: Resource) -> bool:
    refs = dependent.metadata.owner_references
    return any(ref.uid == owner.metadata.uid and ref.block_owner_deletion for ref in refs)


def _without(finalizer: str, obj: Resource) -> Patch:
    left = [held for held in obj.metadata.finalizers if held != finalizer]
    revision = obj.metadata.resource_version
    return Patch(obj, {"metadata": {"resourceVersion": revision, "finalizers": left or None}})


def changed(delta: Delta[Any], objects: Reader) -> Iterator[str]:
    """What a change may have made garbage, and the owners that it may have set free."""
    new, old = delta.new, delta.old
    if new is None:
        yield from map(key_of, _dependents(delta.latest, objects))
    elif _ties(new) and (old is None or _ties(old) != _ties(new)):
        yield key_of(new)
    for ref in old.metadata.owner_references if old else ():
        if new is None or ref not in new.metadata.owner_references:
            owner = _owner(ref, delta.latest, objects)
            if owner and owner.metadata.deleting:
                yield key_of(owner)


def _ties(obj: Resource) -> tuple[object, ...]:
    """What binds an object to others; nothing at all for most."""
    meta = obj.metadata
    held = [f for f in meta.finalizers if f in {FOREGROUND, ORPHAN}]
    if not held and not meta.owner_references:
        return ()
    return meta.owner_references, meta.deleting, held


CONTROLLER: Final = Controller(
    "garbage-collector", dict.fromkeys(_VIEWS, changed), reconcile, workers=32
)
