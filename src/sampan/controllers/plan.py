"""What a controller may ask for, and what it may look at: plain frozen records.

A controller is a generator of actions. Its request is a key, never an event; the plan follows
from what exists now, so a lost event costs nothing and a satisfied object plans nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from sampan.api.errors import ApiError
from sampan.api.kinds import Kind
from sampan.api.objects import Object, OwnerReference, Resource
from sampan.client.cache import Delta
from sampan.client.interface import PatchType

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class RecordEvent:
    """Tell people that something happened to *about*."""

    about: Resource
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True, slots=True)
class Alive:
    """Write only if the API, not just the cache, still has this very object, not deleting."""

    obj: Resource


@dataclass(frozen=True, slots=True)
class Gone:
    """Write only if the API, not just the cache, has none of these owners any more.

    An owner without a uid stands for whatever has its name; *namespace* is where they are, if
    not where the object is.
    """

    owners: tuple[OwnerReference, ...]
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object. *done* is recorded afterwards; `{name}` in it is the name it got."""

    kind: Kind
    body: Object
    done: RecordEvent | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    obj: Resource
    propagation: Literal["Background", "Foreground", "Orphan"] | None = None
    grace_seconds: int | None = None
    given: Gone | None = None
    done: RecordEvent | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    obj: Resource
    patch: Object
    subresource: str = ""
    how: PatchType = PatchType.MERGE
    given: Alive | Gone | None = None
    done: RecordEvent | None = None


@dataclass(frozen=True, slots=True)
class DeleteAll:
    """Delete every object of a kind that no cache follows, in one namespace.

    With *before*, only those that were last written about before then.
    """

    kind: Kind
    namespace: str
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finalize:
    """Let a Namespace go, if the API confirms that nothing of *kinds* is left in it.

    What is left of *swept*, kinds that no cache follows, is deleted first.
    """

    obj: Resource
    kinds: tuple[Kind, ...]
    swept: tuple[Kind, ...] = ()
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyContent:
    """Give the ConfigMap or Secret called *name* the content of *source*, if that is as the plan
    saw it.

    It is made with *metadata*, and immutable, if it is not there; if it is, only while its
    content is the one that *instead_of* names.
    """

    source: Any
    name: str
    metadata: Object
    instead_of: str = ""
    done: RecordEvent | None = None


@dataclass(frozen=True, slots=True)
class CheckAgain:
    """Look at this key again after some seconds, even if nothing happens to it."""

    after: float


Write: TypeAlias = Create | Delete | Patch | DeleteAll | Finalize | CopyContent
Action: TypeAlias = Write | RecordEvent | CheckAgain


def set_status(obj: Resource, status: Object) -> Patch:
    """Merge *status* into the object's status, and touch nothing else."""
    return Patch(obj, {"status": status}, subresource="status")


@dataclass(frozen=True, slots=True)
class Failure:
    """The write of a key's last plan that the API refused."""

    write: Write
    error: ApiError


class Reader(Protocol):
    """The part of a cache that deciding code may see."""

    @property
    def added(self) -> Sequence[type[Resource]]:
        """The views of custom resources."""

    def get(self, view: type[R], namespace: str, name: str) -> R | None: ...
    def all(self, view: type[R], namespace: str = "") -> Sequence[R]: ...
    def by(self, view: type[R], index: str, value: str) -> Sequence[R]: ...


@dataclass(frozen=True, slots=True)
class World:
    """Everything a plan may depend on."""

    objects: Reader
    now: datetime
    clock: float = 0.0
    """Monotonic seconds of this process, comparable with *heard*."""
    heard: Mapping[str, float] = field(default_factory=dict)
    """When, by *clock*, each node's Lease was last renewed."""
    failure: Failure | None = None


Trigger: TypeAlias = Callable[[Delta[Any], Reader], Iterable[str]]
"""Which keys a change makes worth a look."""


@dataclass(frozen=True, slots=True)
class Controller:
    """*name* signs its events; *triggers* turn changes into keys; *reconcile* plans for one."""

    name: str
    triggers: Mapping[type[Resource], Trigger]
    reconcile: Callable[[str, World], Iterable[Action]]
    workers: int = 16


def split(key: str) -> tuple[str, str]:
    """Return the namespace ("" for what has none) and the name that *key* is made of."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def for_each(
    view: type[R], reconcile: Callable[[R, World], Iterable[Action]]
) -> Callable[[str, World], Iterable[Action]]:
    """Turn a decision about an object into one about its key; what is gone needs none."""

    def plan(key: str, world: World) -> Iterable[Action]:
        obj = world.objects.get(view, *split(key))
        return reconcile(obj, world) if obj is not None else ()

    return plan


def itself(delta: Delta[Any], _objects: Reader) -> Iterable[str]:
    return (delta.latest.metadata.key,)


def its_controller(kind: Kind) -> Trigger:
    """Wake the object of *kind* that controls, or controlled, the one that changed."""

    def keys(delta: Delta[Any], _objects: Reader) -> Iterable[str]:
        seen = {
            f"{obj.metadata.namespace}/{owner.name}"
            for obj in (delta.old, delta.new)
            if obj and (owner := obj.metadata.controller) and owner.kind == kind.kind
        }
        return sorted(seen)

    return keys
