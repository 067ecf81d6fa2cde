"""Carry out what a plan asks for, and wait until the cache shows it.

Reading one's own writes is done here once, so no controller keeps "expectations": a key's next
plan is made only when the cache has seen everything that the last one wrote.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sampan.api.errors import ApiError, Conflict, NotFound
from sampan.api.kinds import BY_GVK, Kind
from sampan.api.objects import Object, OwnerReference, Resource
from sampan.api.time import parse_time
from sampan.client.cache import Cache
from sampan.client.interface import Client
from sampan.controllers.events import Recorder
from sampan.controllers.plan import (
    Alive,
    CopyContent,
    Create,
    Delete,
    DeleteAll,
    Failure,
    Finalize,
    Gone,
    Patch,
    Write,
)
from sampan.controllers.views import content_digest

FIRST_BATCH: Final = 16
"""How many writes of a plan go out at once; each batch that succeeds doubles the next."""


@dataclass(slots=True)
class Outcome:
    """What became of a plan: the revisions it made by kind, what it deleted, and a failure."""

    revisions: dict[Kind, int] = field(default_factory=dict)
    deleted: list[Resource] = field(default_factory=list)
    failure: Failure | None = None

    def wrote(self, kind: Kind, obj: Object) -> None:
        revision = int(obj["metadata"]["resourceVersion"])
        self.revisions[kind] = max(self.revisions.get(kind, 0), revision)


class Writer:
    """Makes writes through *client*; *views* says what the cache follows of each kind."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        views: Mapping[Kind, type[Resource]],
        recorder: Recorder,
    ) -> None:
        self._client = client
        self._cache = cache
        self._views = dict(views)
        self._recorder = recorder

    def follow(self, view: type[Resource]) -> None:
        """Know one more *view*, of a custom resource."""
        self._views[view.KIND] = view

    async def carry_out(self, writes: Sequence[Write], source: str) -> Outcome:
        """Make all *writes*, in growing batches; a batch with a failure is the last."""
        outcome = Outcome()
        start, size = 0, FIRST_BATCH
        while start < len(writes) and not outcome.failure:
            async with asyncio.TaskGroup() as group:
                for write in writes[start : start + size]:
                    group.create_task(self._attempt(write, source, outcome))
            start, size = start + size, size * 2
        return outcome

    async def seen(self, outcome: Outcome) -> None:
        """Wait until the cache shows everything that was written."""
        for kind, revision in outcome.revisions.items():
            if view := self._views.get(kind):
                await self._cache.seen(view, revision)
        for obj in outcome.deleted:
            await self._going(obj)

    async def _going(self, obj: Resource) -> None:
        view = self._views.get(obj.KIND)
        meta = obj.metadata
        while view:
            now = self._cache.get(view, meta.namespace, meta.name)
            if now is None or now.metadata.uid != meta.uid or now.metadata.deleting:
                return
            await self._cache.seen(view, self._cache.revision(view) + 1)

    async def _attempt(self, write: Write, source: str, outcome: Outcome) -> None:
        try:
            await self._write(write, source, outcome)
        except ApiError as error:
            outcome.failure = outcome.failure or Failure(write, error)

    async def _write(self, write: Write, source: str, outcome: Outcome) -> None:
        match write:
            case Create(kind, body, done):
                made = await self._client.create(kind, body)
                outcome.wrote(kind, made)
                name = made["metadata"]["name"]
            case Delete(obj, _, _, _, done):
                name = obj.metadata.name
                if not await self._delete(write, outcome):
                    return
            case Patch(obj, _, _, _, _, done):
                name = obj.metadata.name
                if not await self._patch(write, outcome):
                    return
            case DeleteAll() | Finalize():
                await self._sweep(write, outcome)
                return
            case CopyContent(_, name, _, _, done):
                if not await self._copy(write, outcome):
                    return
        if done:
            self._recorder.record(done, source, name=name)

    async def _delete(self, write: Delete, outcome: Outcome) -> bool:
        """Delete; False if an owner turned up alive, or the object was gone already."""
        obj, meta = write.obj, write.obj.metadata
        if write.given and not await self._gone(write.given, meta.namespace):
            return False
        gone = False
        try:
            await self._client.delete(
                obj.KIND,
                meta.name,
                meta.namespace,
                uid=meta.uid,
                grace_seconds=write.grace_seconds,
                propagation=write.propagation,
            )
        except NotFound:
            gone = True
        outcome.deleted.append(obj)
        return not gone

    async def _patch(self, write: Patch, outcome: Outcome) -> bool:
        """Patch; False if the object is gone, or its owner is not as the plan took it to be."""
        obj, meta = write.obj, write.obj.metadata
        if write.given and not await self._holds(write.given, meta.namespace):
            return False
        try:
            made = await self._client.patch(
                obj.KIND,
                meta.name,
                write.patch,
                meta.namespace,
                subresource=write.subresource,
                how=write.how,
            )
        except NotFound:
            return False
        outcome.wrote(obj.KIND, made)
        return True

    async def _holds(self, given: Alive | Gone, namespace: str) -> bool:
        if isinstance(given, Alive):
            return await self._alive(given)
        return await self._gone(given, namespace)

    async def _alive(self, check: Alive) -> bool:
        meta = check.obj.metadata
        try:
            found = await self._client.get(check.obj.KIND, meta.name, meta.namespace)
        except NotFound:
            return False
        now = found["metadata"]
        return now["uid"] == meta.uid and not now.get("deletionTimestamp")

    async def _gone(self, check: Gone, namespace: str) -> bool:
        for owner in check.owners:
            kind = BY_GVK.get((owner.api_version, owner.kind)) or self._custom(owner)
            if kind is None:
                return False
            try:
                found = await self._client.get(
                    kind, owner.name, (check.namespace or namespace) if kind.namespaced else ""
                )
            except NotFound:
                continue
            if owner.uid in {"", found["metadata"]["uid"]}:
                return False
        return True

    async def _sweep(self, write: DeleteAll | Finalize, outcome: Outcome) -> None:
        if isinstance(write, Finalize):
            await self._finalize(write, outcome)
        else:
            await self._delete_all(write.kind, write.namespace, write.before)

    def _custom(self, owner: OwnerReference) -> Kind | None:
        group = owner.api_version.rpartition("/")[0]
        known = (kind for kind in reversed(self._views) if kind.group == group)
        return next((kind for kind in known if kind.kind == owner.kind), None)

    async def _delete_all(self, kind: Kind, namespace: str, before: datetime | None = None) -> None:
        for raw in (await self._client.list(kind, namespace)).items:
            if before and last_written(raw) >= before:
                continue
            try:
                await self._client.delete(kind, raw["metadata"]["name"], namespace)
            except NotFound:
                continue

    async def _copy(self, write: CopyContent, outcome: Outcome) -> bool:
        """Copy; False if either side is not as the plan saw it any more."""
        kind, namespace = write.source.KIND, write.source.metadata.namespace
        raw = await self._client.get(kind, write.source.metadata.name, namespace)
        if content_digest(raw) != write.source.digest:
            return False
        content: Object = {
            field: raw[field] for field in ("type", "data", "binaryData") if field in raw
        }
        if not write.instead_of:
            metadata = {**write.metadata, "name": write.name, "namespace": namespace}
            copy = {
                "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata,
                "immutable": True, **content,
            }  # fmt: skip
            outcome.wrote(kind, await self._client.create(kind, copy))
            return True
        held = await self._client.get(kind, write.name, namespace)
        if content_digest(held) != write.instead_of:
            return False
        kept = {k: v for k, v in held.items() if k not in {"data", "binaryData"}}
        outcome.wrote(kind, await self._client.update(kind, {**kept, **content}))
        return True

    async def _finalize(self, write: Finalize, outcome: Outcome) -> None:
        """Remove our finalizer from a Namespace that the API, too, knows to be empty."""
        name = write.obj.metadata.name
        for kind in write.swept:
            await self._delete_all(kind, name)
        for kind in (*write.kinds, *write.swept):
            with suppress(NotFound):  # a kind that is no longer defined
                if left := (await self._client.list(kind, name)).items:
                    raise Conflict(f"namespace {name} still has {len(left)} {kind.resource}")
        raw = await self._client.get(write.obj.KIND, name)
        spec = {**(raw.get("spec") or {}), "finalizers": list(write.finalizers)}
        await self._client.update(write.obj.KIND, {**raw, "spec": spec}, subresource="finalize")
        outcome.deleted.append(write.obj)


def last_written(event: Object) -> datetime:
    """Return when an Event, old or new style, was last told of; for others, when it was made."""
    told = (event.get("series") or {}).get("lastObservedTime")
    told = told or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(told or event["metadata"]["creationTimestamp"])
