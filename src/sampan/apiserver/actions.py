"""The shell around subresources that read or write more than their own object."""

from collections.abc import Callable, Sequence
from typing import Any

from sampan.api import kinds
from sampan.api.errors import BadRequest, NotFound, TooManyRequests
from sampan.api.kinds import Kind
from sampan.api.objects import Object
from sampan.apiserver import schemas, surge
from sampan.apiserver.admission import Attempt
from sampan.apiserver.decoding import decoded
from sampan.apiserver.entries import Answer
from sampan.apiserver.interface import Call, DeleteOptions, Entry, Place, Written
from sampan.apiserver.metadata import check_delete_preconditions, check_preconditions
from sampan.apiserver.patches import json_patch, merge, strategic
from sampan.apiserver.problems import not_found
from sampan.apiserver.reading import Reader
from sampan.apiserver.subresources import (
    BINDING,
    BUDGETS,
    EVICTION,
    SCALE,
    bound,
    budget_for,
    disrupted,
    scale_of,
    scaled,
)
from sampan.apiserver.writing import Clock, Writer
from sampan.client.interface import PatchType


class Actions:
    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def post(self, place: Place, obj: Object, call: Call) -> Entry:
        """Carry out a posted Binding or Eviction; the answer is a Status of success."""
        if place.kind == BINDING:
            obj = decoded(BINDING, obj, call)
            name = obj["metadata"].get("name") or ""
            place = Place(kinds.PODS, place.namespace, name, "binding")
        match place.kind.resource, place.subresource:
            case "pods", "binding":
                return await self._bind(place, obj, call)
            case "pods", "eviction":
                return await self._evict(place, obj, call)
        raise NotFound(f"nothing can be posted to {place.kind.resource}/{place.subresource}")

    async def _bind(self, place: Place, obj: Object, call: Call) -> Entry:
        binding = await self._admitted(place, BINDING, decoded(BINDING, obj, call), call)
        now = self._clock()
        written = await self._writer.alter(
            kinds.PODS,
            place.namespace,
            place.name,
            lambda pod: bound(pod, binding, now),
            call,
            "binding",
        )
        return _success(written.entry.revision)

    async def _evict(self, place: Place, obj: Object, call: Call) -> Entry:
        found = await self._reader.find(kinds.PODS, place.namespace, place.name)
        if found is None:
            raise not_found(kinds.PODS, place.name)
        eviction = await self._admitted(place, EVICTION, decoded(EVICTION, obj, call), call)
        options = _delete_options(eviction.get("deleteOptions") or {})
        coming = await self._start_replacement(place, found.object, options, call)
        try:
            await self._spend_budget(place, found.object, call)
        except TooManyRequests as refusal:
            raise surge.after_all(refusal, found.object, coming) from None
        await self._writer.delete(kinds.PODS, place.namespace, place.name, options, call)
        return _success(found.revision)

    async def _admitted(self, place: Place, kind: Kind, posted: Object, call: Call) -> Object:
        attempt = Attempt(
            place.kind, "CREATE", place.namespace, place.name, call, posted,
            subresource=place.subresource, shown_kind=kind,
        )  # fmt: skip
        await self._writer.admit(attempt)
        return attempt.new

    async def connect(self, place: Place, options: Object, call: Call) -> None:
        """Let admission look at a connection to a subresource, which *options* describe."""
        shown = Kind("", "v1", options["kind"], options["kind"].lower())
        attempt = Attempt(
            place.kind, "CONNECT", place.namespace, place.name, call, options,
            subresource=place.subresource, shown_kind=shown,
        )  # fmt: skip
        await self._writer.admit(attempt)

    async def _spend_budget(self, place: Place, pod: Object, call: Call) -> None:
        budgets = await self._reader.all(BUDGETS, place.namespace)
        if budget := budget_for(pod, budgets):
            now = self._clock()
            await self._writer.alter(
                BUDGETS,
                place.namespace,
                budget["metadata"]["name"],
                lambda old: disrupted(old, place.name, now),
                call,
                "status",
            )

    async def _start_replacement(
        self, place: Place, pod: Object, options: DeleteOptions, call: Call
    ) -> Sequence[Object]:
        """Have a replica that serves replaced, and say so by TooManyRequests.

        Return, if there is nothing to wait for (any more), the other Pods of its namespace that
        may tell why.
        """
        if call.dry_run or not surge.is_serving(pod):
            return ()
        replicas = await self._owner(kinds.REPLICA_SETS, pod)
        deployment = await self._owner(kinds.DEPLOYMENTS, replicas) if replicas else None
        if not surge.surges(pod, replicas, deployment):
            return ()
        siblings = await self._reader.all(kinds.PODS, place.namespace)
        now = self._clock()
        if surge.overdue(pod, siblings, now):
            return siblings

        def mark(old: Object) -> Object:
            check_delete_preconditions(kinds.PODS, old, options.uid, options.revision)
            return surge.marked(old, options.grace_seconds, now)

        await self._writer.alter(kinds.PODS, place.namespace, place.name, mark, call)
        raise surge.not_yet(pod, siblings)

    async def _owner(self, kind: Kind, obj: Object) -> Object | None:
        """The controller of *obj*, if it is of *kind* and still there."""
        owner = surge.controller(obj)
        if owner.get("kind") != kind.kind:
            return None
        found = await self._reader.find(kind, obj["metadata"]["namespace"], owner["name"])
        return found.object if found else None

    async def scale(self, place: Place, make: Callable[[Object], Object], call: Call) -> Written:
        """Give the object at *place* the replicas of the Scale that *make* makes of its own."""

        def altered(old: Object) -> Object:
            scale = make(scale_of(place.kind, old))
            given = scale.get("metadata") or {}
            check_preconditions(place.kind, old, given.get("uid"), given.get("resourceVersion"))
            return scaled(place.kind, old, scale)

        written = await self._writer.alter(
            place.kind, place.namespace, place.name, altered, call, "scale"
        )
        return Written(Answer(written.entry.revision, scale_of(place.kind, written.entry.object)))

    async def patch_scale(self, place: Place, patch: Any, how: PatchType, call: Call) -> Written:
        def make(scale: Object) -> Object:
            match how:
                case PatchType.JSON:
                    new = json_patch.apply(scale, patch)
                case PatchType.STRATEGIC:
                    schema = schemas.types()[schemas.type_name(SCALE) or ""]
                    new = strategic.apply(scale, patch, schema)
                case _:
                    new = merge.apply(scale, patch)
            return decoded(SCALE, new, call)

        return await self.scale(place, make, call)


def _delete_options(raw: Object) -> DeleteOptions:
    conditions = raw.get("preconditions") or {}
    policy = raw.get("propagationPolicy")
    if policy not in (None, "Background", "Foreground", "Orphan"):
        raise BadRequest(f"propagationPolicy {policy!r} is not Background, Foreground or Orphan")
    return DeleteOptions(
        uid=conditions.get("uid"),
        revision=conditions.get("resourceVersion"),
        grace_seconds=raw.get("gracePeriodSeconds"),
        propagation=policy,
    )


def _success(revision: int) -> Entry:
    return Answer(
        revision,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(revision)},
            "status": "Success",
            "code": 201,
        },
    )
