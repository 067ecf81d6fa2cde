"""A ServiceAccount `default` in every namespace: Pods that name none run as it."""

from collections.abc import Iterable, Iterator
from typing import Final

from sampan.api import kinds
from sampan.api.objects import ServiceAccount
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    Controller,
    Create,
    Reader,
    World,
    for_each,
    itself,
)
from sampan.controllers.views import Namespace

NAME: Final = "default"


def reconcile(namespace: Namespace, world: World) -> Iterator[Action]:
    name = namespace.metadata.name
    if namespace.metadata.deleting or world.objects.get(ServiceAccount, name, NAME):
        return
    metadata = {"name": NAME, "namespace": name}
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    yield Create(kinds.SERVICE_ACCOUNTS, body)


def _gone(delta: Delta[ServiceAccount], _objects: Reader) -> Iterable[str]:
    meta = delta.latest.metadata
    return (meta.namespace,) if delta.new is None and meta.name == NAME else ()


CONTROLLER: Final = Controller(
    "serviceaccount-controller",
    {Namespace: itself, ServiceAccount: _gone},
    for_each(Namespace, reconcile),
)
