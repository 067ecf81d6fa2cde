"""Make the cluster's objects what a file says, and take away what it says no more.

Every object remembers what was last applied to it. The next time only the difference is sent: what
the file no longer names is removed, and what others have set beside it stays.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from sampan.api import kinds
from sampan.api.errors import AlreadyExists, Conflict, NotFound
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.client.interface import Client

STACK: Final = "sampan.io/stack"
APPLIED: Final = "sampan.io/applied"
STAGES: Final = (
    kinds.CONFIGMAPS, kinds.SECRETS, kinds.PERSISTENT_VOLUME_CLAIMS, kinds.SERVICES,
    kinds.DEPLOYMENTS,
)  # fmt: skip
"""What a stack is made of, in the order in which it must exist."""
KEPT: Final = (kinds.PERSISTENT_VOLUME_CLAIMS,)
"""What holds data, and is deleted only when somebody says so."""
_VERSIONED: Final = (kinds.CONFIGMAPS, kinds.SECRETS)
"""Named after their content: one that exists is as it should be."""

Existing = Mapping[tuple[Kind, str], Object]


class NotOurs(Exception):
    """A namespace of that name exists and is no stack."""


class PortTaken(Exception):
    """Another application publishes a port already."""


async def apply(client: Client, objects: Sequence[Object]) -> None:
    """Create or change *objects*, a Namespace and what is in it; prune the rest of the stack."""
    [namespace] = [obj for obj in objects if obj["kind"] == "Namespace"]
    name = namespace["metadata"]["name"]
    await _check_ports(client, name, objects)
    await _ensure_namespace(client, namespace)
    wanted = {(_kind(obj), obj["metadata"]["name"]): obj for obj in objects if obj is not namespace}
    existing = await _existing(client, name)
    for stage in STAGES:
        async with asyncio.TaskGroup() as group:
            for key, obj in wanted.items():
                if key[0] is stage:
                    group.create_task(_put(client, stage, obj, existing.get(key)))
    surplus = [key for key in existing if key not in wanted and key[0] not in KEPT]
    await _prune(client, name, surplus)


def _kind(obj: Object) -> Kind:
    return kinds.BY_GVK[obj["apiVersion"], obj["kind"]]


async def find_stack(client: Client, name: str) -> Object | None:
    """Return the namespace of the stack *name*; raise NotOurs if it belongs to something else."""
    try:
        found = await client.get(kinds.NAMESPACES, name)
    except NotFound:
        return None
    if (found["metadata"].get("labels") or {}).get(STACK) != name:
        raise NotOurs(f"the namespace {name!r} exists and is no stack of `sampan up`")
    return found


async def _ensure_namespace(client: Client, namespace: Object) -> None:
    name = namespace["metadata"]["name"]
    found = await find_stack(client, name)
    if found and found["metadata"].get("deletionTimestamp"):
        await gone(client, name)
        found = None
    if found is None:
        await client.create(kinds.NAMESPACES, namespace)


async def take_off(client: Client, namespace: str) -> list[str]:
    """Delete all of a stack but what holds data; return the names of that."""
    found = await _existing(client, namespace)
    for kind, name in found:
        if kind not in KEPT:
            try:
                await client.delete(kind, name, namespace, propagation="Background")
            except NotFound:
                continue
    return [name for kind, name in found if kind in KEPT]


async def gone(client: Client, namespace: str) -> None:
    """Wait until a namespace that is being deleted is no more."""
    while True:
        listing = await client.list(kinds.NAMESPACES, fields=f"metadata.name={namespace}")
        if not listing.items:
            return
        watch = client.watch(
            kinds.NAMESPACES, since=listing.revision, fields=f"metadata.name={namespace}"
        )
        async for event in watch:
            if event.type == "DELETED":
                await watch.aclose()
                return


async def _check_ports(client: Client, name: str, objects: Sequence[Object]) -> None:
    """Every node answers a published port, so it can be published only once in a cluster."""
    wanted = _published(obj for obj in objects if obj["kind"] == "Service")
    if not wanted:
        return
    others = (await client.list(kinds.SERVICES)).items
    taken = _published(obj for obj in others if obj["metadata"]["namespace"] != name)
    for number, protocol in sorted(wanted.keys() & taken.keys()):
        raise PortTaken(
            f"port {number}/{protocol.lower()} of {wanted[number, protocol]['name']} is taken: "
            f"{taken[number, protocol]['namespace']} publishes it already"
        )


def _published(services: Iterable[Object]) -> dict[tuple[int, str], Object]:
    """The ports that all nodes answer, with the metadata of the Services behind them."""
    return {
        (port["port"], port.get("protocol", "TCP")): service["metadata"]
        for service in services
        if service["spec"].get("type") == "LoadBalancer"
        for port in service["spec"]["ports"]
    }


async def _existing(client: Client, namespace: str) -> Existing:
    selector = f"{STACK}={namespace}"
    listings = [await client.list(kind, namespace, labels=selector) for kind in STAGES]
    return {
        (kind, obj["metadata"]["name"]): obj
        for kind, listing in zip(STAGES, listings, strict=True)
        for obj in listing.items
    }


async def _put(client: Client, kind: Kind, wanted: Object, live: Object | None) -> None:
    namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
    if live and kind is kinds.SERVICES and _headless(live) != _headless(wanted):
        await client.delete(kind, name, namespace)  # the one change that Kubernetes refuses
        live = None
    if live is None:
        await _create(client, kind, wanted)
    elif kind not in _VERSIONED and (patch := difference(wanted, live)):
        await client.patch(kind, name, patch, namespace)


def _headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


async def _create(client: Client, kind: Kind, wanted: Object) -> None:
    try:
        await client.create(kind, wanted if kind in _VERSIONED else remembering(wanted))
    except AlreadyExists:
        metadata = wanted["metadata"]
        raise Conflict(
            f"the {kind.singular} {metadata['name']} exists in the namespace "
            f"{metadata['namespace']}, and is not of this stack: remove it, or rename the service"
        ) from None


def remembering(wanted: Object) -> Object:
    """Write into *wanted* what is applied, for the next time."""
    metadata = wanted["metadata"]
    annotations = metadata.get("annotations", {}) | {APPLIED: _text(wanted)}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def _text(wanted: Object) -> str:
    metadata = {k: v for k, v in wanted["metadata"].items() if k in {"labels", "annotations"}}
    kept = {"metadata": metadata, "spec": wanted["spec"]}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()


def difference(wanted: Object, live: Object) -> Object:
    """Return the merge patch from *live* to *wanted*, by way of what was applied last."""
    annotations = live["metadata"].get("annotations") or {}
    last = orjson.loads(annotations.get(APPLIED, "{}"))
    target = {"metadata": {**remembering(wanted)["metadata"]}, "spec": wanted["spec"]}
    return _difference(last, target, live)


def _difference(last: Object, wanted: Object, live: Object) -> Object:
    patch: Object = {key: None for key in last if key not in wanted and key in live}
    for key, value in wanted.items():
        have, had = live.get(key), last.get(key)
        if isinstance(value, dict) and isinstance(have, dict):
            if inner := _difference(had if isinstance(had, dict) else {}, value, have):
                patch[key] = inner
        elif not _covers(have, value) or (isinstance(value, list) and had != value):
            patch[key] = value
    return patch


def _covers(have: Any, wanted: Any) -> bool:
    """Whether *have* is *wanted*, apart from what the server has filled in."""
    if isinstance(wanted, dict) and isinstance(have, dict):
        return all(key in have and _covers(have[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(have, list):
        return len(have) == len(wanted) and all(map(_covers, have, wanted))
    return bool(have == wanted)


async def _prune(client: Client, namespace: str, surplus: Iterable[tuple[Kind, str]]) -> None:
    """Delete *surplus*, except what an older revision needs that one may roll back to."""
    needed = b""
    if any(kind in _VERSIONED for kind, _ in surplus):
        sets = await client.list(kinds.REPLICA_SETS, namespace)
        needed = b"".join(orjson.dumps(each["spec"]) for each in sets.items)
    for kind, name in surplus:
        if kind in _VERSIONED and f'"{name}"'.encode() in needed:
            continue
        try:
            await client.delete(kind, name, namespace, propagation="Background")
        except NotFound:
            continue
