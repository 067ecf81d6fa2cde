# ruff: noqa: ARG002 - the signatures are those of the Client protocol
"""A Kubernetes API in a dictionary: enough of its rules for controllers, and faults on demand."""

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sampan.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.api.time import timestamp
from sampan.client.interface import Listing, PatchType, WatchEvent

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MERGE_KEYS = {"conditions": "type", "ownerReferences": "uid"}
Fault = Callable[[str, Kind], ApiError | None]


def no_fault(_verb: str, _kind: Kind) -> ApiError | None:
    return None


class MemoryApi:
    """Watches deliver *lag* seconds late; *fault* may refuse any write."""

    def __init__(self, *, lag: float = 0.0) -> None:
        self.objects: dict[Kind, dict[tuple[str, str], Object]] = defaultdict(dict)
        self.log: list[tuple[str, Kind, str]] = []
        self.fault: Fault = no_fault
        self.lag = lag
        self._history: dict[Kind, list[WatchEvent]] = defaultdict(list)
        self._changed: dict[Kind, asyncio.Event] = defaultdict(asyncio.Event)
        self._revision = 0
        self._serial = itertools.count(1)

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def of(self, kind: Kind, namespace: str = "") -> list[Object]:
        held = self.objects[kind].items()
        return [obj for (space, _), obj in held if not namespace or space == namespace]

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        await asyncio.sleep(0)
        return self._held(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing:
        await asyncio.sleep(0)
        return Listing(self.of(kind, namespace), str(self._revision))

    async def watch(
        self, kind: Kind, namespace: str = "", *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        position = 0
        while True:
            history = self._history[kind]
            while position < len(history):
                event = history[position]
                position += 1
                if int(event.object["metadata"]["resourceVersion"]) > int(since):
                    if self.lag:
                        await asyncio.sleep(self.lag)
                    yield event
            await self._changed[kind].wait()

    async def create(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        await self._enter("create", kind)
        meta = dict(obj["metadata"])
        if not meta.get("name"):
            meta["name"] = f"{meta['generateName']}{next(self._serial):05d}"
        key = (meta.get("namespace", ""), meta["name"])
        if key in self.objects[kind]:
            raise AlreadyExists(f'{kind.resource} "{meta["name"]}" already exists')
        meta |= {
            "uid": f"uid-{next(self._serial)}",
            "creationTimestamp": timestamp(self.now()),
            "generation": 1,
        }
        return self._put("ADDED", kind, {**obj, "metadata": meta})

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        await self._enter("update", kind)
        return self._store(kind, json.loads(json.dumps(obj)))

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Object | Sequence[Object],
        namespace: str = "",
        *,
        subresource: str = "",
        how: PatchType = PatchType.MERGE,
    ) -> Object:
        await self._enter("patch", kind)
        old = self._held(kind, namespace, name)
        assert isinstance(patch, dict)
        wanted = patch.get("metadata") or {}
        for field in ("uid", "resourceVersion"):
            if field in wanted and wanted[field] != old["metadata"][field]:
                raise Conflict(f"{kind.resource} {name}: {field} is {old['metadata'][field]}")
        new = merged(old, patch, strategic=how is PatchType.STRATEGIC)
        if json.dumps(new.get("spec")) != json.dumps(old.get("spec")):
            meta = new["metadata"]
            new["metadata"] = {**meta, "generation": meta["generation"] + 1}
        return self._store(kind, new) if new != old else old

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] | None = None,
    ) -> None:
        await self._enter("delete", kind)
        old = self._held(kind, namespace, name)
        if uid and old["metadata"]["uid"] != uid:
            raise Conflict(f"{kind.resource} {name}: another uid")
        meta = dict(old["metadata"])
        finalizer = {"Foreground": ["foregroundDeletion"], "Orphan": ["orphan"]}
        meta["finalizers"] = [*meta.get("finalizers", []), *finalizer.get(propagation or "", [])]
        runs = kind.kind == "Pod" and (old.get("spec") or {}).get("nodeName") and grace_seconds != 0
        if kind.kind == "Pod":
            meta["deletionGracePeriodSeconds"] = 30 if runs else 0
        if runs or meta["finalizers"] or (old.get("spec") or {}).get("finalizers"):
            meta["deletionTimestamp"] = meta.get("deletionTimestamp") or timestamp(self.now())
            self._put("MODIFIED", kind, {**old, "metadata": meta})
        else:
            self._remove(kind, old)

    def gone(self, kind: Kind, obj: Object) -> None:
        """Let an object vanish, as when an agent has stopped a Pod; finalizers still hold it."""
        meta = obj["metadata"]
        if not meta.get("finalizers"):
            self._remove(kind, obj)
        elif meta.get("deletionGracePeriodSeconds"):
            self._put(
                "MODIFIED", kind, {**obj, "metadata": {**meta, "deletionGracePeriodSeconds": 0}}
            )

    def _store(self, kind: Kind, new: Object) -> Object:
        meta = new["metadata"]
        held = meta.get("finalizers") or (new.get("spec") or {}).get("finalizers")
        stopped = kind.kind != "Pod" or meta.get("deletionGracePeriodSeconds") == 0
        if meta.get("deletionTimestamp") and not held and stopped:
            return self._remove(kind, new)
        return self._put("MODIFIED", kind, new)

    def _held(self, kind: Kind, namespace: str, name: str) -> Object:
        if found := self.objects[kind].get((namespace, name)):
            return found
        raise NotFound(f'{kind.resource} "{name}" not found')

    async def _enter(self, verb: str, kind: Kind) -> None:
        await asyncio.sleep(0)
        if error := self.fault(verb, kind):
            raise error

    def _put(self, event: Literal["ADDED", "MODIFIED"], kind: Kind, obj: Object) -> Object:
        stamped = self._publish(event, kind, obj)
        meta = stamped["metadata"]
        self.objects[kind][meta.get("namespace", ""), meta["name"]] = stamped
        return stamped

    def _remove(self, kind: Kind, obj: Object) -> Object:
        meta = obj["metadata"]
        self.objects[kind].pop((meta.get("namespace", ""), meta["name"]), None)
        return self._publish("DELETED", kind, obj)

    def _publish(
        self, event: Literal["ADDED", "MODIFIED", "DELETED"], kind: Kind, obj: Object
    ) -> Object:
        self._revision += 1
        stamped = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._revision)}}
        self._history[kind].append(WatchEvent(event, stamped))
        self.log.append((event, kind, obj["metadata"]["name"]))
        self._changed[kind].set()
        self._changed[kind] = asyncio.Event()
        return stamped


def merged(old: Any, patch: Any, *, strategic: bool) -> Any:
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif strategic and key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            new[field] = [item for item in new.get(field, ()) if item not in value]
        elif strategic and key == "finalizers":
            new[key] = [*new.get(key, ()), *(item for item in value if item not in new[key])]
        elif strategic and key in MERGE_KEYS:
            new[key] = _merged_list(new.get(key) or [], value, MERGE_KEYS[key])
        else:
            new[key] = merged(new.get(key), value, strategic=strategic)
    return new


def _merged_list(old: list[Object], patch: list[Object], by: str) -> list[Object]:
    items = {item[by]: item for item in old}
    for item in patch:
        if item.get("$patch") == "delete":
            items.pop(item[by], None)
        else:
            items[item[by]] = {**items.get(item[by], {}), **item}
    return list(items.values())
