"""Writes: decide on what is there, compare and set, and again if somebody was faster.

Everything that decides is pure and elsewhere; here is the order of the steps, and the shell around
the store. A write based on the newest state is simply tried again; one that its client based on a
resourceVersion fails at the check of that version.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from sampan.api.errors import AlreadyExists, ApiError, Cause, Conflict, NotFound
from sampan.api.kinds import DEFINITIONS, NAMESPACES, Kind
from sampan.api.objects import Object
from sampan.apiserver import allocation, defaults, deletion, metadata, schemas, strategy, validation
from sampan.apiserver.admission import Admission, Attempt, rules
from sampan.apiserver.admission.attempt import delete_options
from sampan.apiserver.admission.usage import QUOTAS
from sampan.apiserver.allocation import Allocator, Holding, Refused, holding
from sampan.apiserver.custom import definition
from sampan.apiserver.custom.kind import CustomKind
from sampan.apiserver.decoding import copied, decoded
from sampan.apiserver.entries import Answer, encode
from sampan.apiserver.identity import CONTROL_PLANE
from sampan.apiserver.interface import Call, DeleteOptions, Entry, Written
from sampan.apiserver.patches import managed
from sampan.apiserver.problems import (
    already_exists,
    conflict,
    details,
    forbidden,
    invalid,
    not_found,
)
from sampan.apiserver.reading import Reader
from sampan.apiserver.subresources import SCALE, scale_of, scaled
from sampan.store.interface import ABSENT

Make = Callable[[Object], Object]
Clock = Callable[[], datetime]

_TRIES: Final = 16
_ADMITTED_BEFORE: Final = frozenset({"binding"})
"""Subresources whose posted object was admitted before it came here."""
_CREATED_BY_UPDATE: Final = frozenset({
    "leases.coordination.k8s.io", "services", "endpoints", "events", "limitranges",
    "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
})  # fmt: skip


class Writer:
    def __init__(
        self, reader: Reader, admission: Admission, allocator: Allocator, clock: Clock
    ) -> None:
        self._reader = reader
        self._store = reader.store
        self._entries = reader.entries
        self._admission = admission
        self._allocator = allocator
        self._clock = clock
        self._ledger = admission.ledger

    async def create(self, kind: Kind, namespace: str, obj: Object, call: Call) -> Entry:
        copy = decoded(kind, obj, call)
        if copy["metadata"].get("name") or not copy["metadata"].get("generateName"):
            return await self._create(kind, namespace, copy, call)
        for _ in range(_TRIES):
            with suppress(AlreadyExists):
                return await self._create(kind, namespace, copied(copy, nulls=True), call)
        raise already_exists(kind, copy["metadata"]["generateName"])

    async def furnish(self, kind: Kind, namespace: str, obj: Object) -> Entry:
        """Create an object of our own making, which needs no schema to be trusted."""
        whole = {"kind": kind.kind, "apiVersion": kind.api_version, **copied(obj)}
        return await self._create(kind, namespace, whole, Call(), trusted=True)

    async def _create(
        self, kind: Kind, namespace: str, obj: Object, call: Call, *, trusted: bool = False
    ) -> Entry:
        if isinstance(kind, CustomKind):
            kind.check_alive("create")
        name = metadata.named(kind, namespace, obj)
        defaults.apply(kind, obj)
        attempt = Attempt(kind, "CREATE", namespace, name, call, obj, trusted=trusted)
        await self._admission.complete(attempt)
        obj = attempt.new
        strategy.prepare_create(kind, obj, call.user)
        if causes := [] if trusted else _broken(kind, obj):
            raise invalid(kind, name, causes)
        metadata.born(kind, obj, self._clock())
        strategy.finish_create(kind, obj)
        attempt.object = obj
        if not trusted:
            await self._admission.check(attempt)
        if not managed.sound(obj):
            obj["metadata"].pop("managedFields", None)
            managed.created(kind, obj, _manager(call), self._clock())
        with await self._charged(attempt):
            if call.dry_run:
                self._allocator.release(self._assign(kind, obj, None))
                return Answer(0, obj)
            entry, unsettled = await self._add(kind, namespace, obj)
        if unsettled:
            await self._ledger.settle(kind, namespace, self._put_status)
        return entry

    async def _add(self, kind: Kind, namespace: str, obj: Object) -> tuple[Entry, bool]:
        """Write a new object; say as well whether quotas are to be settled."""
        name = obj["metadata"]["name"]
        taken = self._assign(kind, obj, None)
        try:
            entry = await self._keep(kind, kind.key(namespace, name), obj, ABSENT)
        except Conflict:
            self._allocator.release(taken)
            raise already_exists(kind, name) from None
        except ApiError:
            self._allocator.release(taken)
            raise
        return entry, self._ledger.record(kind, obj, entry.revision)

    async def _keep(self, kind: Kind, key: str, obj: Object, expect: int) -> Entry:
        """Store *obj*, in the version that its kind is kept in."""
        stored, kept = kind, obj
        if isinstance(kind, CustomKind):
            stored, kept = kind.stored, await self._reader.converter.kept(kind, obj)
            if expect == ABSENT:
                kind.check_alive("create")
        value = encode(stored, kept)
        revision = await self._store.write(key, value, expect=expect)
        entry = self._entries.made(stored, key, revision, value, kept)
        if kept is obj:
            return entry
        meta = {**obj["metadata"], "resourceVersion": str(revision)}
        return Answer(revision, {**obj, "metadata": meta})

    async def update(
        self, kind: Kind, namespace: str, name: str, obj: Object, call: Call, subresource: str
    ) -> Written:
        copy = decoded(kind, obj, call)
        metadata.check_identity(kind, namespace, name, copy)
        meta = copy["metadata"]

        def make(old: Object) -> Object:
            metadata.check_preconditions(
                kind, old, meta.get("uid"), meta.get("resourceVersion"), subresource
            )
            return copied(copy, nulls=isinstance(kind, CustomKind))  # type: ignore[no-any-return]

        insists = meta.get("resourceVersion") not in metadata.NO_VERSION
        creates = not subresource and not insists and _may_create(kind)
        if creates and not await self._reader.exists(kind, namespace, name):
            return Written(await self.create(kind, namespace, copy, call), created=True)
        return await self.alter(kind, namespace, name, make, call, subresource)

    async def alter(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        make: Make,
        call: Call,
        subresource: str = "",
        *,
        track: bool = True,
        trusted: bool = False,
    ) -> Written:
        """Replace an object by what *make* makes of it: an own copy, or parts of what it got.

        Without *track* the new object already says who owns its fields. What users set up cannot
        hinder what is *trusted*.
        """
        for _ in range(_TRIES):
            found = await self._reader.find(kind, namespace, name)
            if found is None:
                raise not_found(kind, name)
            old = found.object
            attempt = Attempt(
                kind, "UPDATE", namespace, name, call, make(old), old, subresource,
                trusted=trusted,
            )  # fmt: skip
            new = attempt.object = await self._admitted(attempt, old)
            if _same(old, new):
                return Written(found)
            if track:
                new = managed.updated(kind, old, new, _manager(call), subresource, self._clock())
            with suppress(Conflict):
                with await self._charged(attempt):
                    entry, unsettled = await self._change(found, new, kind, call)
                if unsettled:
                    await self._ledger.settle(kind, namespace, self._put_status)
                return Written(entry)
        raise conflict(kind, name, subresource=subresource)

    async def _admitted(self, attempt: Attempt, old: Object) -> Object:
        """What an update makes of *old*, once admission has completed and checked it."""
        kind, subresource = attempt.kind, attempt.subresource
        if subresource in _ADMITTED_BEFORE:
            return prepared(kind, old, attempt.new, subresource)
        if subresource == "scale":
            return await self._admitted_scale(attempt, old)
        await self._admission.complete(attempt)
        new = attempt.object = prepared(kind, old, attempt.new, subresource)
        await self._admission.check(attempt)
        return new

    async def _admitted_scale(self, attempt: Attempt, old: Object) -> Object:
        """The same where admission is shown the Scale, not what it is a part of."""
        kind, proposed = attempt.kind, attempt.new
        seen = replace(attempt, shown_kind=SCALE, old=scale_of(kind, old),
                       object=scale_of(kind, proposed))  # fmt: skip
        await self._admission.complete(seen)
        new = prepared(kind, old, scaled(kind, proposed, seen.new), attempt.subresource)
        seen.object = scale_of(kind, new)
        await self._admission.check(seen)
        return new

    async def admit(self, attempt: Attempt) -> None:
        """Let admission complete and check what is posted to a subresource, or connects to it."""
        await self._admission.complete(attempt)
        await self._admission.check(attempt)

    async def _charged(self, attempt: Attempt) -> AbstractContextManager[None]:
        return nullcontext() if attempt.trusted else await self._ledger.charged(attempt)

    async def _change(
        self, found: Entry, new: Object, kind: Kind, call: Call
    ) -> tuple[Entry, bool]:
        """Put *new* in the place of what was *found*; say whether quotas are to be settled."""
        taken = self._assign(kind, new, found.object)
        if call.dry_run:
            self._allocator.release(taken)
            return Answer(found.revision, new), False
        try:
            return await self._put(kind, found.revision, found.object, new)
        except ApiError:
            self._allocator.release(taken)
            raise

    async def _put(self, kind: Kind, expect: int, old: Object, new: Object) -> tuple[Entry, bool]:
        meta = new["metadata"]
        key = kind.key(meta.get("namespace", ""), meta["name"])
        if metadata.gone_with_update(new):
            revision = await self._store.write(key, None, expect=expect)
            self._entries.forget(key, revision)
            self._release(kind, old)
            shown = {**new, "metadata": {**meta, "resourceVersion": str(revision)}}
            return Answer(revision, shown), self._ledger.record(kind, old, revision, gone=True)
        entry = await self._keep(kind, key, {**new, "metadata": {**meta}}, expect)
        self._release(kind, old, new)
        return entry, self._ledger.record(kind, new, entry.revision)

    async def settle(self) -> None:
        """Bring the status of all quotas up to date."""
        for quota in await self._reader.all(QUOTAS):
            await self._ledger.settle(QUOTAS, quota["metadata"]["namespace"], self._put_status)

    async def _put_status(self, quota: Object, make: Make) -> None:
        meta = quota["metadata"]
        with suppress(NotFound, Conflict):
            await self.alter(
                QUOTAS, meta["namespace"], meta["name"], make, Call(), "status", trusted=True
            )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: DeleteOptions,
        call: Call,
        *,
        trusted: bool = False,
    ) -> Object:
        """Delete an object, or begin to; what users set up cannot hinder what is *trusted*."""
        if kind == NAMESPACES and name in deletion.UNDELETABLE:
            raise forbidden(kind, name, "this namespace may not be deleted")
        for _ in range(_TRIES):
            found = await self._reader.find(kind, namespace, name)
            if found is None:
                raise not_found(kind, name)
            old = found.object
            metadata.check_delete_preconditions(kind, old, options.uid, options.revision)
            attempt = Attempt(kind, "DELETE", namespace, name, call, None, old, trusted=trusted)
            attempt.options = delete_options(options)
            await self._admission.complete(attempt)
            await self._admission.check(attempt)
            verdict = deletion.decide(kind, old, options, self._clock())
            if isinstance(verdict, deletion.Keep):
                return old
            with suppress(Conflict):
                if isinstance(verdict, deletion.Mark):
                    return await self._mark(kind, found, verdict.obj, call)
                await self._remove(kind, found, call)
                return _deleted(kind, old)
        raise conflict(kind, name)

    async def _mark(self, kind: Kind, found: Entry, marked: Object, call: Call) -> Object:
        if call.dry_run:
            return marked
        entry, unsettled = await self._put(kind, found.revision, found.object, marked)
        if unsettled:
            namespace = marked["metadata"].get("namespace", "")
            await self._ledger.settle(kind, namespace, self._put_status)
        return entry.object

    async def _remove(self, kind: Kind, found: Entry, call: Call) -> None:
        if call.dry_run:
            return
        old = found.object
        namespace = old["metadata"].get("namespace", "")
        key = kind.key(namespace, old["metadata"]["name"])
        revision = await self._store.write(key, None, expect=found.revision)
        self._entries.forget(key, revision)
        self._release(kind, old)
        if self._ledger.record(kind, old, revision, gone=True):
            await self._ledger.settle(kind, namespace, self._put_status)

    def _assign(self, kind: Kind, new: Object, old: Object | None) -> Holding:
        if kind.resource != "services":
            return Holding()
        try:
            return self._allocator.assign(new, old)
        except Refused as refused:
            raise invalid(kind, new["metadata"]["name"], [refused.cause]) from None

    def _release(self, kind: Kind, old: Object, new: Object | None = None) -> None:
        if kind.resource == "services":
            self._allocator.release(holding(old).without(holding(new)))


def prepared(kind: Kind, old: Object, proposed: Object, subresource: str) -> Object:
    """What an update that proposes *proposed* makes of *old*; raise Invalid if it may not."""
    if proposed["metadata"].get("managedFields") != old["metadata"].get("managedFields"):
        managed.keep_sound(old, proposed)
    if not subresource:
        metadata.carried_over(old, proposed)
    new = strategy.prepare_update(kind, old, proposed, subresource)
    custom = isinstance(kind, CustomKind)
    if custom or not subresource:
        new = copied(new, nulls=True) if subresource else new
        defaults.apply(kind, new)
    causes: list[Cause] = []
    if not subresource:
        if kind.resource == "services":
            allocation.carry_over(old, new)
        causes = validation.validate_update(kind, old, new)
    if custom or subresource in {"", "ephemeralcontainers", "resize"}:
        causes += _broken(kind, new, old)
    if causes:
        raise invalid(kind, old["metadata"]["name"], causes)
    if subresource != "binding":
        metadata.count_generation(kind, old, new)
    return new


def _broken(kind: Kind, obj: Object, old: Object | None = None) -> list[Cause]:
    """What is missing or wrong in a complete object, which follows *old*, each field once."""
    if isinstance(kind, CustomKind):
        causes = kind.version_.check(obj, old)
    else:
        causes = list(schemas.check(kind, obj).invalid)
    if kind == DEFINITIONS and not causes:
        causes += definition.validate(obj)
        causes += definition.validate_update(old, obj) if old else ()
    known = {cause.field for cause in causes}
    broken = [*validation.validate(kind, obj), *rules.validate(kind, obj)]
    return causes + [cause for cause in broken if cause.field not in known]


def _same(old: Object, new: Object) -> bool:
    version = {"resourceVersion": old["metadata"]["resourceVersion"]}
    return {**new, "metadata": {**new["metadata"], **version}} == old


def _manager(call: Call) -> str:
    """Who a write is told to be by; the control plane's own writes are told apart by nothing."""
    return "" if call.user is CONTROL_PLANE else call.manager or "unknown"


def _may_create(kind: Kind) -> bool:
    return kind.resource in _CREATED_BY_UPDATE


def _deleted(kind: Kind, old: Object) -> Object:
    about = {**details(kind, old["metadata"]["name"]), "uid": old["metadata"]["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": about,
    }
