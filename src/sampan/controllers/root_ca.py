"""The cluster's CA certificate in every namespace, so that Pods can trust the API."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from sampan.api import kinds
from sampan.client.cache import Delta
from sampan.controllers.plan import (
    Action,
    Controller,
    Create,
    Patch,
    Reader,
    World,
    for_each,
    itself,
)
from sampan.controllers.views import ConfigMap, Namespace

NAME: Final = "kube-root-ca.crt"
KEY: Final = "ca.crt"


def reconcile(ca_pem: str, namespace: Namespace, world: World) -> Iterator[Action]:
    if namespace.metadata.deleting:
        return
    space = namespace.metadata.name
    held = world.objects.get(ConfigMap, space, NAME)
    if held is None:
        metadata = {"name": NAME, "namespace": space}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        yield Create(kinds.CONFIGMAPS, {**body, "data": {KEY: ca_pem}})
    elif held.data.certificates != ca_pem and not held.metadata.deleting:
        yield Patch(held, {"data": {KEY: ca_pem}})


def _published(delta: Delta[ConfigMap], _objects: Reader) -> Iterable[str]:
    """Somebody changed or deleted a copy."""
    meta = delta.latest.metadata
    return (meta.namespace,) if meta.name == NAME else ()


def controller(ca_pem: str) -> Controller:
    return Controller(
        "root-ca-publisher",
        {Namespace: itself, ConfigMap: _published},
        for_each(Namespace, partial(reconcile, ca_pem)),
    )
