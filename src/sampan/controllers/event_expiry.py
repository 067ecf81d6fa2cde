"""Forget Events after a day, so that the store does not grow for ever.

Nobody follows Events, since they are many: each namespace is swept once an hour instead.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from sampan.api import kinds
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    CheckAgain,
    Controller,
    DeleteAll,
    Reader,
    World,
    for_each,
)
from sampan.controllers.views import Namespace

KEPT: Final = timedelta(days=1)
SWEEP: Final = 3600.0


def reconcile(namespace: Namespace, world: World) -> Iterator[Action]:
    if namespace.metadata.deleting:
        return
    yield DeleteAll(kinds.EVENTS, namespace.metadata.name, before=world.now - KEPT)
    yield CheckAgain(SWEEP)


def _appeared(delta: Delta[Namespace], _objects: Reader) -> Iterable[str]:
    return (delta.latest.metadata.key,) if delta.old is None else ()


CONTROLLER: Final = Controller(
    "event-expiry-controller", {Namespace: _appeared}, for_each(Namespace, reconcile), workers=1
)
