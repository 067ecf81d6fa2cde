"""Empty a namespace that was deleted, then let it go.

The plan reads the cache only: it deletes what is there, and asks the API itself, kind by kind,
only once that looks empty. What keeps a namespace is told in its conditions, as Kubernetes does.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sampan.api.kinds import Kind
from sampan.api.objects import Condition, Resource, condition
from sampan.client.cache import Delta
from sampan.controllers.contents import CONTENTS, SWEPT
from sampan.controllers.plan import (
    Action,
    Controller,
    Delete,
    Finalize,
    Reader,
    World,
    for_each,
    itself,
    set_status,
)
from sampan.controllers.status import raw_condition, without_condition
from sampan.controllers.views import Namespace, seconds

FINALIZER: Final = "kubernetes"

Left = Mapping[Kind, Sequence[Resource]]


def reconcile(namespace: Namespace, world: World) -> Iterator[Action]:
    name, finalizers = namespace.metadata.name, namespace.spec.finalizers
    if not namespace.metadata.deleting or FINALIZER not in finalizers:
        return
    custom = {view.KIND: view for view in world.objects.added if view.KIND.namespaced}
    contents = {**CONTENTS, **custom}
    left = {k: found for k, view in contents.items() if (found := world.objects.all(view, name))}
    if not left:
        others = tuple(held for held in finalizers if held != FINALIZER)
        yield Finalize(namespace, tuple(contents), SWEPT, others)
        return
    for objects in left.values():
        for obj in objects:
            if not obj.metadata.deleting:
                yield Delete(obj, propagation="Background")
    yield from _report(namespace, left, world)


def _report(namespace: Namespace, left: Left, world: World) -> Iterator[Action]:
    held, conditions = namespace.status.conditions, namespace.status.conditions
    for new in _conditions(left, world):
        old = condition(held, new.type)
        if old is None or _essence(old) != _essence(new):
            conditions = [*without_condition(conditions, new.type), new]
    if conditions is not held or namespace.status.phase != "Terminating":
        raw = [raw_condition(c) for c in conditions]
        yield set_status(namespace, {"phase": "Terminating", "conditions": raw})


def _essence(c: Condition) -> tuple[str, str, str]:
    return c.status, c.reason, c.message


def _conditions(left: Left, world: World) -> Iterator[Condition]:
    at = seconds(world.now)
    if (failure := world.failure) and isinstance(failure.write, Delete):
        meta = failure.write.obj.metadata
        text = f"Failed to delete {failure.write.obj.KIND.resource} {meta.name}: {failure.error}"
        failed = ("True", "ContentDeletionFailed", text)
    else:
        text = "All content successfully deleted, may be waiting on finalization"
        failed = ("False", "ContentDeleted", text)
    yield Condition("NamespaceDeletionContentFailure", *failed, last_transition_time=at)
    counts = (f"{kind.resource} has {len(objs)} resource instances" for kind, objs in left.items())
    text = f"Some resources are remaining: {', '.join(counts)}"
    yield Condition(
        "NamespaceContentRemaining", "True", "SomeResourcesRemain", text, last_transition_time=at
    )
    if finalizers := _finalizers(left):
        counts = (f"{f} in {n} resource instances" for f, n in sorted(finalizers.items()))
        text = f"Some content in the namespace has finalizers remaining: {', '.join(counts)}"
        remaining = ("True", "SomeFinalizersRemain", text)
    else:
        remaining = (
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        )
    yield Condition("NamespaceFinalizersRemaining", *remaining, last_transition_time=at)


def _finalizers(left: Left) -> dict[str, int]:
    counts: dict[str, int] = {}
    for obj in (obj for objects in left.values() for obj in objects):
        for finalizer in obj.metadata.finalizers:
            counts[finalizer] = counts.get(finalizer, 0) + 1
    return counts


def content(delta: Delta[Any], objects: Reader) -> Iterator[str]:
    """What appears in or leaves a namespace that is going."""
    if delta.old and delta.new:
        return
    namespace = objects.get(Namespace, "", delta.latest.metadata.namespace)
    if namespace and namespace.metadata.deleting:
        yield namespace.metadata.name


CONTROLLER: Final = Controller(
    "namespace-controller",
    {Namespace: itself, **dict.fromkeys(CONTENTS.values(), content)},
    for_each(Namespace, reconcile),
)
